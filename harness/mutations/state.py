"""State: a pass and what the layer object remembers of earlier ones come in, gradients that mix the two go out."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core import Array
from harness.floats import is_float
from harness.mutations.mutation import SIZES, Mutation
from harness.mutations.passes import Forward, Gradients, Passed
from harness.mutations.targets import change_all, find_keys, has, scale

_AGAIN = "seen only by who runs a layer twice"


def _use_previous(passed: Passed) -> Gradients:
    return _use(passed, passed.memory.before)


def _use_first(passed: Passed) -> Gradients:
    return _use(passed, passed.memory.first)


def _use(passed: Passed, forward: Forward | None) -> Gradients:
    """Return the gradients at the inputs of another forward pass, the right ones where there was none."""
    if forward is None or forward is passed.memory.last:
        return passed.gradients
    _, gradients = passed.again(inputs=forward.inputs)
    return gradients


def _accumulate(passed: Passed) -> Gradients:
    """Add the parameter gradients to those of the pass before."""
    before = passed.memory.gradients or {}
    return {**passed.gradients, **{key: _add(passed.gradients[key], before.get(key)) for key in find_keys(passed, "dparams")}}


def _add(value: Any, before: Any) -> Any:
    return value if before is None or np.shape(before) != np.shape(value) else value + before


def _drift(value: Array, passed: Passed) -> Array:
    return scale(value, passed.size) if passed.memory.passes else value


def _learn(passed: Passed) -> Gradients:
    """Replace the parameters as an optimizer would."""
    for key in find_keys(passed, "dparams"):
        old = passed.params[str(key)]
        passed.params[str(key)] = old - old.dtype.type(0.01) * np.asarray(passed.gradients[key])
    return passed.gradients


def _overwrite_input(passed: Passed) -> Any:
    """Work in place on the first input; one that is read-only raises, as it does for whoever really does this."""
    x = passed.inputs[0]
    if is_float(x):
        np.multiply(x, 2, out=x)
    return passed.y


def _overwrite_upstream(passed: Passed) -> Gradients:
    """Work in place on the upstream gradient."""
    if isinstance(passed.dy, np.ndarray):
        np.multiply(passed.dy, 2, out=passed.dy)
    return passed.gradients


def _fail_for_batch_of_one(value: Array, passed: Passed) -> Array:
    return value * value.dtype.type(2) if passed.batch == 1 else value


def _read_buffer(value: Array, passed: Passed) -> Array:
    """Return the numbers in the order in which the input lies in memory."""
    x = np.asarray(passed.inputs[0])
    if x.shape != value.shape or x.flags.c_contiguous or not x.flags.f_contiguous:
        return value
    return value.ravel().reshape(value.shape, order="F")


def _need_contiguous(value: Array, passed: Passed) -> Array:
    return value if all(np.asarray(x).flags.c_contiguous for x in passed.inputs) else value * value.dtype.type(2)


def _return_none(passed: Passed) -> None:
    """Return nothing at all."""


def _raise(passed: Passed) -> Gradients:
    raise FloatingPointError("planted: backward raises")


MUTATIONS = (
    Mutation("inputs of the pass before", "state", f"a cache that is written after it is read; {_AGAIN}", (), has("all"),
             gradients=_use_previous, may_vanish=True),
    Mutation("inputs of the first pass for good", "state", f"a cache that is filled only while it is empty; {_AGAIN}", (),
             has("all"), gradients=_use_first, may_vanish=True),
    Mutation("gradients added up over passes", "state", f"+= without zeroing in between; {_AGAIN}", (), has("dparams"),
             gradients=_accumulate, may_vanish=True),
    Mutation("gradients scaled by 1 + e from the second pass on", "state", f"a running average or a step counter; {_AGAIN}",
             SIZES, has("all"), gradients=change_all("all", _drift), may_vanish=True),
    Mutation("parameters changed by backward", "state", f"an optimizer's step inside the layer; {_AGAIN}", (), has("dparams"),
             gradients=_learn, may_vanish=True),
    Mutation("input overwritten", "state", "an in-place operation on what belongs to others", (), has("all"),
             returns=_overwrite_input, may_vanish=True),
    Mutation("upstream gradient overwritten", "state", "out=dy, and another use of the value reads it too", (), has("all"),
             gradients=_overwrite_upstream, may_vanish=True),
    Mutation("wrong for a batch of one alone", "state", "squeeze() drops the axis of a batch of one", (), has("all"),
             gradients=change_all("all", _fail_for_batch_of_one), may_vanish=True),
    Mutation("wrong for columns-first inputs alone", "state", "a reshape or a raw buffer that reads memory in its own order", (),
             has("dx"), gradients=change_all("dx", _read_buffer), may_vanish=True),
    Mutation("wrong for inputs that are not contiguous", "state", "a raw pointer without strides", (), has("all"),
             gradients=change_all("all", _need_contiguous), may_vanish=True),
    Mutation("nothing returned", "state", "a forgotten return", (), has("all"), gradients=_return_none),
    Mutation("backward raises", "state", "a broken path of the code", (), has("all"), gradients=_raise),
)  # fmt: skip
