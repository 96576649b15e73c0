"""Structure: the right gradients of a pass come in; transposed, rolled, dropped, of another shape or dtype they go out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.core import Array
from harness.mutations.mutation import SIZES, Mutation
from harness.mutations.passes import Gradients, Key, Passed
from harness.mutations.targets import Change, change_all, change_one, find_axes, find_keys, has, pick_slice, put, scale

_INDEX = "a loop or a slice that ends one too early, or an index along the wrong axis"


def _slice(axis: int, change: Change) -> Change:
    """Return a change of one row (axis 0) or column (axis -1) by what `change` makes of it."""

    def changed(value: Array, passed: Passed) -> Array:
        index = pick_slice(value, passed, axis)
        return put(value, index, change(value[index], passed)) if value.size else value

    return changed


def _transpose(value: Array, passed: Passed) -> Array:
    square = value.ndim == 2 and value.shape[0] == value.shape[1]
    return value.T.copy() if square else value


def _roll(axis: int) -> Change:
    return lambda value, passed: np.roll(value, 1, axis=axis) if value.ndim else value


def _swap(target: str) -> Callable[[Passed], Gradients]:
    """Return a hook that puts the first two of the gradients in one another's place."""

    def hook(passed: Passed) -> Gradients:
        first, second, *_ = find_keys(passed, target)
        return {**passed.gradients, first: passed.gradients[second], second: passed.gradients[first]}

    return hook


def _without(target: str) -> Callable[[Passed], Gradients]:
    """Return a hook that leaves the last of the gradients out."""

    def hook(passed: Passed) -> Gradients:
        left_out = find_keys(passed, target)[-1:]
        kept: Gradients = {key: value for key, value in passed.gradients.items() if key not in left_out}
        return kept if target == "dparams" else {**passed.gradients, **dict.fromkeys(left_out)}

    return hook


def _leave_out_sample(passed: Passed) -> Gradients:
    """Sum the parameter gradients over all samples but one."""
    dy = np.asarray(passed.dy)
    return _sum_over(passed, put(dy, pick_slice(dy, passed, 0), 0))


def _take_one_sample(passed: Passed) -> Gradients:
    """Take the parameter gradients of the last sample alone for the sum over the batch."""
    dy = np.asarray(passed.dy)
    return _sum_over(passed, put(dy, slice(0, -1), 0))


def _sum_over(passed: Passed, dy: Array) -> Gradients:
    _, gradients = passed.again(dy=dy)
    keys: list[Key] = find_keys(passed, "dparams")
    return {**passed.gradients, **{key: gradients[key] for key in keys}}


def _sum_once_more(value: Array, passed: Passed) -> Array:
    return np.broadcast_to(value.sum(axis=0, dtype=value.dtype), value.shape).copy() if value.ndim else value


def _another_dtype(value: Array, passed: Passed) -> Array:
    return value.astype(np.float64 if value.dtype != np.float64 else np.float32)


def _has_two_inputs(kind: Any) -> bool:
    return sum(getattr(kind, "differentiable", (True,))) > 1


def _has_two_params(kind: Any) -> bool:
    return len(find_axes(kind)) > 1


MUTATIONS = (
    Mutation("one column of dW scaled by 1 + e", "structure", "one unit that is treated apart, as a padding or a tied weight",
             SIZES, has("dW"), gradients=change_one("dW", _slice(-1, lambda part, passed: scale(part, passed.size)))),
    Mutation("one sample of dx scaled by 1 + e", "structure", "a weight of one sample that is not what it should be",
             SIZES, has("dx"), gradients=change_one("dx", _slice(0, lambda part, passed: scale(part, passed.size)))),
    Mutation("one row of dW 0", "structure", _INDEX, (), has("dW"), may_vanish=True,
             gradients=change_one("dW", _slice(0, lambda part, passed: 0))),
    Mutation("one column of dW 0", "structure", _INDEX, (), has("dW"), may_vanish=True,
             gradients=change_one("dW", _slice(-1, lambda part, passed: 0))),
    Mutation("one sample of dx 0", "structure", _INDEX, (), has("dx"), may_vanish=True,
             gradients=change_one("dx", _slice(0, lambda part, passed: 0))),
    Mutation("one sample left out of the sums", "structure", "a sum over the batch that starts at 1 or ends at N - 1",
             (), has("dparams"), gradients=_leave_out_sample),
    Mutation("last sample instead of the sum", "structure", "an assignment where += was meant: the sum over the batch is missing",
             (), has("dparams"), gradients=_take_one_sample, may_vanish=True),
    Mutation("summed over one axis too many", "structure", "sum() for sum(axis=0), and broadcasting hides the shape",
             (), has("dparams"), gradients=change_one("dparams", _sum_once_more), may_vanish=True),
    Mutation("dW transposed where square", "structure", "dy^T x for x^T dy: the shapes fit where the widths are the same",
             (), has("dW"), gradients=change_all("dW", _transpose), may_vanish=True),
    Mutation("dx with its features rolled by one", "structure", "columns off by one", (), has("dx"), may_vanish=True,
             gradients=change_one("dx", _roll(-1))),
    Mutation("dx of the next sample", "structure", "rows off by one", (), has("dx"), may_vanish=True,
             gradients=change_one("dx", _roll(0))),
    Mutation("dW with its rows rolled by one", "structure", "an input feature off by one", (), has("dW"), may_vanish=True,
             gradients=change_one("dW", _roll(0))),
    Mutation("gradients of two inputs swapped", "structure", "returned in the wrong order, or multiplied by the wrong input",
             (), _has_two_inputs, gradients=_swap("dx"), may_vanish=True),
    Mutation("gradient of an input left out", "structure", "None where a second input has a gradient as well", (), has("dx"),
             gradients=_without("dx")),
    Mutation("gradient of a parameter left out", "structure", "a parameter that backward forgets", (), has("dparams"),
             gradients=_without("dparams")),
    Mutation("one axis too many", "structure", "keepdims=True, or [None], and broadcasting hides it", (), has("dparams"),
             gradients=change_one("dparams", lambda value, passed: value[None])),
    Mutation("another dtype", "structure", "a Python float, a default dtype or a mask that promotes the result", (), has("all"),
             gradients=change_one("all", _another_dtype)),
    Mutation("gradients of two parameters under each other's names", "structure", "unpacked in the wrong order",
             (), _has_two_params, gradients=_swap("dparams")),
)  # fmt: skip
