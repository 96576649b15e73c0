"""Rivals as nouns: a run of hand-written layers and a reference come in, whether a tool would have failed the run goes out.

Each rival is the tool itself with its default tolerances, so that what it finds and what it misses is its own.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from harness.core import DTYPES, Array, BadInput, Outcome, Problem
from harness.isolation import quiet


class LayerFailed(Exception):
    """The layers under test raised, or returned no gradient, while a rival ran them: that fails any test."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """What a rival is given: a problem, and the function that runs the layers under test on any such problem.

    `outcome` is what that gave on this problem, `reference` what torch autograd gives on it in the same dtype.
    """

    problem: Problem
    run: Callable[[Problem], Outcome]
    outcome: Outcome
    reference: Outcome


@dataclass(frozen=True)
class Rival:
    """One tool: `tool` is what a user calls it, `framework` what it needs; `most` is how many numbers it may be asked to vary.

    `judge(attempt)` is the tool's own answer; `against_itself` says that it compares the layers with differences of
    their own forward pass, so that a fault of both passes is invisible to it.
    """

    name: str
    tool: str
    framework: str
    why: str
    judge: Callable[[Attempt], bool]
    dtypes: tuple[str, ...] = DTYPES
    most: int | None = None
    against_itself: bool = False

    @property
    def small_only(self) -> bool:
        """Whether it is too slow for networks of any size."""
        return self.most is not None

    def fits(self, problem: Problem) -> bool:
        """Whether the tool can be asked about this problem."""
        return problem.case.dtype in self.dtypes and (self.most is None or count_numbers(problem) <= self.most)

    def accuses(self, attempt: Attempt) -> bool:
        """Whether the tool would have failed this run; layers that raise fail any test."""
        if attempt.outcome.status != "ok":
            return True
        try:
            with quiet():
                return self.judge(attempt)
        except LayerFailed:
            return True


@cache
def find_rivals() -> dict[str, Rival]:
    """Return every rival by its name, from the modules beside this one; none of their frameworks is imported."""
    import harness.rivals as package

    modules = [importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return {rival.name: rival for module in modules for rival in getattr(module, "RIVALS", ())}


def choose_rivals(wanted: str) -> list[Rival]:
    """Return the rivals of the tools that are wanted, comma-separated, "all" or "none". Raises BadInput on an unknown tool.

    >>> [rival.name for rival in choose_rivals("allclose")]
    ['allclose']
    """
    from harness.discovery import choose

    tools = dict.fromkeys(rival.tool for rival in find_rivals().values())
    chosen = [] if wanted == "none" else choose("rival", wanted, tools)
    return [rival for tool in chosen for rival in find_rivals().values() if rival.tool == tool]


def find_absent(rivals: Sequence[Rival]) -> dict[str, str]:
    """Return the rivals whose framework cannot be imported, with what the import said."""
    absent = {}
    for rival in rivals:
        try:
            with quiet():
                importlib.import_module(rival.framework)
        except ImportError as error:
            absent[rival.name] = str(error)
    return absent


def take_leaves(problem: Problem) -> dict[str, Array]:
    """Return the arrays that are differentiated, by the names of their gradients."""
    params = {f"{node}.{key}": value for node, group in problem.params.items() for key, value in group.items()}
    return {**params, **{name: value for name, value in problem.inputs.items() if name not in problem.constants}}


def count_numbers(problem: Problem) -> int:
    """Return how many numbers a tool has to vary for a full Jacobian."""
    return sum(value.size for value in take_leaves(problem).values())


def move(problem: Problem, leaves: Mapping[str, Any], dy: Any = None) -> Problem:
    """Return the problem at other values of its leaves, in the same dtypes and shapes, and with another cotangent if given."""
    old = take_leaves(problem)
    new = {name: np.asarray(leaves[name]).astype(old[name].dtype).reshape(old[name].shape) for name in old}
    params = {node: {key: new[f"{node}.{key}"] for key in group} for node, group in problem.params.items()}
    inputs = {name: new.get(name, value) for name, value in problem.inputs.items()}
    given = problem.dy if dy is None else np.asarray(dy).astype(problem.dy.dtype).reshape(problem.dy.shape)
    return replace(problem, params=params, inputs=inputs, dy=given)


def run_at(attempt: Attempt, leaves: Mapping[str, Any], dy: Any = None) -> Outcome:
    """Return what the layers give at other values. Raises LayerFailed when they raise."""
    try:
        outcome = attempt.run(move(attempt.problem, leaves, dy))
    except Exception as error:  # reason: strangers' code may raise anything, and that is an answer
        raise LayerFailed(str(error)) from error
    if outcome.status != "ok":
        raise LayerFailed(outcome.message)
    return outcome


def gradients_at(attempt: Attempt, leaves: Mapping[str, Any], dy: Any) -> dict[str, Array]:
    """Return the gradient of every leaf, shaped like it. Raises LayerFailed when one is missing or has another shape."""
    gradients = run_at(attempt, leaves, dy).gradients
    for name, value in take_leaves(attempt.problem).items():
        if name not in gradients or np.shape(gradients[name]) != value.shape:
            raise LayerFailed(f"the gradient of {name} is missing or has another shape")
    return {name: np.asarray(gradients[name]) for name in leaves}


def name_results(outcome: Outcome) -> dict[str, Any]:
    """Return the output and the gradients by name."""
    return {"y": outcome.y, **outcome.gradients}


def check_reference(name: str, attempt: Attempt) -> None:
    """Raise BadInput where the reference that a comparison needs did not run."""
    if attempt.reference.status != "ok":
        raise BadInput(f"--against {name}: it needs torch's gradients, and torch gave {attempt.reference.message!r}")
