"""Wrong wirings of random networks come in, in every dtype; a red run that names the value or connection goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from harness.backends.numpy_reference import NumpyReference
from harness.cases import make_problem, plan_cases
from harness.core import DTYPES, Case, Comparison, NetworkSpec, NodeTrace, Outcome, Problem
from harness.discovery import find_layers
from harness.floats import find_format
from harness.isolation import quiet
from harness.judge.local import FAN_OUT
from harness.judge.verdict import split_name
from harness.mutations.reference import MutatedReference
from harness.mutations.sites import Site
from harness.mutations.wiring import Wiring, find_wiring, find_wirings
from harness.shards import run_shard

LAYERS, SEED, GRAPHS, MOST_NUMBERS = find_layers(), 1, 300, 3000
ENOUGH = 4
FORGOTTEN, MISDIRECTED = "gradient of an input left out", "gradient handed to another value"
Place = tuple[str, str]


@dataclass(frozen=True)
class Unseen(MutatedReference):
    """The same, but nobody sees its inside, as with a compiled framework."""

    def prepare(self, *arguments: Any) -> Any:
        return UnseenProgram(super().prepare(*arguments))


@dataclass(frozen=True)
class UnseenProgram:
    program: Any

    def run(self, problem: Problem) -> Outcome:
        return self.program.run(problem)

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace] | None:
        return None


@dataclass(frozen=True)
class Planted:
    """A wiring fault in a case: where it is, and the relative change of every gradient."""

    case: Case
    wiring: Wiring
    site: Site
    changes: Mapping[str, float]

    def judge(self, kind: Any = MutatedReference) -> list[Comparison]:
        return run_shard([self.case], [kind(wiring=self.wiring, seed=SEED)], LAYERS, {}).comparisons


def _size(network: NetworkSpec) -> int:
    return max(*network.widths.values(), *(node.width for node in network.nodes)) * max(network.batch, 1) * len(network.nodes)


@cache
def _cases(dtype: str) -> tuple[Case, ...]:
    """Return cases of random networks, the smaller ones of a seeded plan."""
    plan = plan_cases(GRAPHS, 23, LAYERS, dtypes=(dtype,), hazards=(), draws=1)
    return tuple(case for (case,) in plan if len(case.network.nodes) > 1 and _size(case.network) <= MOST_NUMBERS)


@cache
def _plant(wiring: Wiring, dtype: str) -> tuple[Planted, ...]:
    """Return the cases in which the fault changes a number; where it changes none, there is nothing to find."""
    found: list[Planted] = []
    for case in (case for case in _cases(dtype) if wiring.fits(case.network)):
        problem = make_problem(case, LAYERS)
        program = MutatedReference(wiring=wiring, seed=SEED).prepare(case.network, dtype, LAYERS)
        right = NumpyReference().prepare(case.network, dtype, LAYERS)
        with quiet():
            site, changes = program.build(problem).site, _compare(program.run(problem), right.run(problem))
        if any(changes.values()):
            found.append(Planted(case, wiring, site, changes))
        if len(found) == ENOUGH:
            break
    return tuple(found)


@cache
def _judge_all(wiring: Wiring, dtype: str) -> tuple[tuple[Planted, list[Comparison]], ...]:
    return tuple((planted, planted.judge()) for planted in _plant(wiring, dtype))


def _compare(faulty: Outcome, right: Outcome) -> dict[str, float]:
    """Return by gradient how large the change is beside the gradient; one that is lost or of another shape changed altogether."""
    return {name: _change(faulty.gradients.get(name), value) for name, value in right.gradients.items()}


def _change(got: Any, right: Any) -> float:
    if got is None or np.shape(got) != right.shape:
        return float("inf")
    apart = np.linalg.norm(np.asarray(got, np.float64) - np.asarray(right, np.float64))
    size = np.linalg.norm(np.asarray(right, np.float64))
    return float(apart / size) if size else float(apart and np.inf)


def _shared(network: NetworkSpec, among: Any) -> set[Place]:
    """Return the values that are used more than once, targets of losses aside."""
    used = [name for node in network.nodes for name in node.inputs[: 1 if not node.width else None]]
    return {(name, "dy") for name in among if used.count(name) > 1}


def _places(planted: Planted) -> set[Place]:
    """Return what is wrong first hand: the gradient of a value, or what a node received."""
    site, network, name = planted.site, planted.case.network, planted.wiring.name
    makers = {node.name: node for node in network.nodes}
    if name.startswith("fan-out"):
        return _shared(network, [*network.widths, *makers])
    if name == "a node run before all its gradients are there":
        return _shared(network, makers)
    if name in ("residual added twice", "a use left out", "node skipped backward"):
        return {(makers[site.node].inputs[site.place], "dy")}
    if name == "gradients handed to each other's input":
        return {(value, "dy") for value in makers[site.node].inputs}
    if name == "another value read":
        return {(site.node, f"x{site.place}")}
    return {(network.output.name if name == "cotangent replaced by ones" else site.other, "dy")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wiring", find_wirings(), ids=lambda wiring: wiring.name)
def test_a_wrong_wiring_is_red_and_names_the_place(wiring, dtype):
    judged = _judge_all(wiring, dtype)
    assert len(judged) == ENOUGH
    for planted, rows in judged:
        red = [row for row in rows if row.fails]
        named = {(row.node, row.quantity) for row in red if row.layer == FAN_OUT}
        exact = wiring.name not in (MISDIRECTED, "a node run before all its gradients are there")
        assert named == _places(planted) if exact else named >= _places(planted), planted.case.id
        assert {row.culprit for row in red} == {"your layer"}
        assert wiring.name == FORGOTTEN or wiring.name == MISDIRECTED or "mismatch" in {row.verdict for row in red}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wiring", find_wirings(), ids=lambda wiring: wiring.name)
def test_no_layer_is_accused_of_a_wrong_wiring(wiring, dtype):
    for _, rows in _judge_all(wiring, dtype):
        ran = [row for row in rows if row.layer in LAYERS and row.message != "the node was never run backward"]
        assert ran
        assert [row.message for row in ran if row.local_error_in_bounds > 1 or row.lifted_error_in_bounds > 1] == []
        behind = [row for row in ran if row.fails]
        assert all("what reaches it is wrong, first hand" in row.message for row in behind)
        causes = {f"{row.node}.{row.quantity}" for row in rows if row.fails and row not in behind}
        assert all(any(cause in row.message for cause in causes) for row in behind)


def test_a_gradient_handed_to_another_value_is_missed_where_it_belongs():
    for dtype in DTYPES:
        for planted, rows in _judge_all(find_wiring(MISDIRECTED), dtype):
            node = next(node for node in planted.case.network.nodes if node.name == planted.site.node)
            assert node.inputs[planted.site.place] in {row.node for row in rows if row.fails}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wiring", find_wirings(), ids=lambda wiring: wiring.name)
def test_a_wrong_wiring_inside_what_nobody_can_see_is_red_unless_no_row_claims_to_have_seen_as_much(wiring, dtype):
    found = 0
    for planted in _plant(wiring, dtype)[: ENOUGH - 1]:
        rows = planted.judge(Unseen)
        found += any(row.fails for row in rows)
        if not any(row.fails for row in rows):
            power = {(row.node, row.quantity): row.power for row in rows}
            assert all(change <= power[split_name(name)] for name, change in planted.changes.items()), planted.case.id
    assert found


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_networks_themselves_stay_green(dtype):
    rows = [row for case in _cases(dtype)[:12] for row in run_shard([case], [MutatedReference()], LAYERS, {}).comparisons]
    assert len(rows) > 60
    assert [row for row in rows if row.fails] == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_numbers_told_of_a_residual_added_twice_differ_by_what_was_added(dtype):
    for planted, rows in _judge_all(find_wiring("residual added twice"), dtype):
        (row,) = [row for row in rows if row.layer == FAN_OUT and row.fails]
        assert row.verdict == "mismatch"
        assert row.got == pytest.approx(row.expected + _find_part(planted, row), rel=3 * find_format(dtype).u)


def _find_part(planted: Planted, row: Comparison) -> float:
    """Return what the use that was counted twice contributes at the entry that is told."""
    right = NumpyReference().prepare(planted.case.network, planted.case.dtype, LAYERS)
    problem = make_problem(planted.case, LAYERS)
    with quiet():
        seen = right.trace(problem)[planted.site.node]
    return float(seen.dx[planted.site.place][tuple(map(int, row.worst_index.split()))])
