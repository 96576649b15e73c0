"""Networks come in; bounds that hold whatever rounding does, and true values that are sums over paths, go out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cases import make_problem
from harness.core import Case, NetworkSpec, NodeSpec
from harness.discovery import find_backends, find_layers
from harness.judge.propagate import add_up, branch_arguments, exact, find_bounds, find_values, flat, lower
from harness.judge.rounding import make_rounding
from harness.judge.verdict import Bench, judge
from harness.strategies import problems
from reference_layers import Pair, Rounding

NUMPY = find_backends()["numpy"]
LAYERS = find_layers()
FAN = NetworkSpec({"x": 3}, (NodeSpec("sum", "add", ("x", "x"), 3), NodeSpec("product", "multiply", ("sum", "x"), 3)), 4)
GATED = NetworkSpec({"x": 3}, (NodeSpec("gate", "relu", ("x",), 3),), 4)


def _rounding(kind: Any = None, *, coarser: float = 1.0) -> Rounding:
    found = make_rounding("float32", NUMPY.arithmetic, "layer")
    return replace(found, u=found.u * coarser, ua=found.ua * coarser, tiny=found.tiny * coarser)


def _run(problem: Any) -> Any:
    return NUMPY.prepare(problem.case.network, problem.case.dtype, LAYERS).run(problem)


@settings(max_examples=40)
@given(problems(hazards=["fortran", "strided", "relu-zeros", "sigmoid-saturated", "softmax-huge-logits"]))
def test_no_correct_network_leaves_its_bounds(problem):
    program = NUMPY.prepare(problem.case.network, problem.case.dtype, LAYERS)
    with np.errstate(all="ignore"):
        rows = judge(Bench(problem, LAYERS), NUMPY, program.run(problem), program.trace(problem))
    assert [(row.node, row.quantity, row.message) for row in rows if row.fails] == []
    assert all(row.network_error_in_bounds <= 1 for row in rows if "network" in row.check)


@settings(max_examples=40)
@given(problems(dtypes=["float32"], hazards=[]), st.floats(1.5, 8.0))
def test_bounds_grow_with_the_unit_roundoff(problem, coarser):
    with np.errstate(all="ignore"):
        true = find_values(problem, LAYERS)
        fine = find_bounds(problem, LAYERS, true, _rounding)
        coarse = find_bounds(problem, LAYERS, true, lambda kind: _rounding(coarser=coarser))
    assert (coarse.y >= fine.y).all()
    for name, error in fine.gradients.items():
        assert (error >= 0).all()
        assert (coarse.gradients[name] >= error).all()
        assert error.shape == true.gradients[name].shape


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_a_node_receives_with_an_error_leaves_with_at_most_its_bound(name, dtype, make_lone):
    """Moves every input within its error, and looks where the output and the gradients go."""
    kind, rng = LAYERS[name], np.random.default_rng(7)
    problem = make_lone(name, dtype, batch=5)
    node = problem.case.network.nodes[0]
    for size in (1e-6, 1e-3, 0.1):
        errors = {key: np.abs(value) * size * (key not in problem.constants) for key, value in problem.inputs.items()}
        pairs = [Pair(lower(problem.inputs[key]), np.asarray(errors[key], float)) for key in node.inputs]
        moved = {key: _move(rng, value, errors[key]) for key, value in problem.inputs.items()}
        dy = Pair(lower(problem.dy), size * np.abs(problem.dy))
        at, beside = find_values(problem, LAYERS), find_values(_with(problem, moved, _move(rng, problem.dy, dy.error)), LAYERS)
        params, extra = flat(problem.params["node"]), branch_arguments(at.decisions, "node")
        rounding = Rounding(0.0, 0.0, 0.0, 0.0)
        forward = kind.forward_bound(rounding, params, *pairs, *extra)
        backward = kind.backward_bound(rounding, params, *pairs, dy, *extra)
        assert (np.abs(beside.values["node"] - at.values["node"]) <= forward * 1.0001 + 1e-12).all()
        for bound, before, after in zip(backward.dx, at.truths["node"].dx, beside.truths["node"].dx, strict=True):
            if bound is not None:
                assert (np.abs(after - before) <= bound * 1.0001 + 1e-12).all()
        for key, bound in backward.dparams.items():
            change = beside.truths["node"].dparams[key] - at.truths["node"].dparams[key]
            assert (np.abs(change) <= bound * 1.0001 + 1e-12).all()


def _move(rng: Any, value: Any, error: Any) -> Any:
    return (value + error * rng.uniform(-0.999, 0.999, value.shape)).astype(np.float64) if value.dtype.kind == "f" else value


def _with(problem: Any, inputs: Any, dy: Any) -> Any:
    return replace(problem, inputs=inputs, dy=np.asarray(dy, np.float64))


def _problem(network: NetworkSpec, dtype: str = "float64") -> Any:
    from harness.cases import make_problem

    return make_problem(Case(network, dtype, seed=3), LAYERS)


def test_a_value_that_is_used_often_gets_the_sum_over_its_uses():
    problem = _problem(FAN)
    true = find_values(problem, LAYERS)
    x, dy = problem.inputs["x"].astype(np.longdouble), problem.dy
    assert (true.values["product"] == (x + x) * x).all()
    np.testing.assert_allclose(true.gradients["x"].astype(float), (4 * x * dy).astype(float), rtol=1e-15)
    assert (true.dy["product"] == dy).all()


def test_the_output_and_the_gradients_of_a_right_run_lie_within_the_bounds():
    problem = _problem(FAN, "float32")
    true, outcome = find_values(problem, LAYERS), _run(_problem(FAN, "float32"))
    bound = find_bounds(problem, LAYERS, true, _rounding)
    assert (np.abs(outcome.y - true.values["product"]) <= bound.y).all()
    assert (np.abs(outcome.gradients["x"] - true.gradients["x"]) <= bound.gradients["x"]).all()
    assert (bound.gradients["x"] < 1e-5 * np.abs(true.gradients["x"])).all()


def test_the_branches_that_were_taken_are_replayed():
    problem = _problem(GATED)
    own = find_values(problem, LAYERS)
    other = find_values(problem, LAYERS, {"gate": ~own.decisions["gate"]})
    assert (own.gradients["x"] == np.where(problem.inputs["x"] > 0, problem.dy, 0)).all()
    assert (other.gradients["x"] == np.where(problem.inputs["x"] > 0, 0, problem.dy)).all()


def test_a_branch_that_rounding_explains_is_no_fault_and_any_other_is():
    problem = _problem(GATED)
    x = problem.inputs["x"].copy()
    x[0, 0], x[1, 1] = 0.0, 2.0
    problem = replace(problem, inputs={"x": x})
    own = find_values(problem, LAYERS).decisions["gate"]
    for index, wrong in (((0, 0), False), ((1, 1), True)):
        taken = own.copy()
        taken[index] = ~taken[index]
        found = find_bounds(problem, LAYERS, find_values(problem, LAYERS, {"gate": taken}), _rounding)
        assert bool(found.branches) == wrong
    assert found.branches == {"gate": "1 branches no rounding explains, first at (1, 1): 2.0 is known to 0"}


def test_constants_get_no_gradient():
    network = NetworkSpec({"x": 3, "t": 3}, (NodeSpec("loss", "mean_squared_error", ("x", "t"), 0),), 4)
    problem = _problem(network)
    true = find_values(problem, LAYERS)
    assert set(true.gradients) == {"x"}
    assert set(find_bounds(problem, LAYERS, true, _rounding).gradients) == {"x"}


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.floats(0, 1e-3))
def test_a_sum_of_contributions_is_bounded(numbers, error):
    parts = [Pair(np.array([number]), np.array([error])) for number in numbers]
    found = add_up(parts, np.array([sum(numbers)]), _rounding(), "float32")
    single = np.float32(0)
    for number in numbers:
        single += np.float32(number)
    stored = sum(abs(float(np.float32(number)) - number) for number in numbers)
    assert found.error[0] >= error * len(numbers)
    assert abs(float(single) - sum(numbers)) <= found.error[0] + stored + 1e-12


@pytest.mark.parametrize("backend", ["numpy", "torch", "torch:native"])
@pytest.mark.parametrize("gain", [1e2, 1e5])
def test_what_overflows_inside_accuses_nobody(backend, gain):
    """A gradient beyond 65504 on the way, infinite in float16, where what is asked for is a number again."""
    nodes = (NodeSpec("m", "multiply", ("x", "z"), 3), NodeSpec("a", "affine", ("m",), 3), NodeSpec("s", "affine", ("a",), 3))
    case = Case(NetworkSpec({"x": 3, "z": 3}, nodes, 4), "float16", seed=5, scale=1e-3, gain=gain)
    problem = make_problem(case, LAYERS)
    found = find_backends()[backend]
    program = found.prepare(case.network, case.dtype, LAYERS)
    with np.errstate(all="ignore"):
        outcome = program.run(problem)
        rows = judge(Bench(problem, LAYERS), found, outcome, program.trace(problem))
    assert bool(np.isfinite(np.asarray(outcome.gradients["z"], np.float64)).all()) == (gain < 1e4)
    assert [(row.node, row.quantity, row.message) for row in rows if row.fails] == []
    assert {row.verdict for row in rows if row.node == "z"} == ({"ok"} if gain < 1e4 else {"powerless"})


@pytest.mark.parametrize("backend", ["numpy", "torch", "torch:native"])
def test_what_comes_of_a_true_infinity_accuses_nobody_but_a_number_in_its_place_does(backend):
    """An infinite cotangent: the sigmoid's slope underflows or not, so that inf or NaN comes back where the truth is NaN."""
    nodes = (NodeSpec("a", "affine", ("x",), 1), NodeSpec("s", "sigmoid", ("a",), 1), NodeSpec("b", "affine", ("s",), 1))
    case = Case(NetworkSpec({"x": 1}, nodes, 2), "float16", seed=5)
    problem = make_problem(case, LAYERS)
    params = {"a": {"W": np.ones((1, 1), np.float16), "b": np.zeros(1, np.float16)}, "b": problem.params["b"]}
    inputs, dy = {"x": np.array([[-30.0], [1.0]], np.float16)}, np.array([[np.inf], [-np.inf]], np.float16)
    problem = replace(problem, inputs=inputs, params={**problem.params, **params}, dy=dy)
    found = find_backends()[backend]
    program = found.prepare(case.network, case.dtype, LAYERS)
    with np.errstate(all="ignore"):
        outcome, trace = program.run(problem), program.trace(problem)
        rows = judge(Bench(problem, LAYERS), found, outcome, trace)
        made_up = replace(outcome, gradients={**outcome.gradients, "a.W": np.ones((1, 1), np.float16)})
        told = judge(Bench(problem, LAYERS), found, made_up, None)
    assert not np.isfinite(np.asarray(outcome.gradients["a.W"], np.float64)).any()
    assert [(row.node, row.quantity, row.message) for row in rows if row.fails] == []
    assert [(row.node, row.quantity) for row in told if row.fails] == [("a", "dW")]


def test_pairs_are_exact_in_float64():
    pair = exact(np.array([1, 2], np.float32))
    assert (pair.value.dtype, pair.error.tolist()) == (np.float64, [0.0, 0.0])
    assert lower(np.array([1, 2])).dtype.kind == "i"
    assert flat({"W": np.ones(2, np.longdouble)})["W"].dtype == np.float64
    assert branch_arguments({"a": np.array([True])}, "b") == ()
