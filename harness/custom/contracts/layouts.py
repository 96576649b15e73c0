"""The contract layouts: a layer gives the same for the same numbers, however they lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import list_apart
from harness.custom.contracts.contract import Contract, describe_error
from harness.custom.contracts.subject import Inputs, Pass, Subject, run_pass


def find_bound_to_layout(subject: Subject) -> str:
    """Give the same numbers in other layouts; sums may be taken in another order then, so that roundings may differ."""
    wrong = []
    for name, change in LAYOUTS.items():
        inputs, dy = tuple(change(value) for value in subject.inputs), change(subject.dy)
        wrong.append(_compare(subject, f"{name} arrays", inputs, dy, lambda: subject.alone))
    same = np.broadcast_to(subject.dy.ravel()[:1].reshape(()), subject.dy.shape) if subject.dy.size else subject.dy
    wrong.append(
        _compare(subject, "a broadcast cotangent", subject.inputs, same, lambda: subject.run(dy=np.array(same, order="C")))
    )
    rows = tuple(np.broadcast_to(value[:1], value.shape) if value.ndim and value.size else value for value in subject.inputs)
    copies = tuple(np.array(value, order="C") for value in rows)
    wrong.append(_compare(subject, "broadcast inputs", rows, subject.dy, lambda: subject.run(copies)))
    return "; ".join(text for text in wrong if text)


def _compare(subject: Subject, what: str, inputs: Inputs, dy: Array, find_right: Callable[[], Pass]) -> str:
    """Run the layer itself, not what lends it copies of read-only arrays."""
    right = find_right()
    try:
        found = run_pass(subject.make().layer, inputs, dy)
    except (Exception, SystemExit) as error:  # reason: as in `look`; the layout belongs into the message
        return f"{what}: it raises {describe_error(error)}"
    apart = list_apart(subject, found, right, inputs, dy)
    return f"{what}: it gives other numbers: {apart}" if apart else ""


def _make_strided(value: Array) -> Array:
    if not value.ndim:
        return value
    spaced = np.zeros([2 * size for size in value.shape], value.dtype)
    view = spaced[(slice(None, None, 2),) * value.ndim]
    view[...] = value
    return view


def _make_read_only(value: Array) -> Array:
    copy = value.copy()
    copy.setflags(write=False)
    return copy


LAYOUTS: Mapping[str, Callable[[Array], Array]] = {
    "read-only": _make_read_only, "Fortran-ordered": lambda value: np.array(value, order="F"), "strided": _make_strided,
}  # fmt: skip

CONTRACTS = (
    Contract(
        "layouts",
        "arrays",
        "slices, transposes and gradients of sums arrive as they are: read-only, columns first, with gaps, or broadcast",
        find_bound_to_layout,
    ),
)
