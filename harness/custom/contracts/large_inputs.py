"""The contract large_inputs: at 1e3 and -1e3 a layer gives no NaN where the function it computes has a finite value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.contracts.contract import Contract, NotApplicable, Note, describe_error
from harness.custom.contracts.subject import Inputs, Pass, Subject
from harness.custom.contracts.truth import differentiate

LARGE = 1e3
WIDE: np.dtype[Any] = np.dtype(np.longdouble)  # its exponents go far enough for exp(1e3), where those of float64 do not


def find_undefined(subject: Subject) -> str | Note:
    """Compare where numbers are with where the formula in longdouble has some. An overflow or an error is loud: a note."""
    if not subject.places:
        raise NotApplicable("no input of floats is differentiated")
    wrong, notes, asked = [], [], False
    for name, inputs in _enlarge(subject):
        right = differentiate(subject, inputs, subject.dy, WIDE)
        here = {key: _find_representable(value, subject.dtype) for key, value in right.name().items() if value is not None}
        asked = asked or any(where.any() for where in here.values())
        try:
            found = subject.run(inputs)
        except (Exception, SystemExit) as error:  # reason: as in `look`; what is loud here is no failure
            notes.append(f"at {name} it raises {describe_error(error)}")
            continue
        wrong += [f"at {name} {text}" for text in _list(found, here, np.isnan, "NaN")]
        notes += [f"at {name} {text}" for text in _list(found, here, np.isinf, "infinite")]
    if not asked:
        raise NotApplicable("the formula has no finite value at inputs of 1e3")
    return "; ".join(wrong) if wrong or not notes else Note("; ".join(notes))


def _enlarge(subject: Subject) -> Iterator[tuple[str, Inputs]]:
    for name, change in (("inputs of 1e3 and -1e3", np.sign), ("inputs times 1e3", np.array)):
        yield (
            name,
            tuple(
                np.asarray(LARGE * change(value), value.dtype) if i in subject.places else value
                for i, value in enumerate(subject.inputs)
            ),
        )


def _find_representable(value: Any, dtype: np.dtype[Any]) -> Array:
    out: Array = np.isfinite(value) & (np.abs(value) < np.finfo(dtype).max)
    return out


def _list(found: Pass, here: dict[str, Array], is_bad: Any, word: str) -> list[str]:
    ours, texts = found.name(), []
    for name, where in here.items():
        got = ours.get(name)
        if got is not None and np.shape(got) == where.shape and (bad := int((is_bad(got) & where).sum())):
            texts.append(f"{name} is {word} in {bad} of {where.size} entries where the formula's value is finite")
    return texts


CONTRACTS = (
    Contract(
        "large_inputs",
        "points",
        "one sample far out makes a NaN of the loss, and of every parameter after the next step",
        find_undefined,
    ),
)
