"""A contest: the cases of a network and backends come in, the seconds of every call go out, the harness's way and by hand.

Seconds are processor time of the whole process, every thread of it: on one core that is wall time less what other
processes took. The garbage collector rests meanwhile, or it would strike the one side or the other.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.by_hand import write_by_hand
from harness.backends.jax_grad import wide_types
from harness.cases import make_problem
from harness.core import Backend, Case, Outcome, Problem, Program
from harness.judge.discrepancy import compare_pairs
from harness.judge.verdict import Bench, judge
from harness.shards import guard

SIDES = ("harness", "own")


@dataclass(eq=False)
class Contest:
    """One backend on one network in one dtype: the seconds that each side takes to make its program, and of each run."""

    backend: Backend
    problems: Sequence[Problem]
    layers: Mapping[str, Any]
    making: dict[str, float] = field(default_factory=dict)
    runs: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    programs: dict[str, Any] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def compiles(self) -> bool:
        """Whether making a program means compiling it, at its first run."""
        return self.backend.framework == "jax"

    def record(self) -> dict[str, Any]:
        """Return the seconds by phase and side: in all, and of a typical run.

        Where programs are compiled, `compile` is making one and its first run, less a typical run, and `warm` all
        later runs; elsewhere everything is `warm`.
        """
        found: dict[str, Any] = {"backend": self.backend.name, "dtype": self.problems[0].case.dtype}
        for side, seconds in self.runs.items():
            later = seconds[self.compiles :]
            typical = float(np.median(later)) if later else 0.0
            first = self.making[side] + (seconds[0] - typical if self.compiles else 0.0)
            found |= {f"compile_{side}": first if self.compiles else 0.0, f"typical_{side}": typical}
            found |= {f"warm_{side}": sum(later) + (0.0 if self.compiles else first), "runs": len(later)}
        return found

    def hold(self, rng: np.random.Generator) -> None:
        """Let both sides run every problem; who is first is drawn for the first problem and changes with each next one."""
        order = [str(side) for side in rng.permutation(SIDES)]
        for side in order:
            self._make(side)
        for problem in self.problems:
            returned = {side: self._time(side, problem) for side in order}
            check_same(problem, returned["harness"], returned["own"])
            self.outcomes.append(returned["harness"])
            order.reverse()

    def _make(self, side: str) -> None:
        case = self.problems[0].case
        native = self.backend.variant == "native"
        start = time.process_time()
        if side == "harness":
            self.programs[side] = self.backend.prepare(case.network, case.dtype, self.layers)
        else:
            self.programs[side] = write_by_hand(self.backend.framework, native, self.layers, self.problems[0])
        self.making[side] = time.process_time() - start

    def _time(self, side: str, problem: Problem) -> Any:
        run: Callable[[Problem], Any] = self.programs[side].run
        guarded = partial(guard, run) if side == "harness" else run
        with self._types(side):
            start = time.process_time()
            returned = guarded(problem)
            self.runs[side].append(time.process_time() - start)
        return returned

    def _types(self, side: str) -> AbstractContextManager[Any]:
        """Who writes JAX by hand switches 64-bit types on once, outside; the harness does it in each run."""
        by_hand_in_jax = side == "own" and self.backend.framework == "jax"
        return wide_types(self.problems[0].case.dtype == "float64") if by_hand_in_jax else nullcontext()


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage before, not during."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def check_same(problem: Problem, outcome: Outcome, own: tuple[Any, ...]) -> None:
    """Raise AssertionError when the sides did not do the same work: other gradients, or far from one another."""
    where = problem.case.id
    assert outcome.status == "ok", f"{where}: {outcome.message}"
    assert set(outcome.gradients) == set(own[1]), f"{where}: {sorted(outcome.gradients)} and {sorted(own[1])}"
    for name, value in outcome.gradients.items():
        other = own[1][name]
        assert (value.shape, value.dtype) == (other.shape, other.dtype), f"{where}: {name}: {value!r} and {other!r}"
        finite = np.isfinite(value) & np.isfinite(other)
        apart, size = np.abs(value - other)[finite].max(initial=0.0), np.abs(value[finite]).max(initial=0.0)
        assert apart <= 1e-2 * size + 1e-30, f"{where}: {name} of {size:g} differs by {apart:g}"


@dataclass(eq=False)
class Costs:
    """The seconds of what the harness does beside running: one entry a case, by work and dtype."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def clock(self, work: str, dtype: str, call: Callable[[], Any]) -> Any:
        """Return what the call returns, and keep its seconds."""
        start = time.process_time()
        returned = call()
        self.seconds.setdefault((work, dtype), []).append(time.process_time() - start)
        return returned


def race(
    cases: Sequence[Case],
    backends: Sequence[Backend],
    layers: Mapping[str, Any],
    rng: np.random.Generator,
    costs: Costs,
    judged: int,
) -> list[Contest]:
    """Return the contests of one network, held: one a dtype and backend. The first `judged` cases are judged too."""
    problems = [costs.clock("generate", case.dtype, partial(make_problem, case, layers)) for case in cases]
    contests = []
    with no_collection():
        for dtype in dict.fromkeys(case.dtype for case in cases):
            some = [problem for problem in problems if problem.case.dtype == dtype]
            for backend in backends:
                if backend.prepare(cases[0].network, dtype, layers) is not None:  # it may have nothing of its own to run
                    contests.append(Contest(backend, some, layers))
                    contests[-1].hold(rng)
    for problem in problems[:judged]:
        _judge(problem, layers, [contest for contest in contests if problem in contest.problems], costs)
    return contests


def _judge(problem: Problem, layers: Mapping[str, Any], contests: Sequence[Contest], costs: Costs) -> None:
    """Trace and judge what every backend made of a problem, as `harness.shards` does."""
    bench, dtype = Bench(problem, layers), problem.case.dtype
    outcomes = {contest.backend.name: contest.outcomes[contest.problems.index(problem)] for contest in contests}
    programs: dict[str, Program] = {contest.backend.name: contest.programs["harness"] for contest in contests}
    traces = costs.clock("trace", dtype, lambda: {name: program.trace(problem) for name, program in programs.items()})
    backends = [contest.backend for contest in contests]
    costs.clock("judge", dtype, lambda: [judge(bench, each, outcomes[each.name], traces[each.name]) for each in backends])
    costs.clock("compare", dtype, lambda: compare_pairs(problem.case, outcomes))
