"""The contracts small_batches and odd_sizes: a layer agrees with its formula at sizes that other inputs do not have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.custom.contracts.contract import Contract, NotApplicable, describe_error
from harness.custom.contracts.subject import Inputs, Subject
from harness.custom.contracts.truth import compare_with_formula, differentiate, evaluate

PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)


def find_wrong_when_small(subject: Subject) -> str:
    """Give one row, and two."""
    rows = _require_rows(subject)
    return _gather(subject, [(f"a batch of {size}", _take_rows(subject, rows, size)) for size in (1, 2)])


def find_wrong_when_odd(subject: Subject) -> str:
    """Give a prime number of rows that no other axis has; and a last axis that the axis before it has not."""
    rows = _require_rows(subject)
    others = {size for value in subject.inputs for size in value.shape[1:]}
    prime = next((one for one in PRIMES if one > rows and one not in others), None)
    given = [(f"a batch of {prime}", _take_rows(subject, rows, prime))] if prime else []
    return _gather(subject, [*given, *_crop(subject)])


def _require_rows(subject: Subject) -> int:
    rows = subject.count_rows()
    if not rows:
        raise NotApplicable("the inputs share no first axis that could be a batch")
    return rows


def _gather(subject: Subject, given: list[tuple[str, Inputs]]) -> str:
    """Return what is wrong at any of the sizes that the formula takes. Raises NotApplicable where it takes none."""
    wrong, reasons = [], []
    for name, inputs in given:
        try:
            found = _compare(subject, inputs)
            wrong += [f"{name}: {found}"] if found else []
        except NotApplicable as reason:
            reasons.append(f"{name}: {reason}")
    if len(reasons) == len(given):
        raise NotApplicable("; ".join(reasons) or "no size is left that the inputs do not have")
    return "; ".join(wrong)


def _compare(subject: Subject, inputs: Inputs) -> str:
    try:
        apart = compare_with_formula(subject, inputs)
    except NotApplicable:
        raise
    except (Exception, SystemExit) as error:  # reason: as in `look`; the size belongs into the message
        if _is_flat(subject, inputs):
            raise NotApplicable("the formula does not depend on its inputs there, and the layer refuses them") from None
        return f"it raises {describe_error(error)}"
    return f"far from the formula: {apart}" if apart else ""


def _is_flat(subject: Subject, inputs: Inputs) -> bool:
    """Whether no input has a gradient, as where the statistics of a batch are taken over one row."""
    dy = subject.draw_cotangent(np.shape(evaluate(subject, inputs)))
    return not any(part.any() for part in differentiate(subject, inputs, dy).dx if part is not None)


def _take_rows(subject: Subject, rows: int, size: int) -> Inputs:
    """Return so many rows of each input, again from the first where there are too few, then smaller."""
    index = np.arange(size)
    shrunk = 0.875 ** (index // rows)
    return tuple(_scale(value[index % rows], shrunk, i in subject.places) for i, value in enumerate(subject.inputs))


def _scale(value: Array, factors: Array, floats: bool) -> Array:
    return np.asarray(value * factors.reshape((-1,) + (1,) * (value.ndim - 1)), value.dtype) if floats else value


def _crop(subject: Subject) -> Iterator[tuple[str, Inputs]]:
    """Yield inputs of more than two axes, square in the last two, without the last column or two."""
    square = [value.ndim > 2 and value.shape[-1] == value.shape[-2] > 2 for value in subject.inputs]
    if any(square):
        for fewer in (1, 2):
            cut = tuple(value[..., :-fewer] if one else value for value, one in zip(subject.inputs, square, strict=True))
            yield f"a last axis shorter by {fewer}", cut


CONTRACTS = (
    Contract(
        "small_batches",
        "sizes",
        "one row is squeezed away, taken for a vector or divided by 0 where many rows are not",
        find_wrong_when_small,
    ),
    Contract(
        "odd_sizes",
        "sizes",
        "transposed axes, divisors of the wrong axis and loops over chunks show only where sizes differ and divide nothing",
        find_wrong_when_odd,
    ),
)
