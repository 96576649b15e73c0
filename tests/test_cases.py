"""Plans and cases come in; distinct graphs, hazards as asked, and arrays that hold what the case says go out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.array_api import make_numpy_namespace
from harness.backends.graph import evaluate, pick_calls
from harness.cases import OPEN_SHARE, SHAPE_HAZARDS, find_case, list_hazards, make_problem, plan_cases
from harness.core import USUAL_DTYPES, BadInput, Case, NetworkSpec, NodeSpec, Problem, case_from_json

LINE = NetworkSpec(
    widths={"x": 6, "t": 5},
    nodes=(
        NodeSpec("affine1", "affine", ("x",), 5),
        NodeSpec("relu1", "relu", ("affine1",), 5),
        NodeSpec("loss", "softmax_cross_entropy", ("relu1", "t"), 0),
    ),
    batch=8,
)


def _plan(layers, count, seed=1, hazards=None, draws=1, dtypes=USUAL_DTYPES) -> list[Case]:
    names = list(list_hazards(layers)) if hazards is None else hazards
    return [case for cases in plan_cases(count, seed, layers, dtypes=dtypes, hazards=names, draws=draws) for case in cases]


def _alone(layer: str, **changes: Any) -> Case:
    network = NetworkSpec({"x": 12}, (NodeSpec("only", layer, ("x",), 12),), 16)
    return Case(network, **{"dtype": "float64", "seed": 3, **changes})


def _values(problem: Problem, layers) -> dict[str, Any]:
    network = problem.case.network
    call = pick_calls(network, layers, make_numpy_namespace(), "numpy", None)
    return evaluate(network, call, problem.params, problem.inputs)


def _arrays(problem: Problem) -> dict[str, Any]:
    params = {f"{node}.{key}": value for node, group in problem.params.items() for key, value in group.items()}
    return {**params, **problem.inputs, "dy": problem.dy}


def test_a_plan_has_as_many_cases_as_asked_in_graphs_that_are_all_different(layers):
    lists = list(plan_cases(50, 1, layers, dtypes=USUAL_DTYPES, hazards=[], draws=8))
    assert [len(cases) for cases in lists] == [8, 8, 8, 8, 8, 8, 2]
    assert all(len({case.network.digest for case in cases}) == 1 for cases in lists)
    assert len({cases[0].network.digest for cases in lists}) == len(lists)
    assert len({case.id for cases in lists for case in cases}) == 50


def test_a_plan_of_a_thousand_graphs_repeats_none(layers):
    assert len({case.network.digest for case in _plan(layers, 1000)}) == 1000


def test_a_plan_is_the_same_for_the_same_seed_and_shares_no_case_with_another(layers):
    assert _plan(layers, 30) == _plan(layers, 30)
    assert not {case.id for case in _plan(layers, 30)} & {case.id for case in _plan(layers, 30, seed=2)}


def test_a_longer_plan_begins_with_the_shorter_one(layers):
    assert _plan(layers, 60, draws=4)[:30] == _plan(layers, 30, draws=4)


def test_every_hazard_that_is_asked_for_comes_up_and_no_other(layers):
    everything = {name for case in _plan(layers, 600, draws=2) for name in case.hazards}
    assert everything == set(list_hazards(layers))
    some = {name for case in _plan(layers, 200, draws=2, hazards=["strided", "relu-zeros", "batch-0"]) for name in case.hazards}
    assert some == {"strided", "relu-zeros", "batch-0"}
    assert not any(case.hazards for case in _plan(layers, 100, hazards=[]))


def test_most_cases_have_no_hazard(layers):
    plan = _plan(layers, 1000, draws=2)
    assert 0.4 < np.mean([not case.hazards for case in plan]) < 0.7


def test_hazards_of_shape_and_storage_are_what_they_say(layers):
    for case in _plan(layers, 600, draws=2):
        sizes = {*case.network.widths.values(), *(node.width for node in case.network.nodes)} - {0}
        assert (case.network.batch == 0) == ("batch-0" in case.hazards)
        assert (case.network.batch == 1) == ("batch-1" in case.hazards)
        assert (sizes == {1}) == ("width-1" in case.hazards)
        assert case.storage == next((name for name in ("fortran", "strided") if name in case.hazards), "C")


def test_dtypes_take_turns(layers):
    assert [case.dtype for case in _plan(layers, 4, draws=4)] == ["float64", "float32", "float64", "float32"]
    assert {case.dtype for case in _plan(layers, 8, draws=4, dtypes=["float32"])} == {"float32"}


def test_a_plan_of_few_layers_holds_only_these(layers):
    some = {name: layers[name] for name in ("affine", "relu")}
    assert {node.layer for case in _plan(some, 30) for node in case.network.nodes} == {"affine", "relu"}


def test_every_layer_comes_up_alone(layers):
    singles = {case.network.nodes[0].layer for case in _plan(layers, 100) if len(case.network.nodes) == 1}
    assert singles == set(layers)


def test_a_plan_that_runs_out_of_graphs_says_so(layers, monkeypatch):
    monkeypatch.setattr("harness.networks.LARGEST_WIDTH", 5)
    monkeypatch.setattr("harness.networks.LARGEST_BATCH", 3)
    with pytest.raises(BadInput, match=r"--cases: the layers \['relu'\] give no more than \d+ different graphs"):
        _plan({"relu": layers["relu"]}, 10**6)


def test_an_id_finds_its_case_again(layers):
    case = _plan(layers, 40, draws=20)[27]
    assert find_case(case.id, layers, USUAL_DTYPES) == case


@pytest.mark.parametrize(
    ("name", "message"),
    [("s1n1", "accepted is an id such as"), ("s1n1d1-f64-00000000", "the default plan gives s1n1d1-f32-")],
)
def test_an_id_of_no_case_is_refused(layers, name, message):
    with pytest.raises(BadInput, match=message):
        find_case(name, layers, USUAL_DTYPES)


def test_a_problem_is_the_same_each_time_and_from_json(layers):
    for case in _plan(layers, 40):
        first, second = make_problem(case, layers), make_problem(case_from_json(case.to_json()), layers)
        for name, value in _arrays(first).items():
            assert value.tobytes() == _arrays(second)[name].tobytes()


def test_everything_in_a_problem_is_read_only_and_in_the_dtype_of_the_case(layers):
    for case in _plan(layers, 60):
        for name, value in _arrays(make_problem(case, layers)).items():
            assert not value.flags.writeable
            assert value.dtype == (np.int64 if name == "t" and value.ndim == 1 else np.dtype(case.dtype))


def test_the_cotangent_is_bounded_away_from_zero_with_both_signs(layers):
    case = _alone("relu", dtype="float32")
    dy = make_problem(case, layers).dy
    assert dy.shape == (16, 12)
    assert np.abs(dy).min() >= 0.5
    assert np.abs(dy).max() <= 2
    assert {-1.0, 1.0} == set(np.sign(dy).ravel())
    assert len(np.unique(dy)) > 100


def test_labels_are_integers_one_hot_or_weights_that_sum_to_one(layers):
    def targets(labels):
        return make_problem(Case(LINE, "float64", 1, labels=labels), layers).inputs["t"]

    integer, one_hot, soft = targets("integer"), targets("one_hot"), targets("soft")
    assert integer.shape == (8,)
    assert 0 <= integer.min() <= integer.max() < 5
    assert one_hot.tolist() == np.eye(5)[integer].tolist()
    assert soft.shape == (8, 5)
    assert soft.min() >= 0
    # A sum of five numbers that were each rounded once.
    assert np.abs(soft.sum(axis=1) - 1).max() <= 8 * np.finfo(float).eps


def test_targets_are_constants_and_other_inputs_are_not(layers):
    assert make_problem(Case(LINE, "float64", 1), layers).constants == {"t"}
    assert make_problem(_alone("relu"), layers).constants == frozenset()


def test_scale_multiplies_the_inputs(layers):
    one, ten = (make_problem(_alone("sigmoid", scale=scale), layers).inputs["x"] for scale in (1.0, 8.0))
    assert (ten == 8 * one).all()


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e2])
def test_gain_is_the_size_of_what_a_projection_makes_whatever_the_inputs(layers, scale):
    problem = make_problem(Case(LINE, "float64", 1, scale=scale, gain=2.0), layers)
    assert np.std(_values(problem, layers)["affine1"]) == pytest.approx(2.0, rel=1e-6)


def test_gates_are_open_often_enough_to_see_a_gradient(layers):
    for case in _plan(layers, 100, hazards=[]):
        problem = make_problem(case, layers)
        values = _values(problem, layers)
        for node in case.network.nodes:
            if node.layer == "relu" and node.inputs[0].startswith("affine"):
                assert np.mean(values[node.inputs[0]] > 0) >= OPEN_SHARE / 2


def test_relu_zeros_plants_exact_zeros_of_both_signs_at_the_rectifier(layers):
    direct = make_problem(_alone("relu", hazards=("relu-zeros",)), layers).inputs["x"]
    zeros = direct[direct == 0]
    assert 0 < zeros.size < direct.size
    assert {False, True} == set(np.signbit(zeros))


@pytest.mark.parametrize("dtype", USUAL_DTYPES)
def test_relu_zeros_reaches_a_rectifier_behind_a_projection(layers, dtype):
    problem = make_problem(Case(LINE, dtype, 5, hazards=("relu-zeros",)), layers)
    before = _values(problem, layers)["affine1"]
    assert (before == 0).all(axis=0).any()
    assert not (before == 0).all()


def test_sigmoid_saturated_reaches_hundreds(layers):
    largest = [
        np.abs(make_problem(_alone("sigmoid", seed=seed, hazards=("sigmoid-saturated",)), layers).inputs["x"]).max()
        for seed in range(10)
    ]
    assert max(largest) > 500
    assert np.median(largest) > 100


def test_huge_logits_reach_ten_thousand(layers):
    network = NetworkSpec({"x": 12, "t": 12}, (NodeSpec("only", "softmax_cross_entropy", ("x", "t"), 0),), 16)
    problem = make_problem(Case(network, "float32", 1, hazards=("softmax-huge-logits",)), layers)
    assert np.abs(problem.inputs["x"]).max() > 1e4


def test_a_hazard_of_values_changes_nothing_where_it_is_not_asked_for(layers):
    assert not (make_problem(_alone("relu"), layers).inputs["x"] == 0).any()


@pytest.mark.parametrize("storage", ["C", "fortran", "strided"])
def test_storage_is_what_it_says_and_changes_no_number(layers, storage):
    case = Case(LINE, "float32", 1, storage=storage)
    arrays, plain = _arrays(make_problem(case, layers)), _arrays(make_problem(replace(case, storage="C"), layers))
    for name, value in arrays.items():
        assert (value == plain[name]).all()
    for name in ("x", "affine1.W"):
        flags = arrays[name].flags
        assert (flags.c_contiguous, flags.f_contiguous) == {
            "C": (True, False),
            "fortran": (False, True),
            "strided": (False, False),
        }[storage]


def test_an_empty_batch_gives_empty_inputs_and_whole_parameters(layers):
    problem = make_problem(Case(replace(LINE, batch=0), "float64", 1), layers)
    assert problem.inputs["x"].shape == (0, 6)
    assert problem.params["affine1"]["W"].shape == (6, 5)
    assert np.isfinite(problem.params["affine1"]["W"]).all()


def test_an_unknown_layer_is_named_with_those_that_are_accepted(layers):
    case = Case(NetworkSpec({"x": 2}, (NodeSpec("n", "gelu", ("x",), 2),), 2), "float64", 1)
    with pytest.raises(BadInput, match="node 'n': unknown layer 'gelu'; accepted are add, affine, "):
        make_problem(case, layers)


def test_hazards_of_shape_declare_what_must_hold():
    assert SHAPE_HAZARDS["batch-0"].declares == ("empty", "zero", "nan")
    assert all(not hazard.declares for hazard in SHAPE_HAZARDS.values() if hazard.name != "batch-0")
