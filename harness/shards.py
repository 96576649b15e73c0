"""Shards: cases that share a network come in, their comparisons, discrepancies and seconds by phase go out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.array_api import Unsupported
from harness.cases import make_problem
from harness.core import PASSING, Backend, BadInput, Case, Comparison, Discrepancy, NodeTrace, Outcome, Problem, Program, Status
from harness.isolation import quiet
from harness.judge.audit import find_unjudged
from harness.judge.culprit import name_culprits
from harness.judge.discrepancy import compare_pairs
from harness.judge.lifted import can_lift, judge_lifted, lift_problem
from harness.judge.local import FAN_OUT
from harness.judge.measure import Measure
from harness.judge.oracle import OracleFault
from harness.judge.rounding import make_rounding
from harness.judge.verdict import Bench, judge
from harness.strangers import RAISED, is_out_of_memory, tell

EVERYTHING = ("network", "all")
Programs = dict[tuple[str, str], Program | Outcome | None]


@dataclass(eq=False)
class ShardResult:
    """What became of a shard: its rows, and the seconds of each phase (generate, compile, run, trace, judge, compare)."""

    comparisons: list[Comparison] = field(default_factory=list)
    discrepancies: list[Discrepancy] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run_shard(
    cases: Sequence[Case], backends: Sequence[Backend], layers: Mapping[str, Any], localisers: Mapping[str, Backend]
) -> ShardResult:
    """Run and judge cases on backends; each network is prepared once a backend and dtype, however many draws it has.

    Whatever a layer or a backend raises becomes a row. When a row of a backend fails, the backend named by its
    `localiser` runs too, to say at which node.
    """
    result, programs = ShardResult(), Programs()
    with quiet():
        for case in cases:
            _run_case(case, backends, layers, localisers, programs, result)
    return result


def _run_case(
    case: Case, backends: Sequence[Backend], layers: Mapping[str, Any], localisers: Mapping[str, Backend],
    programs: Programs, result: ShardResult,
) -> None:  # fmt: skip
    try:
        problem = _clock(result.seconds, "generate", make_problem, case, layers)
    except BadInput:
        raise
    except RAISED as error:  # reason: a stranger's formula, or what draws its inputs, may raise anything
        result.comparisons += [_tell_undrawn(case, backend, tell(error)) for backend in backends]
        return
    run_problem(problem, backends, layers, localisers, programs, result)


def _tell_undrawn(case: Case, backend: Backend, message: str) -> Comparison:
    """Return the row of a case that has no numbers, because a formula gave none."""
    return Comparison(
        case=case.id, network=case.network.digest, hazards="+".join(case.hazards), backend=backend.name, variant=backend.variant,
        dtype=case.dtype, node="network", layer="network", quantity="all", check="none", verdict="error", decides=backend.decides,
        culprit="formula", message=f"no problem could be drawn: {message}",
    )  # fmt: skip


def run_problem(
    problem: Problem, backends: Sequence[Backend], layers: Mapping[str, Any], localisers: Mapping[str, Backend],
    programs: Programs, result: ShardResult,
) -> None:  # fmt: skip
    """Run and judge one problem on backends and add what came of it to `result`.

    `programs` holds what was prepared for its network before, and takes what is prepared now.
    """
    bench, outcomes, found = Bench(problem, layers), dict[str, Outcome](), list[Comparison]()
    for backend in backends:
        rows = _run_backend(bench, backend, programs, outcomes, result)
        localiser = localisers.get(getattr(backend, "localiser", ""))
        if localiser is not None and any(row.fails for row in rows):
            rows += _run_backend(bench, localiser, programs, {}, result)
        found += rows
    result.comparisons += name_culprits(found, layers)
    result.discrepancies += _clock(result.seconds, "compare", compare_pairs, problem.case, outcomes)


def _run_backend(
    bench: Bench, backend: Backend, programs: Programs, outcomes: dict[str, Outcome], result: ShardResult
) -> list[Comparison]:
    """Run one backend on one problem and judge it; a backend that has nothing of its own for the network gives no row."""
    case, seconds = bench.problem.case, result.seconds
    key = (backend.name, case.dtype)
    if key not in programs:
        programs[key] = _clock(seconds, "prepare", _prepare, backend, case, bench.layers)
    program = programs[key]
    if program is None:
        return []
    outcome = program if isinstance(program, Outcome) else _clock(seconds, "run", guard, program.run, bench.problem)
    outcomes[backend.name] = outcome
    add_seconds(seconds, {"compile": outcome.compile_seconds, "run": -outcome.compile_seconds})
    trace: Any = None
    if outcome.status == "ok" and not isinstance(program, Outcome):
        trace = _clock(seconds, "judge", _trace, program, bench.problem)
    if isinstance(trace, Outcome):
        return judge(bench, backend, trace, None)
    try:
        lifted = _clock(seconds, "lift", _lift, bench, backend, program, programs) if trace is not None else {}
        rows: list[Comparison] = _clock(seconds, "judge", judge, bench, backend, outcome, trace, lifted)
        if any(_is_unconfirmed(row, lifted) for row in rows):
            rows = _clock(seconds, "lift", _confirm, bench, backend, programs, rows, lifted)
        return rows + find_unjudged(bench.problem, backend, outcome, rows)
    except (OracleFault, Unsupported) as fault:
        return judge(bench, backend, Outcome("error", message=f"the formula cannot serve as truth: {fault}"), None)
    except RAISED as error:  # reason: what strangers' code returned may be nothing that can be judged, or it raises only now
        failed = _failed(error)
        return judge(bench, backend, replace(failed, status="error", message=f"it cannot be judged: {failed.message}"), None)


def _prepare(backend: Backend, case: Case, layers: Mapping[str, Any]) -> Program | Outcome | None:
    try:
        return backend.prepare(case.network, case.dtype, layers)
    except ImportError as error:
        return _failed(error, "unavailable")
    except RAISED as error:  # reason: strangers' code may raise anything, and the run goes on
        return _failed(error)


def _lift(bench: Bench, backend: Backend, program: Any, programs: Programs) -> dict[tuple[str, str], Measure]:
    """Return the measures of the backend's own code one precision up; nothing where it cannot run there."""
    dtype = bench.problem.case.dtype
    if not getattr(program, "lifts", False) or not can_lift(dtype):
        return {}
    lifted = lift_problem(bench.problem)
    key = (backend.name, lifted.case.dtype)
    if key not in programs:
        programs[key] = _prepare(backend, lifted.case, bench.layers)
    raised = programs[key]
    if raised is None or isinstance(raised, Outcome):
        return {}

    def run(problem: Problem) -> Mapping[str, NodeTrace] | None:
        program = raised if problem.case.network is lifted.case.network else _prepare(backend, problem.case, bench.layers)
        trace = program if isinstance(program, Outcome) else _trace(program, problem)  # type: ignore[arg-type]  # reason: a backend that lifts prepares every network
        return None if isinstance(trace, Outcome) else trace

    return judge_lifted(
        lifted, dtype, bench.layers, run, lambda name, kind: make_rounding(name, backend.arithmetic, backend.rule(kind))
    )


def _is_unconfirmed(row: Comparison, lifted: Mapping[tuple[str, str], Measure]) -> bool:
    """Whether an accumulation in the narrow dtype explains the row, and nothing of it was judged one precision up.

    What is summed up from the rows of nodes, an input's gradient for instance, is confirmed with them.
    """
    if row.verdict != "reduced-precision":
        return False
    return not lifted or (row.layer not in ("input", FAN_OUT, "network") and (row.node, row.quantity) not in lifted)


def _confirm(
    bench: Bench, backend: Backend, programs: Programs, rows: list[Comparison], known: Mapping[tuple[str, str], Measure]
) -> list[Comparison]:
    """Return the rows; accumulation explains nothing that the whole network still gets wrong when it runs one precision up."""
    lifted = lift_problem(bench.problem)
    key = (backend.name, lifted.case.dtype)
    if key not in programs:
        programs[key] = _prepare(backend, lifted.case, bench.layers)
    program = programs[key]
    outcome = program if isinstance(program, Outcome) else guard(program.run, lifted) if program is not None else Outcome("error")
    again = judge(Bench(lifted, bench.layers), backend, outcome, None)
    wrong = {(row.node, row.quantity): row.message for row in again if row.verdict not in PASSING}
    return [
        replace(
            row, verdict="mismatch", message=f"the formula is wrong, not its rounding: {wrong.get(key, wrong.get(EVERYTHING))}"
        )
        if _is_unconfirmed(row, known) and ((key := (row.node, row.quantity)) in wrong or EVERYTHING in wrong)
        else row
        for row in rows
    ]


def _trace(program: Program, problem: Problem) -> Mapping[str, NodeTrace] | Outcome | None:
    try:
        return program.trace(problem)
    except RAISED as error:  # reason: as above
        return _failed(error)


def guard(run: Callable[[Problem], Outcome], problem: Problem) -> Outcome:
    """Return the outcome, or one with the failure that was raised; only an interruption passes through."""
    try:
        outcome = run(problem)
    except RAISED as error:  # reason: as above
        return _failed(error)
    return outcome if isinstance(outcome, Outcome) else Outcome("error", message=f"it returned {outcome!r:.80}, no Outcome")


def _failed(error: BaseException, status: Status = "error") -> Outcome:
    status = "unsupported" if isinstance(error, Unsupported) else "memory" if is_out_of_memory(error) else status
    text = tell(error)
    return Outcome(status, message=text + (" (an array that it was given was changed in place)" if "read-only" in text else ""))


def add_seconds(seconds: dict[str, float], more: Mapping[str, float]) -> None:
    """Add seconds by phase to those that are there."""
    for phase, value in more.items():
        seconds[phase] = seconds.get(phase, 0.0) + value


def _clock(seconds: dict[str, float], phase: str, work: Callable[..., Any], *arguments: Any) -> Any:
    start = time.perf_counter()
    try:
        return work(*arguments)
    finally:
        add_seconds(seconds, {phase: time.perf_counter() - start})
