"""The hand-written NumPy layers as a backend: a problem comes in, the gradients of their own backward passes go out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.core import Arithmetic, Array, NetworkSpec, NodeTrace, Outcome, Problem
from harness.floats import FloatFormat, find_format, is_float
from reference_layers import Network, Node, Stored


@dataclass(frozen=True)
class NumpyReference:
    """Runs the layers under test themselves.

    Networks in a narrow dtype compute in float32 and round at their edges; the `native` variant hands the layers narrow
    arrays instead, and shows where NumPy promotes them: a witness, and no more.
    """

    name: str = "numpy"
    framework: str = "numpy"
    variant: str = "layer"
    default: bool = True
    decides: bool = True
    arithmetic: Arithmetic = field(default_factory=lambda: Arithmetic(flushes=False))
    threads: str = "the BLAS library's, limited to one"

    def version(self) -> str:
        return np.__version__

    def rule(self, layer: Any) -> str:
        return self.variant

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> NumpyProgram | None:
        if self.variant == "native":
            return NumpyProgram(network, layers) if find_format(dtype).is_narrow else None
        return NumpyProgram(network, layers, find_format(dtype))


class NumpyProgram:
    """A graph of layer objects, made anew for each problem, since a layer may keep what it likes."""

    lifts = True  # the layers run unchanged in a higher precision

    def __init__(self, network: NetworkSpec, layers: Mapping[str, Any], kind: FloatFormat | None = None) -> None:
        self.network = network
        self.kind = kind if kind is not None and kind.is_narrow else None
        self.steps = [(node.name, layers[node.layer], node.inputs) for node in network.nodes]
        self.sorted: Network | None = None

    def run(self, problem: Problem) -> Outcome:
        graph = self.build(problem)
        start = time.perf_counter()
        y = graph.forward(problem.inputs)
        gradients = graph.backward(problem.dy)
        return Outcome("ok", y, {**graph.grads, **_wanted(gradients, problem)}, seconds=time.perf_counter() - start)

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace]:
        """Return what every node received and returned in a second pass, behind one over other numbers.

        A layer that keeps anything of a pass, its cache or its gradients, then differs from the single pass of `run`.
        """
        graph = self.build(problem)
        graph.forward({name: _another(value) for name, value in problem.inputs.items()})
        graph.backward(problem.dy)
        recorders = {node.name: Recorder(node.layer) for node in graph.nodes}
        recorded = Network(
            [Node(node.name, recorders[node.name], node.inputs) for node in graph.nodes], graph.inputs, graph.output
        )
        recorded.forward(problem.inputs)
        recorded.backward(problem.dy)
        return {name: recorder.trace() for name, recorder in recorders.items() if recorder.dy is not None}

    def phases(self, problem: Problem) -> dict[str, Callable[[], Any]]:
        """Return what is timed: forward, backward behind one forward pass, and both."""
        graph = self.build(problem)
        graph.forward(problem.inputs)
        return {
            "forward": lambda: graph.forward(problem.inputs),
            "backward": lambda: graph.backward(problem.dy),
            "forward+backward": lambda: (graph.forward(problem.inputs), graph.backward(problem.dy)),
        }

    def build(self, problem: Problem) -> Network:
        """Return the graph of layer objects with the problem's parameters; it is checked and sorted for the first one alone."""
        nodes = tuple([Node(name, self._make(kind, problem.params[name]), inputs) for name, kind, inputs in self.steps])
        if self.sorted is None:
            return self._sort(nodes)
        graph = copy(self.sorted)
        graph.nodes = nodes
        return graph

    def _make(self, kind: Any, params: Mapping[str, Array]) -> Any:
        """Return a fresh layer, in a narrow dtype one that computes in float32 between edges that are stored."""
        if self.kind is None:
            return kind(**params)
        wide = {name: value.astype(self.kind.compute, order="K") for name, value in params.items()}
        return Stored(kind(**wide), self.kind.dtype, self.kind.compute)

    def _sort(self, nodes: tuple[Node, ...]) -> Network:
        graph = Network(nodes, list(self.network.widths), self.network.output.name)
        steps = {step[0]: step for step in self.steps}
        self.steps = [steps[node.name] for node in graph.nodes]
        self.sorted = copy(graph)
        self.sorted.nodes = ()  # of this one everything but the layers is kept
        return graph


class Recorder:
    """A layer that hands everything on to another and keeps copies of what that one received and returned."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.inputs: tuple[Array, ...] = ()
        self.y: Any = None
        self.dy: Any = None
        self.dx: tuple[Any, ...] = ()
        self.broken: list[str] = []
        self.params = {name: np.array(value) for name, value in layer.params.items()}
        self.grads: dict[str, Array] = {}
        self.cache: tuple[Any, ...] = ()

    def forward(self, *inputs: Array) -> Array:
        self.inputs = tuple(np.array(value) for value in inputs)
        returned = self.layer.forward(*inputs)
        self.y = np.array(returned)
        self._hold(inputs, self.inputs, "forward changed its input")
        out: Array = returned
        return out

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Any:
        self.dy = np.array(dy)
        returned = self.layer.backward(dy)
        self.dx = tuple(
            None if value is None else np.array(value) for value in (returned if isinstance(returned, tuple) else (returned,))
        )
        self.grads = {name: np.array(value) for name, value in self.layer.grads.items()}
        self._hold((dy,), (self.dy,), "backward changed the upstream gradient")
        self._hold(tuple(self.layer.params.values()), tuple(self.params.values()), "a pass changed a parameter")
        return returned

    def trace(self) -> NodeTrace:
        dx = (*self.dx, *[None] * (len(self.inputs) - len(self.dx)))
        return NodeTrace(self.inputs, self.y, self.dy, dx, self.grads, "; ".join(self.broken))

    def _hold(self, now: tuple[Any, ...], before: tuple[Any, ...], broken: str) -> None:
        if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(now, before, strict=True)):
            self.broken.append(broken)


def _another(value: Array) -> Array:
    """Return other numbers in the same shape and dtype: floats of the other sign, integers in the other order."""
    other: Array = -value if is_float(value) else value[::-1]
    return other


def _wanted(gradients: Mapping[str, Array], problem: Problem) -> dict[str, Array]:
    return {name: value for name, value in gradients.items() if name not in problem.constants}


BACKENDS = (NumpyReference(), NumpyReference(name="numpy:native", variant="native", default=False, decides=False))
