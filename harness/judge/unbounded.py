"""Layers without a bound of their own: a layer class comes in, the same class with bounds that are estimated goes out.

A stranger's layer has a formula and two passes, and nothing that says how far rounding may move them. The judge asks
every layer for its bounds alike; here they are THRESHOLD standard deviations of the noise that the layer's own code has
on the very arrays that its node received. They say nothing of errors that come in with the inputs, so that a network
with such a layer is judged node by node, and end to end by the spread of noisy runs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace, make_rounding_namespace
from harness.backends.autograd_hips import differentiate
from harness.core import Array
from harness.floats import find_format, is_float
from harness.judge.estimate import NoiseEstimate, find_noise
from harness.judge.memory import fingerprint
from harness.judge.noisy_array import NoisyArray
from reference_layers import BackwardBound, Pair, Rounding

KEPT = 32
WITHIN_ROOT_3 = float(np.sqrt(3.0))  # what moves evenly within so many standard deviations has one


class NoiseUnknown(Exception):
    """Nothing tells how far rounding may move what the layer returns; the text says why."""


def equip(layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layer classes by name, those without bounds replaced by subclasses that estimate them."""
    return {name: kind if has_bounds(kind) else _estimated(kind) for name, kind in layers.items()}


def has_bounds(kind: Any) -> bool:
    """Whether the layer class says itself, or has been given, how far rounding may move its results."""
    return hasattr(kind, "forward_bound") and hasattr(kind, "backward_bound")


def is_estimated(kind: Any) -> bool:
    """Whether the bounds of the layer class are estimates of `equip`."""
    return bool(getattr(kind, "bounds_are_estimated", False))


@cache
def _estimated(kind: Any) -> Any:
    """Return the subclass; one for each class, so that what was estimated is found again."""
    known: dict[Any, NoiseEstimate] = {}

    class Estimated(kind):  # type: ignore[misc]  # reason: the layer class is only known when this runs
        bounds_are_estimated = True

        @staticmethod
        def forward_bound(r: Rounding, params: Mapping[str, Array], *pairs: Any) -> Array:
            inputs = [pair.value for pair in pairs[: len(kind.differentiable)]]
            _require_exact(kind, pairs)
            return _estimate(kind, known, r, params, inputs, None)["y"]

        @staticmethod
        def backward_bound(r: Rounding, params: Mapping[str, Array], *pairs: Any) -> BackwardBound:
            count = len(kind.differentiable)
            _require_exact(kind, pairs)
            found = _estimate(kind, known, r, params, [pair.value for pair in pairs[:count]], pairs[count].value)
            wanted = [i for i, differentiable in enumerate(kind.differentiable) if differentiable]
            names = {i: "dx" if len(wanted) == 1 else f"dx{i}" for i in wanted}
            dx = tuple(found[names[i]] if i in names else None for i in range(count))
            return BackwardBound(dx, {key: found[f"d{key}"] for key in params})

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Estimated, name, getattr(kind, name))
    return Estimated


def _require_exact(kind: Any, pairs: tuple[Any, ...]) -> None:
    if not all(pair.is_exact for pair in pairs if isinstance(pair, Pair)):
        raise NoiseUnknown(f"{kind.name} has no bound of its own, so that nothing tells what it makes of errors that come in")


def _estimate(
    kind: Any, known: dict[Any, NoiseEstimate], r: Rounding, params: Mapping[str, Array], inputs: list[Array], dy: Array | None
) -> dict[str, Array]:
    """Return the bound of each quantity in the arithmetic: multiples of sigma grow with its unit roundoff.

    The output's alone is asked for without dy; what was found with any dy at the same arrays tells it too.
    """
    dtype = _find_dtype(kind, r)
    given = {**{f"input {i}": value for i, value in enumerate(inputs)}, **params}
    forward = (dtype, r.rule == "layer", fingerprint(given))
    key = forward if dy is None else (*forward, fingerprint({"dy": dy}))
    if key not in known:
        if len(known) >= KEPT:
            known.pop(next(iter(known)))
        if dy is None:
            dy = np.zeros(np.shape(kind.formula(make_numpy_namespace(), params, *inputs)))
        known[key] = known[forward] = _find(kind, r, params, inputs, dy, dtype)
    noise = known[key]
    if noise.how == "unknown":
        raise NoiseUnknown(f"the rounding noise of {kind.name} in {dtype} is unknown: {noise.reason}")
    factor = (WITHIN_ROOT_3 if r.typical else noise.threshold) * max(r.u, r.ua) / find_format(dtype).u
    return {name: sigma * factor for name, sigma in noise.sigma.items()}


def _find(kind: Any, r: Rounding, params: Mapping[str, Array], inputs: list[Array], dy: Array, dtype: str) -> NoiseEstimate:
    constants = [i for i, differentiable in enumerate(kind.differentiable) if not differentiable]
    runs = kind if r.rule == "layer" else _differentiated(kind)
    return find_noise(runs, params, inputs, dy, dtype, constants=constants)


def _find_dtype(kind: Any, r: Rounding) -> str:
    """Return the dtype in which networks with this arithmetic compute; the rounding that stores a result is the judge's to add.

    Noise that is simulated more coarsely than any dtype has that of the next finer one, in proportion.
    """
    if r.store:
        return "float32"
    fine = [name for name in ("float32", "float64") if find_format(name).u <= r.u]
    if not fine:
        raise NoiseUnknown(f"the rounding noise of {kind.name} above float64 is unknown: nothing is there to judge it by")
    return fine[0]


@cache
def _trace_noise() -> None:
    """Let autograd trace arrays that round at random, as it does plain ones.

    Their sums are as noisy as sums in any order are. The difference of two precisions knows the one order that NumPy takes,
    in which terms may happen to cancel exactly, where torch adds them up in another.
    """
    from autograd.numpy.numpy_boxes import ArrayBox
    from autograd.numpy.numpy_vspaces import ArrayVSpace

    ArrayBox.register(NoisyArray)
    ArrayVSpace.register(NoisyArray, lambda value: ArrayVSpace(np.asarray(value)))


@cache
def _differentiated(kind: Any) -> Any:
    """Return a layer that runs the formula and its derivative, as frameworks do that know nothing of the passes."""
    _trace_noise()

    class Differentiated:
        def __init__(self, **params: Array) -> None:
            self.params, self.grads = params, dict[str, Any]()

        def forward(self, *inputs: Array) -> Any:
            self.inputs = inputs
            return kind.formula(make_numpy_namespace(), self.params, *inputs)

        def backward(self, dy: Array) -> tuple[Any, ...]:
            variable = {i: value for i, value in enumerate(self.inputs) if kind.differentiable[i] and is_float(value)}
            xp = make_rounding_namespace()

            def forward(leaves: Any) -> Any:
                return kind.formula(xp, leaves[0], *[leaves[1].get(i, value) for i, value in enumerate(self.inputs)])

            _, (self.grads, dx) = differentiate(forward, (self.params, variable), dy)
            return tuple(dx.get(i) for i in range(len(self.inputs)))

    return Differentiated
