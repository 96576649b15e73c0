"""The contract repeated_indices: an index that comes twice is counted twice."""

from __future__ import annotations

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import say
from harness.custom.contracts.contract import Contract, NotApplicable
from harness.custom.contracts.subject import Subject
from harness.custom.contracts.truth import compare_with_formula


def find_counted_once(subject: Subject) -> str:
    """Give integers that hold two of their values only, in turn, and compare with the formula."""
    if not any(value.dtype.kind in "iu" and value.size > 1 for value in subject.inputs):
        raise NotApplicable("no input holds several integers")
    inputs = tuple(_repeat(value) if value.dtype.kind in "iu" else value for value in subject.inputs)
    return say(compare_with_formula(subject, inputs), "where indices come more than once it is far from the formula")


def _repeat(value: Array) -> Array:
    some = np.unique(value)[:2]
    return np.resize(some, value.shape).astype(value.dtype) if value.size else value


CONTRACTS = (
    Contract(
        "repeated_indices",
        "points",
        "an assignment instead of a sum keeps the last of several gradients of one row, and random indices seldom meet",
        find_counted_once,
    ),
)
