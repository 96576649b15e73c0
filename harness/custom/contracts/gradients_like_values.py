"""The contracts gradient_shapes and gradient_dtypes: every value has a gradient of its own shape and dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.contracts.contract import Contract, NotApplicable
from harness.custom.contracts.subject import Subject


def find_misshapen(subject: Subject) -> str:
    """Compare the shapes; a gradient that is missing has none."""
    found = subject.alone
    wrong = [
        _tell_missing(name) if got is None else f"{name} has the shape {list(np.shape(got))}, not {list(value.shape)}"
        for name, value, got in _pair(subject)
        if got is None or np.shape(got) != value.shape
    ]
    if len(found.dx) > len(subject.inputs):
        wrong.append(f"backward returns {len(found.dx)} gradients for {len(subject.inputs)} inputs")
    return "; ".join(wrong)


def _tell_missing(name: str) -> str:
    """Return that it is missing and, of a loss's target or another input that needs none, how to say so."""
    place = name.removeprefix("dx")
    return f"{name} is missing" + (f": constants=({place},) declares an input that has no gradient" if place.isdigit() else "")


def find_recast(subject: Subject) -> str:
    """Compare the dtypes. A layer that computes everything in one narrower dtype does so on purpose, and is not asked."""
    pairs = [(name, value.dtype, np.asarray(got).dtype) for name, value, got in _pair(subject) if got is not None]
    wrong = [f"{name} is {got} where its value is {own}" for name, own, got in pairs if got != own]
    kinds = {got for _, _, got in pairs} | {np.asarray(subject.alone.y).dtype}
    if len(kinds) == 1 and (only := kinds.pop()).kind == "f" and only.itemsize < subject.dtype.itemsize:
        raise NotApplicable(f"the layer computes in {only} whatever it is given: check it with dtypes=[{only.name!r}]")
    return "; ".join(wrong)


def _pair(subject: Subject) -> Iterator[tuple[str, Array, Any]]:
    """Yield the name of each gradient, the value that it belongs to, and what came back."""
    found = subject.alone
    for i in subject.places:
        yield f"dx{i}", subject.inputs[i], found.dx[i] if i < len(found.dx) else None
    for name, value in subject.params.items():
        yield f"d{name}", value, found.grads.get(name)


CONTRACTS = (
    Contract(
        "gradient_shapes",
        "results",
        "an optimizer that adds a gradient of another shape to its value broadcasts in silence",
        find_misshapen,
    ),
    Contract(
        "gradient_dtypes",
        "results",
        "one float64 gradient in a float32 network turns everything that it meets into float64",
        find_recast,
    ),
)
