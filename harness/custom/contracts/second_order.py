"""The contract second_order: a torch or JAX function differentiated twice gives the formula's second derivative."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import CLOSE
from harness.custom.contracts.contract import Contract, NotApplicable, Note, describe_error
from harness.custom.contracts.subject import Inputs, Subject
from harness.custom.contracts.truth import ALREADY, differentiate, list_suspects
from harness.floats import is_float

STEP = 2.0**-16
NOTHING = 1e-6  # what differences of numbers near 1 leave of 0
ROUNDED = {"float64": CLOSE, "float32": 10 * CLOSE}


def find_second_order_wrong(subject: Subject) -> str | Note:
    """Weigh dx at random and differentiate that by x and dy: along lines, it is how the formula's own dx changes.

    Where nobody said that second derivatives are offered, a wrong one is a note: torch offers them for every function, and
    most that are right to first order save what cuts them off. Where it is said, one that is refused is a failure too.
    """
    layer = subject.make().layer
    if not hasattr(layer, "pull_twice"):
        raise NotApplicable("only torch and JAX functions can be differentiated twice")
    rng = np.random.default_rng(0)
    if not subject.places:
        raise NotApplicable("no input of floats is differentiated")
    if any(f"dx{i}" in list_suspects(subject) for i in subject.places):
        raise NotApplicable(ALREADY)
    floats = [i for i, value in enumerate(subject.inputs) if is_float(value)]
    weights = [_draw(rng, subject.inputs[i], i in subject.places) for i in floats]
    try:
        found = layer.pull_twice(subject.inputs, subject.dy, weights)
    except (Exception, SystemExit) as error:  # reason: as in `look`; what refuses to be differentiated twice is loud
        if subject.trial.kind.second_order:
            raise
        raise NotApplicable(f"it offers no second derivative: {describe_error(error)}") from None
    for _ in range(2):
        along = [*(_draw(rng, subject.inputs[i], i in subject.places) for i in floats), _draw(rng, subject.dy)]
        terms = np.array([np.sum(np.asarray(part, np.float64) * line) for part, line in zip(found, along, strict=True)])
        size = sum(float(np.sum(np.abs(part * line))) for part, line in zip(found, along, strict=True))
        change = _find_change(subject, weights, along)
        if not np.isfinite(change):
            raise NotApplicable("the formula's second derivative is not finite")
        if not abs(terms.sum() - change) <= ROUNDED[subject.dtype.name] * (size + abs(change)) + NOTHING:
            words = (
                f"its second derivative is not the formula's: {terms.sum():.6g} along a line, not {change:.6g}; save inputs and "
                "outputs alone for a backward pass that is to be differentiated, or refuse it (torch: once_differentiable)"
            )
            return words if subject.trial.kind.second_order else Note(words)
    return ""


def _draw(rng: np.random.Generator, value: Array, differentiated: bool = True) -> Array:
    return (rng.standard_normal(value.shape) * differentiated).astype(value.dtype)


def _find_change(subject: Subject, weights: list[Array], along: list[Array]) -> float:
    """Return how fast the weighed dx of the formula changes along the line, from its difference over a short piece."""
    ends = []
    for step in (np.float64(-STEP), np.float64(STEP)):
        lines = iter(along)
        inputs: Inputs = tuple(value + step * next(lines) if is_float(value) else value for value in subject.inputs)
        dx = differentiate(subject, inputs, np.asarray(subject.dy + step * next(lines))).dx
        ends.append(sum(float(np.sum(part * weight)) for part, weight in zip(_drop_constants(subject, dx), weights, strict=True)))
    return (ends[1] - ends[0]) / (2 * STEP)


def _drop_constants(subject: Subject, dx: tuple[Any, ...]) -> list[Any]:
    """Return the gradients of the inputs of floats, 0 for those that are constants."""
    return [0.0 if part is None else part for part, value in zip(dx, subject.inputs, strict=True) if is_float(value)]


CONTRACTS = (
    Contract(
        "second_order",
        "orders",
        "gradient penalties and Hessians differentiate the backward pass, which is silently cut off from what it saved",
        find_second_order_wrong,
    ),
)
