"""PyTorch autograd as a backend: a problem comes in, the gradients of the formulas or of torch's own ops go out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from harness.array_api import Namespace, take_from
from harness.backends.graph import Casts, evaluate, has_native, name_gradients, pick_calls
from harness.core import Arithmetic, Array, NetworkSpec, NodeTrace, Outcome, Problem
from harness.floats import find_format


@dataclass(frozen=True)
class TorchAutograd:
    """Eager PyTorch: autograd over the formula, or over `torch.nn.functional` where a layer names an op."""

    name: str = "torch"
    variant: str = "formula"
    framework: str = "torch"
    default: bool = True
    decides: bool = True
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    threads: str = "torch.set_num_threads(1)"

    def version(self) -> str:
        return str(import_module("torch").__version__)

    def rule(self, layer: Any) -> str:
        return "native" if self.variant == "native" and "torch" in layer.native else "formula"

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> TorchProgram | None:
        if self.variant == "native" and not has_native(layers, network, "torch"):
            return None
        torch = import_module("torch")
        module = torch if self.variant == "native" else None
        return TorchProgram(network, pick_calls(network, layers, namespace(), "torch", module, _casts(torch, dtype)))


class TorchProgram:
    """One graph in eager PyTorch."""

    def __init__(self, network: NetworkSpec, call: Callable[..., Any]) -> None:
        self.network = network
        self.call = call
        self.torch = import_module("torch")

    def run(self, problem: Problem) -> Outcome:
        params, inputs, leaves = self._leaves(problem)
        dy = to_tensor(self.torch, problem.dy)
        start = time.perf_counter()
        y = evaluate(self.network, self.call, params, inputs)[self.network.output.name]
        gradients = self.torch.autograd.grad(y, list(leaves.values()), dy, allow_unused=True)
        seconds = time.perf_counter() - start
        named = {name: to_array(self.torch, value) for name, value in zip(leaves, gradients, strict=True) if value is not None}
        return Outcome("ok", to_array(self.torch, y), named, seconds=seconds)

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace]:
        """Tap every edge with a view, which changes no number, and differentiate with respect to the taps."""
        params, inputs, _ = self._leaves(problem)
        edges: dict[str, tuple[Any, ...]] = {}
        outputs: dict[str, Any] = {}

        def tapped(node: Any, group: Mapping[str, Any], *arguments: Any) -> Any:
            edges[node.name] = tuple(value.view_as(value) for value in arguments)
            outputs[node.name] = self.call(node, group, *edges[node.name])
            return outputs[node.name]

        y = evaluate(self.network, tapped, params, inputs)[self.network.output.name]
        taps = {(node, "y", 0): value for node, value in outputs.items()}
        taps |= {(node, "x", i): value for node, values in edges.items() for i, value in enumerate(values)}
        taps |= {(node, key, 0): value for node, group in params.items() for key, value in group.items()}
        wanted = {key: value for key, value in taps.items() if value.requires_grad}
        found = self.torch.autograd.grad(y, list(wanted.values()), to_tensor(self.torch, problem.dy), allow_unused=True)
        gradients = {key: to_array(self.torch, value) for key, value in zip(wanted, found, strict=True) if value is not None}
        values = {name: to_array(self.torch, value) for name, value in outputs.items()}
        received = {name: tuple(to_array(self.torch, value) for value in group) for name, group in edges.items()}
        return {name: _node_trace(name, received[name], values[name], params[name], gradients) for name in outputs}

    def phases(self, problem: Problem) -> dict[str, Callable[[], Any]]:
        """Return what is timed: forward with its graph recorded, backward through one recorded graph, and both."""
        params, inputs, leaves = self._leaves(problem)
        wanted, dy = list(leaves.values()), to_tensor(self.torch, problem.dy)

        def forward() -> Any:
            return evaluate(self.network, self.call, params, inputs)[self.network.output.name]

        def backward(y: Any, keep: bool) -> Any:
            return self.torch.autograd.grad(y, wanted, dy, retain_graph=keep, allow_unused=True)

        recorded = forward()
        return {
            "forward": forward,
            "backward": lambda: backward(recorded, keep=True),
            "forward+backward": lambda: backward(forward(), keep=False),
        }

    def _leaves(self, problem: Problem) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, Any]]:
        params = {node: {key: self._leaf(value) for key, value in group.items()} for node, group in problem.params.items()}
        inputs = {
            name: to_tensor(self.torch, value) if name in problem.constants else self._leaf(value)
            for name, value in problem.inputs.items()
        }
        leaves = name_gradients(params, {name: value for name, value in inputs.items() if name not in problem.constants})
        return params, inputs, leaves

    def _leaf(self, value: Array) -> Any:
        return to_tensor(self.torch, value).requires_grad_()


def to_tensor(torch: Any, value: Array) -> Any:
    """Return a tensor of the array's numbers with the array's memory layout, which `torch.tensor` alone would lose.

    torch does not know NumPy's bfloat16, but its bits.
    """
    if value.dtype == find_format("bfloat16").dtype:
        return to_tensor(torch, value.view(np.int16)).view(torch.bfloat16)
    if value.flags.c_contiguous:
        return torch.tensor(value)
    if value.flags.f_contiguous:
        return torch.tensor(value.T).T
    spaced = np.zeros([2 * size for size in value.shape], value.dtype)
    view = spaced[(slice(None, None, 2),) * value.ndim]
    view[...] = value
    return torch.from_numpy(view)


def to_array(torch: Any, tensor: Any) -> Array:
    """Return the tensor's numbers as a NumPy array of the same dtype and memory layout."""
    plain = tensor.detach()
    if plain.dtype != torch.bfloat16:
        out: Array = plain.numpy()
        return out
    bits: Array = plain.view(torch.int16).numpy()
    return bits.view(find_format("bfloat16").dtype)


def _casts(torch: Any, dtype: str) -> Casts | None:
    """Return how values are widened to float32 and rounded back in a narrow dtype, None in one that is computed in."""
    if not find_format(dtype).is_narrow:
        return None
    narrow = getattr(torch, dtype)
    return Casts(lambda value: value.float() if value.dtype == narrow else value, lambda value: value.to(narrow))


@cache
def namespace() -> Namespace:
    """Return torch's functions under their Array API names."""
    torch = import_module("array_api_compat.torch")
    return take_from(torch, erf=import_module("torch").erf)


def _node_trace(name: str, edges: Any, y: Any, params: Mapping[str, Any], gradients: Mapping[Any, Array]) -> NodeTrace:
    return NodeTrace(
        inputs=edges,
        y=y,
        dy=gradients[name, "y", 0],
        dx=tuple(gradients.get((name, "x", i)) for i in range(len(edges))),
        dparams={key: gradients[name, key, 0] for key in params if (name, key, 0) in gradients},
    )


BACKENDS = (TorchAutograd(), TorchAutograd(name="torch:native", variant="native"))
