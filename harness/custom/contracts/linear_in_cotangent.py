"""The contract linear_in_cotangent: 0 gives 0, 2 dy twice and -dy minus what dy gives, and parts of dy add up to the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import list_apart, say
from harness.custom.contracts.contract import Contract, NotApplicable
from harness.custom.contracts.subject import Pass, Subject
from harness.custom.contracts.truth import is_finite
from harness.judge.local import same_bits


def find_not_linear(subject: Subject) -> str:
    """Powers of two, signs and 0 scale without any rounding, so that nothing but equality is right; sums are rounded."""
    once, dy = subject.alone, subject.dy
    if not is_finite(once):
        raise NotApplicable("the gradients are not finite")
    nothing = subject.run(dy=0 * dy).name_gradients()
    wrong = [name for name, value in nothing.items() if value is not None and np.asarray(value).any()]
    if wrong:
        return f"the cotangent 0 does not give 0: {', '.join(wrong)}"
    for factor, words in ((2, "the cotangent 2 dy does not give twice what dy gives"), (-1, "-dy does not give minus it")):
        scaled = subject.run(dy=np.asarray(factor * dy, dy.dtype))
        if parted := _list_unlike(scaled, once, factor):
            return f"{words}: {parted}"
    return say(_find_not_additive(subject), "what two cotangents give does not add up to what their sum gives")


def _list_unlike(found: Pass, once: Pass, factor: int) -> str:
    """Return the gradients that are not the factor times those; numbers so small that some libraries drop them count as 0."""
    ours, theirs = found.name_gradients(), once.name_gradients()
    return ", ".join(
        name
        for name in dict.fromkeys([*ours, *theirs])
        if not same_bits(_drop_subnormal(ours.get(name)), _drop_subnormal(theirs.get(name), factor))
    )


def _drop_subnormal(value: Any, factor: int = 1) -> Any:
    if value is None:
        return None
    array = np.asarray(value)
    least = 4 * np.finfo(array.dtype).tiny if array.dtype.kind == "f" else 0
    return np.where(np.abs(array) < least, np.zeros_like(array), np.asarray(factor * array, array.dtype))


def _find_not_additive(subject: Subject) -> str:
    if subject.dy.size < 2:
        return ""
    chosen = np.random.default_rng(0).permutation(subject.dy.size).reshape(subject.dy.shape) % 2 == 0
    one, other = (subject.run(dy=_keep(subject.dy, where)) for where in (chosen, ~chosen))
    ours, theirs = one.name_gradients(), other.name_gradients()
    total = {name: None if value is None else value + theirs[name] for name, value in ours.items() if name in theirs}
    dx = tuple(total.get(f"dx{i}") for i in range(len(one.dx)))
    summed = Pass(one.y, dx, {name: total.get(f"d{name}") for name in one.grads})
    return list_apart(subject, subject.alone, summed, subject.inputs, subject.dy)


def _keep(dy: Array, where: Array) -> Array:
    return np.where(where, dy, np.zeros_like(dy))


CONTRACTS = (
    Contract(
        "linear_in_cotangent",
        "cotangent",
        "a vector-Jacobian product is linear: what is not ignores dy somewhere, or clips it",
        find_not_linear,
    ),
)
