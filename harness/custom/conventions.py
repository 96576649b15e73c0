"""Conventions: the judge's rows on a trial come in, and go out with what is a choice at an exact kink told as such.

A layer of anybody's names no branches, so that the judge holds it against the one subgradient that the oracle takes. Where
nothing is wrong once the inputs are moved off the kink, and what came at the kink is one of the gradients that are right
there, the difference is a convention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from harness.core import PASSING, Array, Backend, Comparison, freeze
from harness.custom.contracts.contract import NotApplicable
from harness.custom.contracts.nearby import Neighbourhood
from harness.custom.contracts.subject import Subject
from harness.custom.trials import Trial
from harness.floats import is_float
from harness.isolation import quiet
from harness.shards import Programs, ShardResult, guard, run_problem

MOST_TOLD, JUMP, AROUND = 2, 1e-3, 8
BESIDE = 2.0**-10  # so far that float32, too, tells two ties apart


def excuse_kinks(rows: Sequence[Comparison], trial: Trial, backends: Sequence[Backend]) -> list[Comparison]:
    """Return the rows of a trial; a mismatch of an input's gradient that is a choice at a kink is a convention."""
    doubted = {row.backend for row in rows if row.verdict == "mismatch" and _find_place(row, trial) is not None}
    if not doubted or trial.declared.formula is None or trial.declared is not trial.kind:
        return list(rows)
    near = _look_around(trial)
    excused = {backend.name: _find_choices(trial, backend, near) for backend in backends if backend.name in doubted}
    return [_tell(row, excused.get(row.backend, {}), trial) for row in rows]


def _find_place(row: Comparison, trial: Trial) -> int | None:
    """Return which input's gradient a row is about: the node's own, or what reached the input; None where it is another's."""
    names = trial.problem.case.network.output.inputs
    if row.layer == "input" and row.node in names:
        return names.index(row.node)
    if row.node != trial.node or not row.quantity.startswith("dx"):
        return None
    return int(row.quantity[2:]) if row.quantity[2:] else trial.kind.differentiable.index(True)


def _tell(row: Comparison, excused: Mapping[int, str], trial: Trial) -> Comparison:
    place = _find_place(row, trial)
    if row.verdict != "mismatch" or place is None or place not in excused:
        return row
    return replace(row, verdict="convention", culprit="", message=excused[place])


def _find_choices(trial: Trial, backend: Backend, around: Neighbourhood) -> dict[int, str]:
    """Return the inputs in whose gradients a backend is right but for a choice at a kink, with the choice in words.

    Whether there is a kink at all is asked first: judging once more beside it takes as long as the trial did.
    """
    near = replace(around, samples=[*around.samples])  # what one backend makes us look at is no other's
    kinked = [place for place in near.subject.places if _list_kinks(near, place)]
    right = _find_right_beside(trial, backend) if kinked else frozenset()
    got = _run(trial, backend) if right else {}
    said = {place: _judge(near, place, got[place]) for place in kinked if place in right and place in got}
    return {place: words for place, words in said.items() if words}


def _look_around(trial: Trial) -> Neighbourhood:
    """Return the gradients at points all around, none where they are not finite.

    Two opposite points lie on the two sides of a kink, but where three are tied the one in the middle may be the same in both.
    """
    subject = Subject(trial)
    near = Neighbourhood(subject, subject.inputs)
    with quiet(), suppress(NotApplicable):
        near.sample(AROUND)
    return near


def _list_kinks(near: Neighbourhood, place: int) -> list[tuple[int, ...]]:
    """Return the entries whose gradient differs among the points that were looked at."""
    if not near.samples:
        return []
    low, high = near.find_ends(place)
    return [tuple(int(i) for i in index) for index in np.argwhere(high - low > JUMP * near.find_scale(place))]


def _judge(near: Neighbourhood, place: int, got: Array) -> str:
    """Return the choice in words, nothing where what came is none of the gradients near the point."""
    try:
        with quiet():
            if near.find_wrong_entry(place, got) is not None or near.has_wrong_sum(place, got):
                return ""
    except NotApplicable:
        return ""
    kinks, (low, high) = _list_kinks(near, place), near.find_ends(place)
    told = ", ".join(f"{got[at]:.4g} within [{low[at]:.4g}, {high[at]:.4g}] at {list(at)}" for at in kinks[:MOST_TOLD])
    return f"at {len(kinks)} exact kinks it takes another subgradient than the oracle, each of them right: {told}"


def _find_right_beside(trial: Trial, backend: Backend) -> frozenset[int]:
    """Return the inputs whose gradients are right when every input is moved a little, off any kink."""
    rng = np.random.default_rng(0)

    def move(value: Array) -> Array:
        step = BESIDE * (1 + np.abs(value)) * rng.choice([-1.0, 1.0], value.shape) * rng.uniform(0.5, 1.0, value.shape)
        return freeze((value + step).astype(value.dtype))

    inputs = {name: move(value) if is_float(value) else value for name, value in trial.problem.inputs.items()}
    result = ShardResult()
    run_problem(replace(trial.problem, inputs=inputs), [backend], {trial.node: trial.kind}, {}, Programs(), result)
    places = {(place, row.verdict in PASSING) for row in result.comparisons if (place := _find_place(row, trial)) is not None}
    return frozenset(place for place, passes in places if passes and (place, False) not in places)


def _run(trial: Trial, backend: Backend) -> dict[int, Array]:
    """Return the gradients that a backend gives on the trial, by the place of the input; none where it fails."""
    case = trial.problem.case
    program = backend.prepare(case.network, case.dtype, {trial.node: trial.kind})
    outcome = None if program is None else guard(program.run, trial.problem)
    if outcome is None or outcome.status != "ok":
        return {}
    names = case.network.output.inputs
    return {i: np.asarray(outcome.gradients[name], np.float64) for i, name in enumerate(names) if name in outcome.gradients}
