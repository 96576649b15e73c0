"""Right and wrong float32 runs come in; a spread that right ones stay far within goes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cases import make_problem
from harness.core import Case, NetworkSpec, NodeSpec
from harness.discovery import find_backends, find_layers
from harness.judge.noise import THRESHOLD, _move, find_spread
from harness.judge.rounding import make_rounding
from harness.judge.verdict import Bench, find_network
from tests.meta.planting import small_cases

LAYERS, NUMPY = find_layers(), find_backends()["numpy"]
CASES = [case for case in small_cases() if case.dtype == "float32" and case.network.batch and not case.hazards]


def _rounding(kind: Any) -> Any:
    return make_rounding("float32", NUMPY.arithmetic, "layer")


def _spread(case: Case) -> tuple[Any, Any, Any, Any]:
    """Return what a right run gave, the truth, the spread and the proven bounds, with the branches of the run."""
    problem = make_problem(case, LAYERS)
    program = NUMPY.prepare(case.network, case.dtype, LAYERS)
    outcome, trace = program.run(problem), program.trace(problem)
    taken = {name: seen.inputs[0] > 0 for name, seen in trace.items() if name.startswith("relu")}
    bench = Bench(problem, LAYERS)
    true, bound = find_network(bench, NUMPY, taken)
    return outcome.gradients, true.gradients, find_spread(problem, LAYERS, true, bound, _rounding), bound.gradients


def _ratios(case: Case) -> list[float]:
    got, true, spread, _ = _spread(case)
    return [
        float((np.abs(got[name] - true[name]) / np.where(spread[name] > 0, spread[name], np.inf)).max(initial=0.0))
        for name in true
    ]


def test_right_runs_stay_within_half_of_the_threshold():
    ratios = [ratio for case in CASES for ratio in _ratios(case)]
    assert len(ratios) > 100
    assert max(ratios) < 0.5


def test_the_spread_is_far_sharper_than_the_proven_bounds_in_deep_networks():
    deep = max(CASES, key=lambda case: len(case.network.nodes))
    _, true, spread, bound = _spread(deep)
    assert len(deep.network.nodes) > 8
    assert np.median([np.median(bound[name] / spread[name]) for name in true if spread[name].all()]) > 2


def test_the_spread_is_the_same_each_time():
    _, _, first, _ = _spread(CASES[0])
    _, _, second, _ = _spread(CASES[0])
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_spread_grows_with_the_rounding():
    problem = make_problem(CASES[0], LAYERS)
    bench = Bench(problem, LAYERS)
    true, bound = find_network(bench, NUMPY, {})
    fine = find_spread(problem, LAYERS, true, bound, _rounding)
    coarse = find_spread(problem, LAYERS, true, bound, lambda kind: make_rounding("float16", NUMPY.arithmetic, "layer"))
    assert all((coarse[name] >= fine[name]).all() for name in fine)
    assert any((coarse[name] > 100 * fine[name]).all() for name in fine)


@given(st.floats(-1e3, 1e3, width=32), st.integers(0, 20))
def test_equal_values_are_moved_alike(value, run):
    moved = _move(np.full(5, value), np.full(5, 1e-3), "x", run, "float32")
    assert len(set(moved)) == 1
    assert abs(moved[0] - value) <= 1e-3 * (1 + 1e-9)


def test_other_values_places_and_runs_are_moved_apart():
    values, error = np.linspace(1, 2, 2000), np.ones(2000)
    noise = {(place, run): _move(values, error, place, run, "float32") - values for place in "ab" for run in (0, 1)}
    for one, two in ((("a", 0), ("a", 1)), (("a", 0), ("b", 0))):
        assert abs(np.corrcoef(noise[one], noise[two])[0, 1]) < 0.1
    for moved in noise.values():
        assert abs(moved.mean()) < 0.1
        assert moved.std() == pytest.approx(1 / np.sqrt(3), rel=0.1)
        assert abs(np.corrcoef(moved[1:], moved[:-1])[0, 1]) < 0.1


def test_where_proven_bounds_are_blunt_the_noise_judges_and_finds_one_percent():
    """Judges a deep, untraced float32 network, right and with one gradient 1 % too large."""
    from harness.backends.autograd_hips import HipsAutograd
    from harness.judge.verdict import judge

    network = _deep(14)
    problem = make_problem(Case(network, "float32", seed=5, gain=3.0), LAYERS)
    backend = HipsAutograd()
    outcome = backend.prepare(network, "float32", LAYERS).run(problem)
    rows = judge(Bench(problem, LAYERS), backend, outcome, None)
    judged = [row for row in rows if "noise" in row.check]
    assert judged
    assert [row for row in rows if row.fails] == []
    for row in judged:
        name = row.node if row.node == "x" else f"{row.node}.{row.quantity[1:]}"
        outcome.gradients[name] = (1.01 * outcome.gradients[name]).astype(np.float32)
        found = [other for other in judge(Bench(problem, LAYERS), backend, outcome, None) if other.node == row.node]
        if row.power <= 0.005:
            assert any(other.fails for other in found)


def _deep(blocks: int) -> NetworkSpec:
    """Return a chain of wide maps, so deep that pairs of values and bounds lose their power."""
    nodes, tip = [], "x"
    for block in range(1, blocks + 1):
        nodes += [
            NodeSpec(f"affine{block}", "affine", (tip,), 48),
            NodeSpec(f"sigmoid{block}", "sigmoid", (f"affine{block}",), 48),
        ]
        tip = f"sigmoid{block}"
    return NetworkSpec({"x": 48}, tuple(nodes), 16)


def test_the_threshold_is_far_from_one_standard_deviation():
    assert THRESHOLD >= 8
