"""The contract kinks: at ties and exact kinks a layer's gradient is one of those that are right there.

Which one is a convention: what the layer takes is told, beside what the frameworks take of the same formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from harness.core import Array, Problem
from harness.custom.contracts.comparing import CLOSE
from harness.custom.contracts.contract import Contract, NotApplicable, Note
from harness.custom.contracts.nearby import Neighbourhood
from harness.custom.contracts.subject import Inputs, Pass, Subject
from harness.custom.contracts.truth import ALREADY, evaluate, list_suspects

USUAL = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0)
MOST_TOLD = 3


def find_outside(subject: Subject) -> str | Note:
    """Go to every point where formulas of layers have kinks, and compare with the gradients nearby."""
    if not subject.places:
        raise NotApplicable("no input of floats is differentiated")
    if any(f"dx{i}" in list_suspects(subject) for i in subject.places):
        raise NotApplicable(ALREADY)
    wrong, notes, judged = list[str](), list[str](), 0
    for name, inputs in _list_points(subject):
        with suppress(NotApplicable):
            said = _visit(subject, name, inputs)
            wrong, notes, judged = wrong + said[0], notes + said[1], judged + 1
    if wrong:
        return "; ".join(wrong)
    if not judged:
        raise NotApplicable("the formula gives no finite numbers at 0, 1 and the like, nor at ties")
    if not notes:
        raise NotApplicable("the formula has no kink at 0, 1 and the like, nor at ties")
    return Note("; ".join(notes[:MOST_TOLD]))


def _visit(subject: Subject, name: str, inputs: Inputs) -> tuple[list[str], list[str]]:
    """Return what is wrong at a point, and what may be told. Raises NotApplicable where the formula has no numbers there."""
    near, wrong, notes = Neighbourhood(subject, inputs), list[str](), list[str]()
    near.sample(1)
    if not np.isfinite(evaluate(subject, inputs)).all():
        raise NotApplicable("the formula is not finite at this point")
    found = subject.run(inputs)
    for place in subject.places:
        said = _judge(near, place, found)
        wrong += [f"{name} {said}"] if said else []
        notes += [] if said else _describe_kink(near, place, found, name)
    if not wrong and _shares_wrongly(near, found):
        wrong.append(f"{name} the inputs that share a gradient have more or less of it in all than there is to share")
    return wrong, notes


def _list_points(subject: Subject) -> Iterator[tuple[str, Inputs]]:
    """Yield points at which entries are 0, usual bounds, equal to one another, or to another input, or 1 apart from it."""
    yield "at inputs of 0", _fill(subject, lambda x: np.zeros_like(x))
    yield "at inputs of 0, 1/2, 1, 2, 3 and 6", _fill(subject, lambda x: np.resize(USUAL, x.shape).astype(x.dtype))
    yield "at equal inputs", _fill(subject, lambda x: np.full_like(x, 0.75))
    for i in subject.places:
        for j, other in enumerate(subject.inputs):
            if (i < j or j not in subject.places) and i != j and other.shape == subject.inputs[i].shape:
                for step, words in ((0, "equal to"), (1, "1 above"), (-1, "1 below")):
                    value = (other + step).astype(subject.dtype)
                    yield f"at input {i} {words} input {j}", tuple(value if k == i else x for k, x in enumerate(subject.inputs))


def _fill(subject: Subject, change: Any) -> Inputs:
    return tuple(change(value) if i in subject.places else value for i, value in enumerate(subject.inputs))


def _shares_wrongly(near: Neighbourhood, found: Pass) -> bool:
    got = {i: found.dx[i] for i in near.subject.places if i < len(found.dx) and found.dx[i] is not None}
    whole = len(got) == len(near.subject.places) and all(np.isfinite(value).all() for value in got.values())
    return whole and all(value.shape == near.inputs[i].shape for i, value in got.items()) and near.has_wrong_total(got)


def _judge(near: Neighbourhood, place: int, found: Pass) -> str:
    """Return how the gradient of one input is none of the right ones."""
    got = found.dx[place] if place < len(found.dx) else None
    if got is None or np.shape(got) != near.inputs[place].shape:
        return ""  # that is for gradient_shapes to tell
    if near.shares_undefined(place, got):
        return ""
    if (index := near.find_wrong_entry(place, got)) is not None:
        low, high = (float(end[index]) for end in near.find_ends(place))
        return f"dx{place}{_tell(index)} is {got[index]:.6g}; right is anything from {low:.6g} to {high:.6g}"
    if near.has_wrong_sum(place, got):
        return f"the entries of dx{place} that share a gradient have more or less of it in all than there is to share"
    return ""


def _describe_kink(near: Neighbourhood, place: int, found: Pass, name: str) -> list[str]:
    """Return which of the right gradients the layer takes, at the entry that leaves most choice; nothing where none is left."""
    low, high = near.find_ends(place)
    got = found.dx[place] if place < len(found.dx) else None
    if got is None or not low.size or (high - low).max() <= CLOSE * near.find_scale(place):
        return []
    index = tuple(int(i) for i in np.unravel_index(int((high - low).argmax()), low.shape))
    alike = np.shape(found.y) == low.shape
    unit = float(near.subject.dy[index]) if alike else 1.0
    ends = sorted(float(end[index]) / unit + 0.0 for end in (low, high))
    takes = [f"the layer takes {got[index] / unit + 0.0:.4g}"]
    takes += [f"{other} {value[index] / unit + 0.0:.4g}" for other, value in _ask_frameworks(near, place)]
    what = f"dx{place}{_tell(index)}{' / dy' if alike else ''}"
    return [f"{name} {what} is right from {ends[0]:.4g} to {ends[1]:.4g}: {', '.join(takes)}"]


def _ask_frameworks(near: Neighbourhood, place: int) -> Iterator[tuple[str, Array]]:
    """Yield what each framework gives as this input's gradient at the point itself."""
    problem = near.subject.trial.problem
    names = problem.case.network.output.inputs
    moved: Problem = replace(
        problem,
        inputs={k: value.astype(problem.inputs[k].dtype) for k, value in zip(names, near.inputs, strict=True)},
    )
    for framework, run in near.subject.frameworks.items():
        value = run(moved).gradients.get(names[place])
        if value is not None and value.shape == near.inputs[place].shape:
            yield framework, np.asarray(value, np.float64)


def _tell(index: tuple[int, ...]) -> str:
    return "".join(f"[{i}]" for i in index)


CONTRACTS = (
    Contract(
        "kinks",
        "points",
        "zeros and ties are common in trained networks, and random inputs never meet one",
        find_outside,
    ),
)
