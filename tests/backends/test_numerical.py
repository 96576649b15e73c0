"""Problems come in; gradients made of values alone, which keep their own doubt, go out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.backends.numerical import (
    DIRECTIONS,
    PER_ELEMENT,
    SAFETY,
    Function,
    Numerical,
    draw_directions,
    is_analytic,
    make_central_estimator,
    make_complex_estimator,
)
from harness.cases import make_problem
from harness.core import PROJECTIONS, USUAL_DTYPES, Case, NetworkSpec, NodeSpec, Outcome, Problem
from harness.judge.oracle import check_precision
from harness.judge.propagate import find_values
from reference_layers import LayerBase

METHODS = {"complex": Numerical(), "central": Numerical(name="numerical:central", analytic=False)}


class Toy(LayerBase):
    """A layer of one formula."""

    place = "map"

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Any, ...]:
        return (rng.standard_normal((batch, width)),)


class Modulus(Toy):
    name = "modulus"

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return xp.abs(x)


class SilentModulus(Toy):
    """Of complex numbers, Python's abs drops the imaginary part without a word."""

    name = "silent"

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return abs(x) * x


class Cube(Toy):
    name = "cube"

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return x**3


def _run(problem: Problem, layers: Any, method: str = "complex") -> Outcome:
    return METHODS[method].prepare(problem.case.network, problem.case.dtype, layers).run(problem)


def _toy(kind: Any, **changes: Any) -> Problem:
    network = NetworkSpec({"x": 4}, (NodeSpec("toy", kind.name, ("x",), 4),), 3)
    return make_problem(Case(network, **{"dtype": "float64", "seed": 1, **changes}), {kind.name: kind})


def _widened(problem: Problem) -> Problem:
    """Return the problem in float64, for which the oracle computes in longdouble."""
    return Problem(
        replace(problem.case, dtype="float64"),
        {node: {key: value.astype(np.float64) for key, value in group.items()} for node, group in problem.params.items()},
        {name: value.astype(np.float64) if value.dtype.kind == "f" else value for name, value in problem.inputs.items()},
        problem.constants,
        problem.dy.astype(np.float64),
    )


def _ratios(problem: Problem, outcome: Outcome, layers: Any) -> np.ndarray:
    """Return every entry's true error over the doubt that it came with."""
    true = find_values(_widened(problem), layers, outcome.decisions).gradients
    if outcome.directions:
        projected = [
            sum(np.sum(true[name] * part) for name, part in d.items()) for d in draw_directions(problem, outcome.directions)
        ]
        true = {PROJECTIONS: np.array(projected)}
    assert set(true) == set(outcome.gradients) == set(outcome.uncertainty)
    parts = [np.abs(outcome.gradients[name] - true[name]) / outcome.uncertainty[name] for name in true]
    return np.concatenate([np.asarray(part, float).ravel() for part in parts])


@pytest.mark.parametrize("method", METHODS)
def test_the_true_error_keeps_within_the_doubt(draw_small, layers, method):
    check_precision("float64")
    ratios = []
    for seed in range(24 if method == "complex" else 16):
        problem = draw_small(seed, USUAL_DTYPES[seed % 2])
        ratios.append(_ratios(problem, _run(problem, layers, method), layers))
    found = np.concatenate(ratios)
    assert found.size > 1000
    assert np.mean(found <= 1) >= 0.99
    assert found.max() < SAFETY


@pytest.mark.parametrize(("method", "largest"), [("complex", 1e-12), ("central", 1e-4)])
def test_the_doubt_is_small_enough_to_say_something(draw_small, layers, method, largest):
    relative = []
    for seed in range(8):
        outcome = _run(draw_small(seed), layers, method)
        relative += [outcome.uncertainty[name] / np.abs(value).max() for name, value in outcome.gradients.items() if value.any()]
    assert np.median(np.concatenate([value.ravel() for value in relative])) < largest


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_gradient_lies_outside_the_doubt(draw_small, layers, method):
    problem = draw_small(3, alone="sigmoid")
    outcome = _run(problem, layers, method)
    wrong = replace(outcome, gradients={name: 1.01 * value for name, value in outcome.gradients.items()})
    assert np.median(_ratios(problem, wrong, layers)) > 1


def test_small_problems_are_done_by_element_and_large_ones_in_directions(layers):
    def affine(width: int) -> Outcome:
        network = NetworkSpec({"x": width}, (NodeSpec("affine1", "affine", ("x",), width),), 2)
        return _run(make_problem(Case(network, "float64", 1), layers), layers)

    small, large = affine(22), affine(24)
    assert 22 * 22 + 22 + 2 * 22 <= PER_ELEMENT["complex"] < 24 * 24 + 24 + 2 * 24
    assert small.directions == 0
    assert small.gradients["affine1.W"].shape == small.uncertainty["affine1.W"].shape == (22, 22)
    assert large.directions == DIRECTIONS
    assert set(large.gradients) == set(large.uncertainty) == {PROJECTIONS}
    assert large.gradients[PROJECTIONS].shape == large.uncertainty[PROJECTIONS].shape == (DIRECTIONS,)


def test_projections_keep_within_their_doubt(layers):
    network = NetworkSpec({"x": 40}, (NodeSpec("affine1", "affine", ("x",), 30), NodeSpec("s", "sigmoid", ("affine1",), 30)), 16)
    for dtype in USUAL_DTYPES:
        problem = make_problem(Case(network, dtype, 1), layers)
        assert _ratios(problem, _run(problem, layers), layers).max() <= 1


def test_directions_are_those_of_the_case_for_whoever_asks(draw_small):
    problem = draw_small(1)
    first, again, other = draw_directions(problem, 3), draw_directions(problem, 3), draw_directions(draw_small(2), 3)
    assert [part.tobytes() for d in first for part in d.values()] == [part.tobytes() for d in again for part in d.values()]
    assert [part.tobytes() for part in first[0].values()] == [part.tobytes() for part in draw_directions(problem, 1)[0].values()]
    assert first[0]["x"].tobytes() != first[1]["x"].tobytes() != other[0]["x"].tobytes()
    sizes = np.abs(np.concatenate([part.ravel() for d in first for part in d.values()]))
    assert 0.5 <= sizes.min() < sizes.max() <= 1


def test_directions_leave_out_what_is_not_differentiated(draw_small):
    problem = draw_small(1, alone="softmax_cross_entropy")
    assert set(draw_directions(problem, 1)[0]) == {"x"}


@pytest.mark.parametrize("method", METHODS)
def test_at_an_exact_kink_the_doubt_is_infinite_and_elsewhere_it_is_not(layers, method):
    network = NetworkSpec({"x": 6}, (NodeSpec("relu1", "relu", ("x",), 6),), 4)
    problem = make_problem(Case(network, "float64", 2, hazards=("relu-zeros",)), layers)
    at_a_kink = problem.inputs["x"] == 0
    assert 0 < at_a_kink.sum() < at_a_kink.size
    assert (np.isinf(_run(problem, layers, method).uncertainty["x"]) == at_a_kink).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_kink_behind_a_projection_is_seen_from_the_parameters_that_move_it(layers, method):
    network = NetworkSpec({"x": 3}, (NodeSpec("affine1", "affine", ("x",), 6), NodeSpec("relu1", "relu", ("affine1",), 6)), 2)
    problem = make_problem(Case(network, "float64", 8, hazards=("relu-zeros",)), layers)
    dead = (problem.params["affine1"]["W"] == 0).all(axis=0) & (problem.params["affine1"]["b"] == 0)
    assert dead.any()
    doubt = _run(problem, layers, method).uncertainty
    assert (np.isinf(doubt["affine1.b"]) == dead).all()
    # Behind negative inputs a step forward closes the gate, which alone would look as if nothing happened.
    assert (problem.inputs["x"] < 0).all()
    assert (np.isinf(doubt["affine1.W"]) == dead).all()


def test_central_differences_shrink_their_step_below_a_near_kink():
    from reference_layers import ReLU

    network = NetworkSpec({"x": 4}, (NodeSpec("relu1", "relu", ("x",), 4),), 1)
    x = np.array([[1e-4, -1e-4, 1.0, -1.0]])
    problem = Problem(Case(network, "float64", 1), {"relu1": {}}, {"x": x}, frozenset(), np.ones((1, 4)))
    outcome = _run(problem, {"relu": ReLU}, "central")
    assert (np.abs(outcome.gradients["x"] - (x > 0)) <= outcome.uncertainty["x"]).all()
    assert outcome.uncertainty["x"].max() < 1e-6


def test_an_empty_batch_is_not_supported_and_says_why(layers):
    network = NetworkSpec({"x": 3, "t": 3}, (NodeSpec("loss", "mean_squared_error", ("x", "t"), 0),), 0)
    outcome = _run(make_problem(Case(network, "float64", 1), layers), layers)
    assert outcome.status == "unsupported"
    assert "empty batch" in outcome.message


def test_all_layers_of_ours_are_analytic(layers):
    assert all(is_analytic(kind) for kind in layers.values())


SLOPES = [(Modulus, np.sign), (SilentModulus, lambda x: 2 * np.abs(x)), (Cube, lambda x: 3 * x**2)]


@pytest.mark.parametrize(("kind", "slope"), SLOPES)
def test_formulas_that_are_not_analytic_are_differentiated_by_central_differences(kind, slope):
    problem = _toy(kind)
    program = Numerical().prepare(problem.case.network, "float64", {kind.name: kind})
    assert program.method == ("complex" if kind is Cube else "central")
    outcome = program.run(problem)
    error = np.abs(outcome.gradients["x"] - problem.dy * slope(problem.inputs["x"]))
    assert (error <= outcome.uncertainty["x"]).all()
    assert outcome.uncertainty["x"].max() < 1e-5


def test_results_are_float64_for_float32_problems_too(draw_small, layers):
    outcome = _run(draw_small(1, "float32"), layers)
    arrays = [outcome.y, *outcome.gradients.values(), *outcome.uncertainty.values()]
    assert {value.dtype.name for value in arrays} == {"float64"}


def test_a_node_that_a_step_does_not_reach_is_not_evaluated_again():
    evaluated: list[str] = []

    class Watched(Cube):
        name = "watched"

        @staticmethod
        def formula(xp: Any, params: Any, x: Any) -> Any:
            evaluated.append("watched")
            return x * 1.0

    network = NetworkSpec({"x": 2, "z": 2}, (NodeSpec("a", "watched", ("x",), 2), NodeSpec("b", "cube", ("z",), 2)), 2)
    problem = make_problem(Case(network, "float64", 1), {"watched": Watched, "cube": Cube})
    function = Function(problem, {"watched": Watched, "cube": Cube}, np.float64)
    evaluated.clear()
    function.value({"z": np.ones((2, 2))}, 0.5)
    assert evaluated == []
    function.value({"x": np.ones((2, 2))}, 0.5)
    assert evaluated == ["watched"]


@pytest.mark.parametrize("make", [make_complex_estimator, make_central_estimator])
def test_the_slope_along_a_direction_is_that_of_the_formula(make):
    problem = _toy(Cube)
    double = Function(problem, {"cube": Cube}, np.float64)
    single = Function(problem, {"cube": Cube}, np.float32)
    direction = draw_directions(problem, 1)[0]
    slope, doubt = make(double, single)(direction)
    exact = np.sum(3 * problem.inputs["x"].astype(np.longdouble) ** 2 * problem.dy * direction["x"])
    assert abs(slope - exact) <= SAFETY * doubt + 16 * np.finfo(float).eps * np.sum(np.abs(3 * problem.inputs["x"] ** 2))
    assert doubt < 1e-6 * abs(slope)


def test_outcomes_tell_the_branches_that_were_taken(draw_small, layers):
    problem = draw_small(2, alone="relu")
    assert (_run(problem, layers).decisions["relu1"] == (problem.inputs["x"] > 0)).all()


def test_both_backends_are_witnesses_that_never_decide():
    assert not any(backend.decides for backend in METHODS.values())
