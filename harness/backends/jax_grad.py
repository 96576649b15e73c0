"""JAX grad as a backend: a problem comes in, the gradients of `jax.vjp` under `jax.jit` (or eager) go out.

The rows of `jax` come from the program a user would run, with nothing tapped but the branches taken, which
leaves its gradients bit for bit as they are. Tapping every node can change the numerics of a jitted program, so
`jax:tapped` is a backend of its own: it localises a fault and never clears one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from harness.array_api import Namespace, take_from
from harness.backends.graph import Casts, decide, evaluate, has_native, name_gradients, pick_calls, split_inputs
from harness.core import Arithmetic, NetworkSpec, NodeTrace, Outcome, Problem
from harness.floats import find_format


@dataclass(frozen=True)
class JaxGrad:
    """JAX on the CPU, with 64-bit types switched on for float64 alone, and only while it runs."""

    name: str = "jax"
    variant: str = "formula"
    framework: str = "jax"
    default: bool = True
    decides: bool = True
    jit: bool = True
    tapped: bool = False
    localiser: str = "jax:tapped"
    arithmetic: Arithmetic = field(default_factory=lambda: Arithmetic(flushes=True))
    threads: str = "the cores that the process may use when JAX starts (XLA reads no thread variable)"

    def version(self) -> str:
        return str(import_module("jax").__version__)

    def rule(self, layer: Any) -> str:
        return "native" if self.variant == "native" and "jax" in layer.native else "formula"

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> JaxProgram | None:
        if self.variant == "native" and not has_native(layers, network, "jax"):
            return None
        return JaxProgram(self, network, dtype, layers)


class JaxProgram:
    """One graph in JAX, compiled at its first run."""

    def __init__(self, backend: JaxGrad, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> None:
        jax = import_module("jax")
        self.network = network
        self.layers = layers
        self.wide = dtype == "float64"
        self.jit = backend.jit
        self.tapped = backend.tapped
        self.compiled = not backend.jit
        module = jax if backend.variant == "native" else None
        self.call = pick_calls(network, layers, namespace(), "jax", module, _casts(jax, dtype))
        self.program = jax.jit(self._differentiate) if backend.jit else self._differentiate

    def run(self, problem: Problem) -> Outcome:
        variable, constants = split_inputs(problem)
        arguments = (problem.params, variable, constants, problem.dy)
        with wide_types(self.wide):
            compile_seconds = 0.0 if self.compiled else self._compute(arguments).seconds
            self.compiled = True
            return self._compute(arguments, compile_seconds)

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace] | None:
        """Return what every node received and returned, in the tapped program only."""
        if not self.tapped:
            return None
        variable, constants = split_inputs(problem)
        with wide_types(self.wide):
            _, _, _, taps = self.program(problem.params, variable, constants, problem.dy)
        return {
            name: NodeTrace(
                inputs=tuple(np.asarray(value) for value in inputs),
                y=np.asarray(y),
                dy=np.asarray(dy),
                dx=tuple(np.asarray(dx[i]) if i in dx else None for i in range(len(inputs))),
                dparams={key: np.asarray(value) for key, value in dparams.items()},
            )
            for name, (inputs, y, dy, dx, dparams) in taps.items()
        }

    def phases(self, problem: Problem) -> dict[str, Callable[[], Any]]:
        """Return what is timed: compilation of both passes, forward, and both; a jitted program has no backward of its own."""
        if not self.jit or self.tapped:
            return {}
        jax = import_module("jax")
        with wide_types(self.wide):
            *leaves, dy = jax.device_put((problem.params, *split_inputs(problem), problem.dy))

        @cache
        def forward() -> Any:
            return self._compile(self._forward, leaves)

        @cache
        def both() -> Any:
            return self._compile(self._gradients, [*leaves, dy])

        return {
            "compile": both,
            "forward": lambda: jax.block_until_ready(forward()(*leaves)),
            "forward+backward": lambda: jax.block_until_ready(both()(*leaves, dy)),
        }

    def _compile(self, function: Callable[..., Any], arguments: list[Any]) -> Any:
        with wide_types(self.wide):
            return import_module("jax").jit(function).lower(*arguments).compile()

    def _forward(self, params: Any, variable: Any, constants: Any) -> Any:
        return evaluate(self.network, self.call, params, {**variable, **constants})[self.network.output.name]

    def _gradients(self, params: Any, variable: Any, constants: Any, dy: Any) -> Any:
        y, backward = import_module("jax").vjp(lambda p, v: self._forward(p, v, constants), params, variable)
        return y, backward(dy)

    def _compute(self, arguments: Any, compile_seconds: float = 0.0) -> Outcome:
        """Return what the program gives; reading its arrays waits until they are ready."""
        start = time.perf_counter()
        y, gradients, decisions, _ = self.program(*arguments)
        read = np.asarray(y)
        named = {name: np.asarray(value) for name, value in name_gradients(*gradients).items()}
        taken = {name: np.asarray(value) for name, value in decisions.items()}
        seconds = time.perf_counter() - start
        return Outcome("ok", read, named, taken, seconds=seconds, compile_seconds=compile_seconds)

    def _differentiate(self, params: Any, variable: Any, constants: Any, dy: Any) -> Any:
        jax = import_module("jax")
        taps = self._taps(params, variable, constants) if self.tapped else {}

        def forward(params: Any, variable: Any, taps: Any) -> Any:
            values = self._evaluate(params, {**variable, **constants}, taps)
            decisions = decide(self.network, self.layers, namespace(), params, values)
            return values[self.network.output.name], (decisions, values if self.tapped else {})

        y, backward, (decisions, values) = jax.vjp(forward, params, variable, taps, has_aux=True)
        d_params, d_variable, d_taps = backward(jax.numpy.asarray(dy, y.dtype))
        return y, (d_params, d_variable), decisions, self._collect(values, d_params, d_taps)

    def _evaluate(self, params: Any, inputs: Any, taps: Any) -> Any:
        """Evaluate the graph; a tap is a zero added to an edge or an output, whose gradient is that place's."""
        if not taps:
            return evaluate(self.network, self.call, params, inputs)

        def call(node: Any, group: Any, *arguments: Any) -> Any:
            edges, out = taps[node.name]
            tapped = [value + edges[i] if i in edges else value for i, value in enumerate(arguments)]
            return self.call(node, group, *tapped) + out

        return evaluate(self.network, call, params, inputs)

    def _taps(self, params: Any, variable: Any, constants: Any) -> dict[str, Any]:
        """Return a zero for every edge that is differentiated, and for every output."""
        jnp = import_module("jax.numpy")
        values = evaluate(self.network, self.call, params, {**variable, **constants})
        return {
            node.name: (
                {i: jnp.zeros_like(values[name]) for i, name in enumerate(node.inputs) if name not in constants},
                jnp.zeros_like(values[node.name]),
            )
            for node in self.network.nodes
        }

    def _collect(self, values: Any, d_params: Any, d_taps: Any) -> dict[str, Any]:
        if not self.tapped:
            return {}
        return {
            node.name: (
                tuple(values[name] for name in node.inputs),
                values[node.name],
                d_taps[node.name][1],
                d_taps[node.name][0],
                d_params.get(node.name, {}),
            )
            for node in self.network.nodes
        }


def _casts(jax: Any, dtype: str) -> Casts | None:
    """Return how values are widened to float32 and rounded back in a narrow dtype; XLA may leave such a rounding out."""
    if not find_format(dtype).is_narrow:
        return None
    narrow = find_format(dtype).dtype

    def widen(value: Any) -> Any:
        return value.astype(jax.numpy.float32) if value.dtype == narrow else value

    return Casts(widen, lambda value: value.astype(narrow))


@cache
def namespace() -> Namespace:
    """Return jax.numpy's functions, which follow the Array API standard, and erf."""
    return take_from(import_module("jax.numpy"), erf=import_module("jax.scipy.special").erf)


def wide_types(on: bool) -> AbstractContextManager[Any]:
    """Return a context in which 64-bit types are on or off, on the CPU, for this thread alone; the caller's flags stay."""
    return _find_switch()(on)


@cache
def _find_switch() -> Callable[[bool], AbstractContextManager[Any]]:
    """Return JAX's own switch, which also keeps the work on the CPU where JAX would go elsewhere.

    The bounds are for the CPU's arithmetic: an accelerator may multiply in fewer bits.
    """
    jax = import_module("jax")
    switch: Callable[[bool], AbstractContextManager[Any]]
    switch = jax.enable_x64 if hasattr(jax, "enable_x64") else import_module("jax.experimental").enable_x64
    if jax.default_backend() == "cpu":
        return switch

    @contextmanager
    def both(on: bool) -> Iterator[None]:
        with switch(on), jax.default_device(jax.devices("cpu")[0]):
            yield

    return both


BACKENDS = (
    JaxGrad(),
    JaxGrad(name="jax:native", variant="native"),
    JaxGrad(name="jax:eager", default=False, jit=False),
    JaxGrad(name="jax:tapped", default=False, decides=False, tapped=True),
)
