"""The contract empty_batch: a batch of no rows goes through, where the formula takes one."""

from __future__ import annotations

import numpy as np

from harness.custom.contracts.contract import Contract, NotApplicable
from harness.custom.contracts.subject import Subject
from harness.custom.contracts.truth import evaluate


def find_fails_empty(subject: Subject) -> str:
    """Compare the shapes of everything that comes back; the mean of nothing is nobody's to say."""
    if subject.count_rows() is None:
        raise NotApplicable("the inputs share no first axis that could be a batch")
    empty = tuple(value[:0] for value in subject.inputs)
    y = evaluate(subject, empty)
    if not np.isfinite(y).all():
        raise NotApplicable("the formula gives no number for an empty batch")
    found = subject.run(empty, np.zeros(y.shape, subject.dtype))
    wanted = {"y": y.shape} | {f"dx{i}": value.shape for i, value in enumerate(empty)}
    wanted |= {f"d{name}": value.shape for name, value in subject.params.items()}
    wrong = [
        f"{name} has the shape {list(np.shape(value))}, not {list(wanted[name])}"
        for name, value in found.name().items()
        if value is not None and name in wanted and np.shape(value) != wanted[name]
    ]
    return "; ".join(wrong)


CONTRACTS = (Contract("empty_batch", "sizes", "the last batch of a filtered data set may be empty", find_fails_empty),)
