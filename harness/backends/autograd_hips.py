"""HIPS autograd as a backend and the oracle's differentiator: a formula comes in, its gradients in any NumPy precision go out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.backends.graph import Casts, decide, evaluate, name_gradients, pick_calls, split_inputs
from harness.core import Arithmetic, Array, NetworkSpec, NodeTrace, Outcome, Problem
from harness.floats import FloatFormat, find_format, is_float


@dataclass(frozen=True)
class HipsAutograd:
    """Autograd over the formula in the case's own precision."""

    name: str = "autograd"
    variant: str = "formula"
    framework: str = "autograd"
    default: bool = True
    decides: bool = True
    arithmetic: Arithmetic = field(default_factory=lambda: Arithmetic(flushes=False))
    threads: str = "the BLAS library's, limited to one"

    def version(self) -> str:
        import_module("autograd")
        return version("autograd")

    def rule(self, layer: Any) -> str:
        return "formula"

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> AutogradProgram:
        return AutogradProgram(network, layers, find_format(dtype))


class AutogradProgram:
    """One graph of formulas."""

    def __init__(self, network: NetworkSpec, layers: Mapping[str, Any], kind: FloatFormat) -> None:
        self.network = network
        self.layers = layers
        self.kind = kind
        self.call = pick_calls(network, layers, make_autograd_namespace(), "autograd", None, _casts(kind))

    def run(self, problem: Problem) -> Outcome:
        decisions: dict[str, Array] = {}
        forward, leaves = self._function(problem, decisions)
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            y, gradients = differentiate(forward, leaves, problem.dy)
            y, named = self._narrow(y), {name: self._narrow(value) for name, value in name_gradients(*gradients).items()}
        seconds = time.perf_counter() - start
        return Outcome("ok", y, named, decisions, seconds=seconds)

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace] | None:
        return None

    def phases(self, problem: Problem) -> dict[str, Callable[[], Any]]:
        """Return what is timed: forward with its graph recorded, backward through one recorded graph, and both."""
        forward, leaves = self._function(problem, {})
        backward, _ = make_pullback(forward, leaves)
        return {
            "forward": lambda: make_pullback(forward, leaves),
            "backward": lambda: backward(problem.dy[()]),
            "forward+backward": lambda: differentiate(forward, leaves, problem.dy),
        }

    def _function(self, problem: Problem, decisions: dict[str, Array]) -> tuple[Callable[[Any], Any], Any]:
        """Return the network as a function of its leaves that fills `decisions`, and the leaves."""
        variable, constants = split_inputs(problem)

        def forward(leaves: Any) -> Any:
            params, inputs = leaves
            values = evaluate(self.network, self.call, params, {**inputs, **constants})
            decisions.update(decide(self.network, self.layers, make_autograd_namespace(), params, values))
            return values[self.network.output.name]

        params = {node: {key: self._widen(value) for key, value in group.items()} for node, group in problem.params.items()}
        return forward, (params, {name: self._widen(value) for name, value in variable.items()})

    def _widen(self, value: Array) -> Array:
        return value.astype(self.kind.compute) if self.kind.is_narrow and is_float(value) else value

    def _narrow(self, value: Array) -> Array:
        return np.asarray(value).astype(self.kind.dtype) if self.kind.is_narrow else value


@cache
def _casts(kind: FloatFormat) -> Casts | None:
    """Return the rounding of what is stored narrow: autograd keeps it in float32, for it knows no narrow arrays."""
    if not kind.is_narrow:
        return None
    from autograd.extend import defvjp, primitive

    @primitive  # type: ignore[untyped-decorator]  # reason: autograd has no annotations
    def store(value: Any) -> Any:
        return np.asarray(value).astype(kind.dtype).astype(kind.compute)

    defvjp(store, lambda ans, value: lambda g: store(g))
    return Casts(lambda value: value, store)


def differentiate(function: Callable[[Any], Any], leaves: Any, dy: Array) -> tuple[Array, Any]:
    """Return the function's value at the leaves (a nest of tuples and dicts of arrays) and their gradients for cotangent dy."""
    backward, y = make_pullback(function, leaves)
    return np.asarray(y), backward(np.asanyarray(dy, np.asarray(y).dtype).reshape(np.shape(y))[()])


def make_pullback(function: Callable[[Any], Any], leaves: Any) -> tuple[Callable[[Any], Any], Any]:
    """Return what takes a cotangent of the value back to a nest of gradients like the leaves, and the value.

    Every leaf is a root of autograd's tape. Its own `make_vjp` has one root, the nest: it follows each look into a
    tuple or dict as an operation, and adds zeros of the size of all leaves for each.
    """
    from autograd.core import VJPNode, add_outgrads, vspace
    from autograd.tracer import isbox, new_box, toposort, trace_stack

    with trace_stack.new_trace() as trace:
        boxes = map_nest(lambda leaf: new_box(leaf, trace, VJPNode.new_root()), leaves)
        end = function(boxes)
        traced = isbox(end) and end._trace == trace

    def backward(dy: Any) -> Any:
        received: dict[Any, Any] = {end._node: (dy, False)} if traced else {}
        for node in toposort(end._node) if traced else ():
            cotangent = received.pop(node)[0] if node.parents else None
            for parent, part in zip(node.parents, node.vjp(cotangent), strict=True):
                received[parent] = add_outgrads(received.get(parent), part)

        def collect(box: Any) -> Any:
            gradient = received[box._node][0] if box._node in received else vspace(box._value).zeros()
            same = gradient.dtype == box._value.dtype  # autograd's rule for `where` adds float64 zeros to float32
            return gradient if same else gradient.astype(box._value.dtype)

        return map_nest(collect, boxes)

    return backward, end._value if traced else end


def map_nest(change: Callable[[Any], Any], nest: Any) -> Any:
    """Return the nest of tuples and dicts with each leaf changed.

    >>> map_nest(abs, ({"W": -1}, (2, -3)))
    ({'W': 1}, (2, 3))
    """
    if isinstance(nest, dict):
        return {name: map_nest(change, part) for name, part in nest.items()}
    return tuple(map_nest(change, part) for part in nest) if isinstance(nest, tuple) else change(nest)


BACKENDS = (HipsAutograd(),)
