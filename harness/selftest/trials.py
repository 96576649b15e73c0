"""Trials: a network and a mutation come in, the smallest size of the fault that each check and each rival finds goes out.

A mutation is planted at one node, the network runs and is judged as in any run, and the size is bisected. What is
found without the fault counts for nothing: a method that accuses the right layers was not asked.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from harness.cases import make_problem
from harness.core import Array, Case, Comparison, Outcome, Problem
from harness.discovery import find_backends, find_layers
from harness.isolation import quiet
from harness.judge.local import same_bits
from harness.judge.memory import remember
from harness.judge.precision import find_distance
from harness.judge.propagate import find_values
from harness.judge.verdict import Bench
from harness.mutations.mutation import Mutation, find_mutations, find_named
from harness.mutations.reference import MutatedReference
from harness.mutations.wiring import Wiring, find_wirings
from harness.rivals.rival import Attempt, Rival, find_rivals
from harness.selftest.tables import CHECKS, Alarm, Trial
from harness.shards import ShardResult, _run_backend, guard

STRUCTURAL = {"local": {"contract", "missing", "shape", "dtype"}, "network": {"missing", "shape", "dtype"}}
ABOVE_NOISE = 4.0
SCANNED = 50
Fault = Mutation | Wiring


@dataclass(frozen=True)
class Task:
    """One network in one dtype, with what is asked about it: rivals by name, the slow ones only where `slow`."""

    index: int
    case: Case
    layers: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    slow: bool = False
    seed: int = 0


@dataclass(eq=False)
class Subject:
    """One problem with what is found once for it: the true values, torch's gradients, and what the right layers get."""

    problem: Problem
    layers: Mapping[str, Any]
    bench: Bench

    @cached_property
    def reference(self) -> Outcome:
        """What torch autograd gives on the formulas in the same dtype."""
        case = self.problem.case
        try:
            program = find_backends()["torch"].prepare(case.network, case.dtype, self.layers)
        except ImportError as error:
            return Outcome("unavailable", message=str(error))
        return guard(program.run, self.problem)

    @cached_property
    def right(self) -> Look:
        """The run of the right layers."""
        return Look(self, MutatedReference())


@dataclass(eq=False)
class Look:
    """One run of the layers, with a fault or without: its outcome, its rows and what rivals say, each found when asked for."""

    subject: Subject
    backend: MutatedReference
    answers: dict[str, bool] = field(default_factory=dict)

    @cached_property
    def program(self) -> Any:
        """The network ready to run."""
        case = self.subject.problem.case
        return self.backend.prepare(case.network, case.dtype, self.subject.layers)

    @cached_property
    def outcome(self) -> Outcome:
        """What the layers return."""
        return guard(self.program.run, self.subject.problem)

    @cached_property
    def rows(self) -> list[Comparison]:
        """What the judge says, as in any run."""
        return _run_backend(self.subject.bench, self.backend, {}, {}, ShardResult())

    def is_found_by(self, method: str) -> bool:
        """Whether a check or a rival accuses the run."""
        if method not in self.answers:
            self.answers[method] = sees(self.rows, method) if method in CHECKS else self._is_accused_by(find_rivals()[method])
        return self.answers[method]

    def _is_accused_by(self, rival: Rival) -> bool:
        return rival.accuses(Attempt(self.subject.problem, self.program.run, self.outcome, self.subject.reference))

    def gives_the_same(self, other: Look) -> bool:
        """Whether both runs, and second passes of both, gave bit for bit the same."""
        ours, theirs = self.outcome, other.outcome
        if ours.status != theirs.status or not _same({"y": ours.y, **ours.gradients}, {"y": theirs.y, **theirs.gradients}):
            return False
        return ours.status != "ok" or _same(self._trace(), other._trace())

    def _trace(self) -> dict[str, Any]:
        traced = guard(lambda problem: Outcome("ok", gradients=_flatten(self.program.trace(problem))), self.subject.problem)
        return {**traced.gradients, "message": np.array(traced.message)}


def sees(rows: Sequence[Comparison], method: str) -> bool:
    """Whether a check of the judge, or its verdict, finds something in the rows.

    A check finds an error above its bound, or, where it can see it, that something is missing or broke the contract.
    """
    if method == "verdict":
        return any(row.fails for row in rows)
    names = ("network", "noise") if method == "network" else (method,)
    return any(_sees(row, name) for row in rows for name in names)


def _sees(row: Comparison, check: str) -> bool:
    if row.check == "none" or row.quantity == "trace":  # nothing came back; or two passes differed, which the trace shows
        return row.fails and (row.check == "none" or check == "local")
    if check not in row.check.split("+"):
        return False
    error = getattr(row, f"{check}_error_in_bounds")
    error = row.error_in_bounds if math.isnan(error) and row.check == check else error
    return bool(error > 1) or row.verdict in STRUCTURAL.get(check, ())


def prepare_subject(case: Case, layers: Mapping[str, Any]) -> Subject:
    """Return the case's problem, ready for trials."""
    problem = make_problem(case, layers)
    return Subject(problem, layers, Bench(problem, layers))


def run_named_task(task: Task) -> tuple[list[Trial], list[Alarm]]:
    """Run a task with the layers that discovery finds under its names."""
    return run_task(task, {name: find_layers()[name] for name in task.layers})


def run_task(task: Task, layers: Mapping[str, Any]) -> tuple[list[Trial], list[Alarm]]:
    """Return the trials of every mutation that fits the network, and what the right layers got from checks and rivals."""
    with quiet(), remember():
        subject = prepare_subject(task.case, layers)
        rivals = [name for name in task.rivals if _is_asked(find_rivals()[name], task, subject.problem)]
        methods = [*CHECKS, *rivals]
        alarms = {method: subject.right.is_found_by(method) for method in methods}
        asked = [method for method in methods if not alarms[method]]
        trials = [try_fault(subject, fault, task, asked) for fault in list_faults(task.case, layers)]
    names = {method: f"check:{method}" if method in CHECKS else f"rival:{method}" for method in methods}
    counts = {method: len(subject.right.rows) if method in CHECKS else 1 for method in methods}
    return trials, [Alarm(task.case.dtype, names[key], 1, counts[key], int(accuses)) for key, accuses in alarms.items()]


def _is_asked(rival: Rival, task: Task, problem: Problem) -> bool:
    return rival.fits(problem) and (task.slow or not rival.small_only)


def list_faults(case: Case, layers: Mapping[str, Any]) -> list[Fault]:
    """Return the faults that have a place in the network and change anything in its dtype."""
    kinds = [layers[node.layer] for node in case.network.nodes]
    mutations = [*find_mutations(), *find_named()]
    planted: list[Fault] = [
        fault for fault in mutations if case.dtype in fault.dtypes and any(fault.fits(kind) for kind in kinds)
    ]
    return planted + [fault for fault in find_wirings() if fault.fits(case.network)]


def try_fault(subject: Subject, fault: Fault, task: Task, methods: Sequence[str]) -> Trial:
    """Return the trial of one fault, at a node picked by the task's seed among those that it fits."""
    case, sizes = task.case, getattr(fault, "sizes", ())
    rng = np.random.default_rng([task.seed, task.index, zlib.crc32(fault.name.encode())])
    node = _pick_node(rng, fault, case, subject.layers)
    own: dict[str, Any] = {
        "network": task.index, "case": case.id, "dtype": case.dtype, "kind": fault.name, "family": fault.family,
        "graded": bool(sizes), "node": node.name if node else "", "layer": node.layer if node else "", "sizes": tuple(sizes),
    }  # fmt: skip
    seed = int(rng.integers(2**31))
    looks: dict[int, Look] = {}

    def look(place: int) -> Look:
        if place not in looks:
            looks[place] = Look(subject, _plant(fault, node, sizes[place] if sizes else 0.0, seed))
        return looks[place]

    last = max(len(sizes) - 1, 0)
    if look(last).gives_the_same(subject.right):
        return Trial(**own, equivalent=True)
    if fault.family == "named":
        own |= {"below_noise": _is_below_noise(look(last), subject), "told": is_told(look(last).rows, fault, own["node"])}
    if not sizes:
        return Trial(**own, smallest={method: 0.0 if look(0).is_found_by(method) else math.inf for method in methods})
    scanned = int(rng.integers(SCANNED)) == 0
    places, broken = _bisect_all(look, len(sizes), methods, scanned)
    smallest = {method: math.inf if place is None else float(sizes[place]) for method, place in places.items()}
    return Trial(**own, scanned=scanned, broken=" ".join(broken), smallest=smallest)


def _pick_node(rng: np.random.Generator, fault: Fault, case: Case, layers: Mapping[str, Any]) -> Any:
    if isinstance(fault, Wiring):
        return None
    fitting = [node for node in case.network.nodes if fault.fits(layers[node.layer])]
    return fitting[int(rng.integers(len(fitting)))]


def _plant(fault: Fault, node: Any, size: float, seed: int) -> MutatedReference:
    if isinstance(fault, Wiring):
        return MutatedReference(wiring=fault, seed=seed)
    return MutatedReference(mutations={node.name: (fault, size)}, seed=seed)


def _bisect_all(
    look: Callable[[int], Look], count: int, methods: Sequence[str], scanned: bool
) -> tuple[dict[str, int | None], list[str]]:
    """Return for each method the first size of those found, all larger ones among them, and the methods that skip sizes.

    Bisection takes for granted that a larger fault is found where a smaller one is; `scanned` tries every size.
    """

    def is_found_by(method: str) -> Callable[[int], bool]:
        return lambda place: look(place).is_found_by(method)

    places = {method: bisect_first(is_found_by(method), count) for method in methods}
    if not scanned:
        return places, []
    tried = {method: scan_first(is_found_by(method), count) for method in methods}
    return tried, [method for method in methods if tried[method] != places[method]]


def bisect_first(is_found: Callable[[int], bool], count: int) -> int | None:
    """Return the first place from which on all are found, taking it that there is one such; None when the last is missed.

    >>> bisect_first(lambda place: place >= 3, 8), bisect_first(lambda place: False, 8)
    (3, None)
    """
    if not is_found(count - 1):
        return None
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_found(middle) else (middle + 1, high)
    return high


def scan_first(is_found: Callable[[int], bool], count: int) -> int | None:
    """Return the first place from which on all are found, trying each from the last one down; None when that is missed.

    >>> scan_first(lambda place: place in (2, 5, 6, 7), 8)
    5
    """
    first = None
    for place in reversed(range(count)):
        if not is_found(place):
            break
        first = place
    return first


def _is_below_noise(look: Look, subject: Subject) -> bool:
    """Whether the fault moves no gradient by more than four times the largest error of the right run in it."""
    truth = find_values(subject.problem, subject.bench.layers).gradients
    right, wrong = subject.right.outcome.gradients, look.outcome.gradients
    return look.outcome.status == "ok" and not any(
        name not in wrong
        or np.shape(wrong[name]) != value.shape
        or not _largest(wrong[name], right[name]) <= ABOVE_NOISE * _largest(right[name], value)
        for name, value in truth.items()
    )


def _largest(a: Any, b: Any) -> Any:
    return find_distance(np.asarray(a), b).max(initial=0)


def is_told(rows: Sequence[Comparison], fault: Any, node: str) -> bool:
    """Whether the rows name the defect: the checks of single nodes fail at its node and at no other.

    Where the fault says in `told_by` which words would name it, a message there must hold one of them.
    """
    failing = [row for row in rows if row.fails and row.layer != "input" and (_sees(row, "local") or _sees(row, "lifted"))]
    words = getattr(fault, "told_by", ("",))
    named = any(word in row.message for row in failing for word in words)
    return {row.node for row in failing} == {node} and named


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(same_bits(value, theirs[name]) for name, value in ours.items())


def _flatten(trace: Mapping[str, Any]) -> dict[str, Array]:
    """Return everything that a trace holds, by names of its own."""
    flat: dict[str, Any] = {}
    for node, seen in trace.items():
        flat |= {f"{node} input {i}": value for i, value in enumerate(seen.inputs)}
        flat |= {f"{node} dx {i}": np.array("none") if value is None else value for i, value in enumerate(seen.dx)}
        flat |= {f"{node} d{key}": value for key, value in seen.dparams.items()}
        flat |= {f"{node} y": seen.y, f"{node} dy": seen.dy, f"{node} contract": np.array(seen.contract)}
    return flat
