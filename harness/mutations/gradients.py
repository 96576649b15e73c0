"""Gradients: the right gradients of a pass come in; scaled, or wrong in single entries, they go out."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core import Array
from harness.mutations.mutation import SIZES, Mutation
from harness.mutations.passes import Passed, Settings
from harness.mutations.targets import Change, change_all, change_one, has, pick, put, scale

_TARGETS = ("dW", "db", "dx")
_WHY_SCALE = "a factor that was forgotten or is slightly off, such as a rate, a temperature or a rounded constant"
_WHY_ELEMENT = "an index, a boundary or a special case that goes wrong for one entry among many"


def _scale_all(value: Array, passed: Passed) -> Array:
    return scale(value, passed.size)


def _scale_entry(value: Array, passed: Passed) -> Array:
    index = pick(value, passed)
    return put(value, index, scale(value[index], passed.size)) if value.size else value


def _entry(number: Any) -> Change:
    """Return a change of one entry to `number(that entry)`."""

    def change(value: Array, passed: Passed) -> Array:
        index = pick(value, passed)
        return put(value, index, number(value[index])) if value.size else value

    return change


def _swap_entries(value: Array, passed: Passed) -> Array:
    if value.size < 2:
        return value
    i, j = passed.settings.rng("entries").choice(value.size, 2, replace=False)
    first, second = np.unravel_index(i, value.shape), np.unravel_index(j, value.shape)
    return put(put(value, first, value[second]), second, value[first])


def _grow_with_input(value: Array, passed: Passed) -> Array:
    x = np.asarray(passed.inputs[0])
    if x.shape != value.shape:
        return _scale_all(value, passed)
    out: Array = value + value.dtype.type(passed.size) * np.abs(x).astype(value.dtype) * value
    return out


def _scale_output(passed: Passed) -> Any:
    y = np.asarray(passed.y)
    return scale(y, passed.size)[()]


def _scale_upstream(settings: Settings, dy: Any) -> Any:
    given = np.asarray(dy)
    return scale(given, settings.size)[()]


MUTATIONS = (
    *(
        Mutation(f"{target} scaled by 1 + e", "scale", _WHY_SCALE, SIZES, has(target), gradients=change_one(target, _scale_all))
        for target in _TARGETS
    ),
    Mutation("dy scaled by 1 + e", "scale", _WHY_SCALE, SIZES, has("all"), upstream=_scale_upstream),
    Mutation("y scaled by 1 + e", "scale", "a forward pass that computes something slightly else", SIZES, returns=_scale_output),
    Mutation(
        "dx scaled by 1 + e |x|",
        "scale",
        "a derivative that is right near 0 and drifts away from it, as an approximation of tanh or erf does",
        SIZES,
        has("dx"),
        gradients=change_one("dx", _grow_with_input),
    ),
    *(
        Mutation(
            f"one entry of {target} scaled by 1 + e", "element", _WHY_ELEMENT, SIZES, has(target),
            gradients=change_one(target, _scale_entry), may_vanish=True,
        )
        for target in _TARGETS
    ),
    Mutation("one entry NaN", "element", "0/0, inf - inf or 0 * inf at one entry", (), has("all"),
             gradients=change_one("all", _entry(lambda value: np.nan))),
    Mutation("one entry infinite", "element", "an overflow or a division by 0 at one entry", (), has("all"),
             gradients=change_one("all", _entry(lambda value: np.inf))),
    Mutation("one entry of the other sign", "element", _WHY_ELEMENT, (), has("all"),
             gradients=change_one("all", _entry(np.negative)), may_vanish=True),
    Mutation("one entry 0", "element", "an entry that a loop or a mask leaves out", (), has("all"),
             gradients=change_one("all", _entry(np.zeros_like)), may_vanish=True),
    Mutation("two entries swapped", "element", "a scatter that writes to the wrong index", (), has("all"),
             gradients=change_one("all", _swap_entries), may_vanish=True),
    Mutation("gradients of the other sign", "scale", "ascent for descent, or t - y for y - t", (), has("all"),
             gradients=change_all("all", lambda value, passed: -value)),
)  # fmt: skip
