"""The contract integer_inputs: whole numbers given as integers are computed with or refused, and leave nothing behind."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import are_close, list_parted
from harness.custom.contracts.contract import Contract, NotApplicable, Note
from harness.custom.contracts.subject import Pass, Subject, go_back, run_pass
from harness.floats import is_float


def find_truncated(subject: Subject) -> str | Note:
    """Give the same numbers as integers and as floats, then floats again to the layer that was given integers.

    A layer that takes its dtype from its input (`zeros_like(x)`, `x.dtype.type(0.5)`) is right for floats, and cuts off what
    it makes of integers: that is a note, and so is what differs in the gradients. A buffer made for integers in which floats
    are cut off from then on is a failure. What is raised is loud.
    """
    if not subject.places:
        raise NotApplicable("no input of floats is differentiated")
    floats = tuple(np.rint(3 * np.nan_to_num(value)) if is_float(value) else value for value in subject.inputs)
    whole = tuple(value.astype(np.int64) if i in subject.places else value for i, value in enumerate(floats))
    layer, right = subject.make(), subject.run(floats)
    try:
        y = np.array(layer.forward(*whole))
    except (Exception, SystemExit):  # reason: as in `look`; a layer may refuse integers, loudly
        return ""
    said = _look_at_gradients(subject, layer, right) if are_close(y, right.y) else Note(_tell(y, right.y))
    if parted := list_parted(run_pass(layer, subject.inputs, subject.dy), subject.alone):
        return f"a pass over integers changes the pass over floats after it: {parted}"
    return said


def _tell(y: Array, right: Array) -> str:
    if y.shape != np.shape(right):
        return f"for integers the output has the shape {list(y.shape)}, for the same floats {list(np.shape(right))}"
    worst = np.unravel_index(int(np.argmax(np.abs(np.nan_to_num(y.astype(float) - right)))), y.shape)
    at = "".join(f"[{i}]" for i in worst)
    return f"for integers it gives y{at} = {y[worst]:.6g} ({y.dtype}), for the same numbers as floats {right[worst]:.6g}"


def _look_at_gradients(subject: Subject, layer: Any, right: Pass) -> str | Note:
    try:
        found = go_back(layer, right.y, subject.dy)
    except (Exception, SystemExit):  # reason: as above
        return ""
    ours, theirs = found.name_gradients(), right.name_gradients()
    cut = [name for name, value in ours.items() if value is not None and not are_close(value, theirs.get(name))]
    return Note(f"for integers it gives other gradients than for the same numbers as floats: {', '.join(cut)}") if cut else ""


CONTRACTS = (
    Contract(
        "integer_inputs",
        "points",
        "pixels and counts arrive as integers, and what is computed in arrays made like them is cut off in silence",
        find_truncated,
    ),
)
