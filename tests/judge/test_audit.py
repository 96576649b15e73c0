"""A problem and rows come in; a failing row for each quantity that they pass over goes out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.cases import make_problem
from harness.core import Case, NetworkSpec, NodeSpec, Outcome
from harness.discovery import find_backends, find_layers
from harness.judge.audit import find_unjudged
from harness.judge.verdict import Bench, judge
from tests.meta.planting import small_cases

LAYERS, BACKENDS = find_layers(), find_backends()
GRAPH = NetworkSpec(
    {"x": 4, "t": 3}, (NodeSpec("affine1", "affine", ("x",), 3), NodeSpec("loss", "mean_squared_error", ("affine1", "t"), 0)), 5
)
KEYS = {("loss", "y"), ("affine1", "dW"), ("affine1", "db"), ("x", "dx")}


def _judged(backend: Any, case: Case) -> tuple[Any, Any, Any]:
    problem = make_problem(case, LAYERS)
    program = backend.prepare(case.network, case.dtype, LAYERS)
    outcome = program.run(problem)
    return problem, outcome, judge(Bench(problem, LAYERS), backend, outcome, program.trace(problem))


@pytest.mark.parametrize("name", ["numpy", "autograd", "numerical"])
def test_nothing_is_passed_over(name):
    problem, outcome, rows = _judged(BACKENDS[name], Case(GRAPH, "float64", seed=1))
    assert find_unjudged(problem, BACKENDS[name], outcome, rows) == []


def test_nothing_is_passed_over_in_any_small_case():
    for case in small_cases()[::5]:
        problem, outcome, rows = _judged(BACKENDS["numpy"], case)
        assert find_unjudged(problem, BACKENDS["numpy"], outcome, rows) == []


@pytest.mark.parametrize("key", sorted(KEYS))
def test_each_quantity_is_missed(key):
    problem, outcome, rows = _judged(BACKENDS["autograd"], Case(GRAPH, "float64", seed=1))
    assert {(row.node, row.quantity) for row in rows} == KEYS
    kept = [row for row in rows if (row.node, row.quantity) != key]
    (missed,) = find_unjudged(problem, BACKENDS["autograd"], outcome, kept)
    assert (missed.node, missed.quantity, missed.verdict, missed.fails) == (*key, "missing", True)
    assert "0 of" in missed.message


def test_numbers_that_were_left_out_are_missed():
    problem, outcome, rows = _judged(BACKENDS["autograd"], Case(GRAPH, "float64", seed=1))
    fewer = [replace(row, n_compared=row.n_compared - 1) if row.quantity == "dW" else row for row in rows]
    (missed,) = find_unjudged(problem, BACKENDS["autograd"], outcome, fewer)
    assert missed.message == "the judge compared 11 of 12 numbers: it passed them over"


def test_a_row_that_fails_has_not_been_passed_over():
    problem, outcome, rows = _judged(BACKENDS["autograd"], Case(GRAPH, "float64", seed=1))
    failing = [replace(row, verdict="shape", n_compared=0) for row in rows]
    assert find_unjudged(problem, BACKENDS["autograd"], outcome, failing) == []


def test_nothing_is_expected_of_what_failed_or_was_projected():
    problem, outcome, _ = _judged(BACKENDS["autograd"], Case(GRAPH, "float64", seed=1))
    assert find_unjudged(problem, BACKENDS["autograd"], Outcome("error"), []) == []
    assert find_unjudged(problem, BACKENDS["autograd"], replace(outcome, directions=3), []) == []
    assert len(find_unjudged(problem, BACKENDS["autograd"], outcome, [])) == len(KEYS)


def test_a_witness_that_was_passed_over_decides_nothing():
    problem, outcome, _ = _judged(BACKENDS["numerical"], Case(GRAPH, "float64", seed=1))
    missed = find_unjudged(problem, BACKENDS["numerical"], outcome, [])
    assert {(row.node, row.quantity) for row in missed} == KEYS - {("loss", "y")}
    assert not any(row.fails for row in missed)
