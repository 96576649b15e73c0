"""Arithmetic: a pass comes in, what it gives with something of it in a lower precision, or with noise, goes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import Arithmetic, Array
from harness.floats import find_format, is_float
from harness.judge.propagate import exact, flat
from harness.judge.rounding import add_storage, make_rounding
from harness.mutations.mutation import Mutation
from harness.mutations.passes import Gradients, Key, Passed, Settings
from harness.mutations.targets import Change, change_all, change_one, find_keys, has, scale
from reference_layers import Rounding

WIDER = {"float32": ("float64",), "bfloat16": ("float64", "float32"), "float16": ("float64", "float32")}
MULTIPLES = (2.0, 3.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0)
FLUSHED = (1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.1)


def round_to(value: Any, lower: str) -> Any:
    """Return floats rounded to the lower format and back, in their own dtype; anything else as it is.

    >>> round_to(np.array([1 / 3]), "bfloat16")
    array([0.33398438])
    """
    given = np.asarray(value)
    if not is_float(given):
        return value
    with np.errstate(all="ignore"):
        return given.astype(find_format(lower).dtype).astype(given.dtype)[()]


def _cast(lower: str) -> Change:
    return lambda value, passed: np.asarray(round_to(value, lower))


def _cast_inputs(lower: str) -> Callable[[Settings, tuple[Array, ...]], tuple[Array, ...]]:
    return lambda settings, inputs: tuple(round_to(value, lower) for value in inputs)


def _cast_upstream(lower: str) -> Callable[[Settings, Any], Any]:
    return lambda settings, dy: round_to(dy, lower)


def _cast_output(lower: str) -> Callable[[Passed], Any]:
    return lambda passed: round_to(passed.y, lower)


def _cast_operands(target: str, lower: str) -> Callable[[Passed], Gradients]:
    """Return a hook that computes one gradient from operands in the lower precision: a product on another unit."""

    def hook(passed: Passed) -> Gradients:
        inputs = tuple(round_to(value, lower) for value in passed.inputs)
        params = {name: round_to(value, lower) for name, value in passed.params.items()}
        with np.errstate(all="ignore"):
            _, gradients = passed.again(inputs=inputs, dy=round_to(passed.dy, lower), params=params)
        keys = find_keys(passed, target)[:1]
        return {**passed.gradients, **{key: gradients[key] for key in keys}}

    return hook


def _add_halves(lower: str) -> Callable[[Passed], Gradients]:
    """Return a hook that adds up the parameter gradients of the two halves of the batch in the lower precision."""

    def hook(passed: Passed) -> Gradients:
        dy, middle = np.asarray(passed.dy), passed.batch // 2
        if not dy.ndim or len(dy) != passed.batch or not middle:
            return passed.gradients
        halves = [dy.copy(), dy.copy()]
        halves[0][middle:] = halves[1][:middle] = 0
        (_, first), (_, second) = [passed.again(dy=half) for half in halves]
        keys = find_keys(passed, "dparams")
        sums = {key: round_to(round_to(first[key], lower) + round_to(second[key], lower), lower) for key in keys}
        return {**passed.gradients, **sums}

    return hook


def _third(lower: str) -> Change:
    """Return a change by the error that a constant of 1/3 has in the lower format."""
    error = float(3 * np.float64(round_to(np.float64(1) / 3, lower)) - 1)
    return lambda value, passed: scale(value, error)


def _flush(value: Array, passed: Passed) -> Array:
    top = np.abs(value).max(initial=0)
    return np.where(np.abs(value) < value.dtype.type(passed.size) * top, value.dtype.type(0), value)


def _find_bounds(passed: Passed) -> dict[Key, Array]:
    """Return how far rounding may move each gradient of this pass, as the layer's own bound says."""
    pairs = [exact(np.asarray(value)) for value in passed.inputs]
    branches = []
    if hasattr(passed.kind, "decisions"):
        branches = [passed.kind.decisions(make_numpy_namespace(), passed.params, *passed.inputs)]
    rounding = passed.settings.rounding or _find_rounding(passed)
    with np.errstate(all="ignore"):
        bound = passed.kind.backward_bound(rounding, flat(passed.params), *pairs, exact(np.asarray(passed.dy)), *branches)
        found: dict[Key, Array] = {**{i: error for i, error in enumerate(bound.dx) if error is not None}, **bound.dparams}
        return {key: add_storage(rounding, found[key], passed.gradients[key]) for key in found if key in passed.gradients}


def _find_rounding(passed: Passed) -> Rounding:
    """Return the arithmetic of the arrays' own dtype, that of float64 for wider ones."""
    name = next((np.asarray(value).dtype.name for value in passed.inputs if is_float(np.asarray(value))), "float64")
    return make_rounding(name if name in ("float32", "float64") else "float64", Arithmetic(flushes=False), "layer")


def _move(passed: Passed) -> Gradients:
    """Move every entry of one gradient by a multiple of its own bound, up or down."""
    bounds = _find_bounds(passed)
    keys = [key for key in find_keys(passed, "all") if key in bounds]
    if not keys:
        return passed.gradients
    key = keys[int(passed.settings.rng("gradient").integers(len(keys)))]
    value = np.asarray(passed.gradients[key])
    signs = passed.settings.rng("signs").choice([-1.0, 1.0], value.shape)
    with np.errstate(all="ignore"):
        moved = value + (signs * passed.size * bounds[key]).astype(value.dtype)
    return {**passed.gradients, key: np.asarray(moved, value.dtype)}


def _all_casts(lower: str) -> tuple[Mutation, ...]:
    """Return the mutations that compute something in the lower format."""
    why, dtypes = "a dtype that is not handed on: a float32 buffer, a default, a tensor core", WIDER[lower]
    made = {
        f"gradients rounded to {lower}": ("all", {"gradients": change_all("all", _cast(lower))}),
        f"one gradient rounded to {lower}": ("all", {"gradients": change_one("all", _cast(lower))}),
        f"inputs rounded to {lower}": ("all", {"receives": _cast_inputs(lower)}),
        f"dy rounded to {lower}": ("all", {"upstream": _cast_upstream(lower)}),
        f"y rounded to {lower}": ("all", {"returns": _cast_output(lower)}),
        f"dW of {lower} operands": ("dW", {"gradients": _cast_operands("dW", lower)}),
        f"dx of {lower} operands": ("dx", {"gradients": _cast_operands("dx", lower)}),
        f"sums over the batch kept in {lower}": ("dparams", {"gradients": _add_halves(lower)}),
        f"a constant kept in {lower}": ("all", {"gradients": change_one("all", _third(lower))}),
    }
    return tuple(
        Mutation(name, "arithmetic", why, (), has(target), dtypes=dtypes, may_vanish=True, **hooks)  # type: ignore[arg-type]  # reason: each holds one hook
        for name, (target, hooks) in made.items()
    )


MUTATIONS = (
    *(mutation for lower in WIDER for mutation in _all_casts(lower)),
    Mutation("gradients below e of the largest flushed", "arithmetic", "a threshold or a flush to zero above the subnormals",
             FLUSHED, has("all"), gradients=change_one("all", _flush), may_vanish=True),
    Mutation("every entry moved by r bounds", "arithmetic", "any error at all, as small as it can be and no rounding explain it",
             MULTIPLES, lambda kind: hasattr(kind, "backward_bound"), gradients=_move, may_vanish=True),
)  # fmt: skip
