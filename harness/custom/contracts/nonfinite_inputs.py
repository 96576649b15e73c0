"""The contract nonfinite_inputs: NaN and infinity that come in are not swallowed, and are gone with their pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import list_parted
from harness.custom.contracts.contract import Contract, NotApplicable, Note, describe_error
from harness.custom.contracts.subject import Inputs, Subject, run_pass
from harness.custom.contracts.truth import differentiate, evaluate

FAR = (1e3, 2e3)


@dataclass
class _Said:
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_swallowed(subject: Subject) -> str | Note:
    """Put one NaN or infinity among the inputs, and NaN into all of the cotangent; then see whether the next pass is clean.

    Where a layer raises, gives NaN for the formula's infinity, or takes NaN for one side of a comparison behind which it is
    constant (`np.where(x > 0, x, 0)`), that is a note: right layers do so.
    """
    places = [i for i in subject.places if subject.inputs[i].size]
    if not places:
        raise NotApplicable("no input of floats is differentiated")
    said = _Said()
    for value in (np.nan, np.inf, -np.inf):
        _put(subject, places[0], value, said)
    _put_cotangent(subject, said)
    return "; ".join(said.wrong) if said.wrong or not said.notes else Note("; ".join(said.notes))


def _put(subject: Subject, place: int, value: float, said: _Said) -> None:
    inputs = _plant(subject, place, value)
    right, layer = evaluate(subject, inputs), subject.make()
    try:
        found = run_pass(layer, inputs, subject.dy)
        again = run_pass(layer, subject.inputs, subject.dy)
    except (Exception, SystemExit) as error:  # reason: as in `look`; what is loud here is no failure
        said.notes.append(f"an input of {value} raises {describe_error(error)}")
        return
    if parted := list_parted(again, subject.alone):
        said.wrong.append(f"a pass over an input of {value} changes the pass after it: {parted}")
    y = np.asarray(found.y)
    if y.shape != right.shape:
        said.wrong.append(f"an input of {value} changes the shape of the output to {list(y.shape)}")
        return
    swallowed = np.isfinite(y) & ~np.isfinite(right)
    if swallowed.any():
        known = value != value and not _is_flat(subject, place, y, swallowed)
        (said.wrong if known else said.notes).append(f"for an input of {value} it gives {_tell(y, right, swallowed)}")
    spread = np.isnan(y) & ~np.isnan(right)
    if spread.any():
        said.notes.append(f"for an input of {value} it gives {_tell(y, right, spread)}")


def _plant(subject: Subject, place: int, value: float) -> Inputs:
    inputs = [np.array(one) for one in subject.inputs]
    inputs[place].flat[inputs[place].size // 2] = value
    return tuple(inputs)


def _is_flat(subject: Subject, place: int, y: Array, where: Array) -> bool:
    """Whether the output is what the layer gives far out on one side, whatever the number there."""
    for sign in (-1, 1):
        near, far = (np.asarray(subject.make().forward(*_plant(subject, place, sign * size))) for size in FAR)
        if np.array_equal(near[where], far[where]) and np.array_equal(near[where], y[where]):
            return True
    return False


def _tell(y: Array, right: Array, where: Array) -> str:
    index = tuple(int(i) for i in np.argwhere(where)[0])
    at = "".join(f"[{i}]" for i in index)
    return f"y{at} = {y[index]:.6g} where the formula gives {right[index]:.6g}, in {int(where.sum())} of {y.size} entries"


def _put_cotangent(subject: Subject, said: _Said) -> None:
    dy = np.full_like(subject.dy, np.nan)
    right = differentiate(subject, subject.inputs, dy).name_gradients()
    try:
        found = subject.run(dy=dy).name_gradients()
    except (Exception, SystemExit) as error:  # reason: as above
        said.notes.append(f"a cotangent of NaN raises {describe_error(error)}")
        return
    for name, value in right.items():
        got = found.get(name)
        if value is not None and got is not None and np.isnan(value).any() and np.size(got) and np.isfinite(got).all():
            said.wrong.append(f"for a cotangent of NaN {name} is finite in all entries")


CONTRACTS = (
    Contract(
        "nonfinite_inputs",
        "points",
        "a NaN that is swallowed hides that training has diverged, and one that is kept never goes away",
        find_swallowed,
    ),
)
