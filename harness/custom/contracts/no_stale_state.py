"""The contract no_stale_state: a pass over other numbers, or another number of rows, leaves nothing for the next."""

from __future__ import annotations

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import list_parted, say
from harness.custom.contracts.contract import Contract, NotApplicable
from harness.custom.contracts.subject import Inputs, Subject, run_pass
from harness.custom.contracts.truth import evaluate


def find_stale(subject: Subject) -> str:
    """Run other numbers through the layer first: what it keeps of them shows in the next pass."""
    inputs, dy = subject.others
    if parted := _find_parted(subject, inputs, dy):
        return f"a pass over other numbers before it changes the result: {parted}"
    shorter = _shorten(subject, inputs)
    if shorter is None:
        return ""
    return say(_find_parted(subject, *shorter), "a pass over fewer rows before it changes the result")


def _find_parted(subject: Subject, inputs: Inputs, dy: Array) -> str:
    layer = subject.make()
    run_pass(layer, inputs, dy)
    return list_parted(run_pass(layer, subject.inputs, subject.dy), subject.alone)


def _shorten(subject: Subject, inputs: Inputs) -> tuple[Inputs, Array] | None:
    """Return the inputs cut to two rows, and a cotangent, None where the formula takes none such."""
    rows = subject.count_rows()
    if rows is None or rows < 3:
        return None
    fewer = tuple(value[:2] for value in inputs)  # a size for which frameworks have compiled already
    try:
        return fewer, subject.draw_cotangent(np.shape(evaluate(subject, fewer)))
    except NotApplicable:
        return None


CONTRACTS = (
    Contract("no_stale_state", "passes", "a layer that remembers the batch before is wrong from the second batch on", find_stale),
)
