"""Networks and faults come in; what each check and rival finds of them, and how small, goes out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from harness.core import Case, Comparison, NetworkSpec, NodeSpec
from harness.judge.memory import remember
from harness.mutations.mutation import Mutation, find_mutation, find_mutations
from harness.mutations.wiring import find_wirings
from harness.selftest.tables import CHECKS, Trial
from harness.selftest.trials import (
    Task,
    bisect_first,
    is_told,
    list_faults,
    prepare_subject,
    run_task,
    scan_first,
    sees,
    try_fault,
)  # fmt: skip
from tests.rivals.conftest import SMOOTH

ROW = Comparison(
    case="c", network="n", hazards="", backend="numpy", variant="layer", dtype="float32", node="affine1", layer="affine",
    quantity="dW", check="local+network", verdict="ok", decides=True, local_error_in_bounds=0.5, network_error_in_bounds=0.1,
)  # fmt: skip
ALONE = {"check": "local", "error_in_bounds": 4.0, "local_error_in_bounds": math.nan}  # as rows of the wiring are
CASE = Case(SMOOTH, "float64", 1)
TASK = Task(0, CASE, rivals=("gradcheck-rule",), seed=2)


@pytest.fixture(scope="module")
def subject(layers):
    return prepare_subject(CASE, layers)


def a_mutation(name: str) -> Mutation:
    return find_mutation(name)


@pytest.mark.parametrize("first", range(9))
def test_bisection_and_scan_find_the_same_first_place(first):
    tried = []
    assert bisect_first(lambda place: bool(tried.append(place)) or place >= first, 8) == (first if first < 8 else None)
    assert len(tried) <= 4
    assert scan_first(lambda place: place >= first, 8) == (first if first < 8 else None)


def test_a_scan_counts_nothing_below_a_miss():
    assert scan_first(lambda place: place != 4, 8) == 5
    assert scan_first(lambda place: place != 7, 8) is None


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({}, set()),
        ({"local_error_in_bounds": 2.0, "verdict": "mismatch"}, {"local", "verdict"}),
        ({"network_error_in_bounds": math.inf, "verdict": "nonfinite"}, {"network", "verdict"}),
        ({"check": "local+lifted", "lifted_error_in_bounds": 3.0, "verdict": "constant"}, {"lifted"}),
        ({"check": "local+lifted", "lifted_error_in_bounds": 3.0, "verdict": "mismatch"}, {"lifted", "verdict"}),
        ({"check": "network+noise", "noise_error_in_bounds": 3.0, "verdict": "mismatch"}, {"network", "verdict"}),
        ({**ALONE, "verdict": "mismatch"}, {"local", "verdict"}),
        ({"verdict": "missing", "local_error_in_bounds": math.nan}, {"local", "network", "verdict"}),
        ({"verdict": "contract"}, {"local", "verdict"}),
        ({"check": "network", "quantity": "trace", "verdict": "contract"}, {"local", "verdict"}),
        ({"check": "none", "verdict": "error"}, {"local", "lifted", "network", "verdict"}),
    ],
)  # fmt: skip
def test_a_check_sees_its_own_errors_and_what_it_alone_can_see(change, seen):
    assert {method for method in CHECKS if sees([ROW, replace(ROW, **change)], method)} == seen


def test_nothing_accuses_the_right_layers(subject):
    assert [method for method in [*CHECKS, "gradcheck-rule"] if subject.right.is_found_by(method)] == []


def test_a_scaled_gradient_is_found_far_below_what_a_rival_finds(subject):
    trial = try_fault(subject, a_mutation("dW scaled by 1 + e"), TASK, [*CHECKS, "gradcheck-rule"])
    assert trial.node.startswith("affine")
    assert trial.smallest["local"] <= 1e-14
    assert trial.smallest["lifted"] <= 1e-17
    assert trial.smallest["verdict"] <= trial.smallest["local"]
    assert trial.smallest["gradcheck-rule"] >= 1e-3
    assert not trial.equivalent


def test_every_size_from_the_smallest_on_is_found_by_itself(subject):
    """Bisection skips sizes: tried one by one, they say the same."""
    fault = a_mutation("dW scaled by 1 + e")
    first = try_fault(subject, fault, TASK, ["local"]).smallest["local"]
    for size in (size for size in fault.sizes if 1e-16 <= size <= 1e-12):
        found = try_fault(subject, replace(fault, sizes=(size,)), TASK, ["local"]).smallest["local"] == size
        assert found == (size >= first), size


def test_a_gross_fault_is_found_by_all_that_can_see_it(subject):
    trial = try_fault(subject, a_mutation("gradients of the other sign"), TASK, [*CHECKS, "gradcheck-rule"])
    assert set(trial.smallest.values()) == {0.0}


def test_a_stale_cache_is_found_by_who_runs_a_layer_twice(subject):
    trial = try_fault(subject, a_mutation("inputs of the pass before"), TASK, ["verdict", "network", "gradcheck-rule"])
    assert trial.smallest == {"verdict": 0.0, "network": math.inf, "gradcheck-rule": math.inf}


def test_a_wiring_fault_is_found_though_every_layer_is_right(layers):
    network = NetworkSpec({"x": 3}, (NodeSpec("m", "multiply", ("x", "x"), 3), NodeSpec("a", "add", ("m", "x"), 3)), batch=4)
    task = Task(0, Case(network, "float32", 1))
    wiring = next(fault for fault in find_wirings() if fault.name == "residual added twice")
    trial = try_fault(prepare_subject(task.case, layers), wiring, task, CHECKS)
    assert trial.family == "wiring"
    assert trial.smallest["verdict"] == 0.0
    assert trial.node == ""


def test_a_fault_that_changes_no_number_is_equivalent(subject):
    """Columns-first inputs are what it waits for, and there are none."""
    trial = try_fault(subject, a_mutation("wrong for columns-first inputs alone"), TASK, CHECKS)
    assert trial.equivalent
    assert trial.smallest == {}


def test_a_named_defect_is_found_told_and_above_the_noise(subject):
    trial = try_fault(subject, a_mutation("dW product in float32"), TASK, CHECKS)
    assert (trial.below_noise, trial.told, trial.smallest["verdict"]) == (False, True, 0.0)


def test_a_defect_within_four_times_the_noise_is_marked(layers):
    """N - 1 for N with a batch of 128 in bfloat16 moves less than storing does; one precision up it stands out."""
    network = NetworkSpec({"x": 2, "t": 2}, (NodeSpec("loss", "mean_squared_error", ("x", "t"), 0),), batch=128)
    task = Task(0, Case(network, "bfloat16", 1))
    trial = try_fault(prepare_subject(task.case, layers), a_mutation("N - 1 for N in the loss"), task, CHECKS)
    assert trial.below_noise
    assert trial.smallest["lifted"] == 0.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"verdict": "mismatch", "local_error_in_bounds": 9.0}, True),
        ({"verdict": "mismatch", "local_error_in_bounds": 9.0, "node": "affine2"}, False),
        ({"verdict": "mismatch", "network_error_in_bounds": 9.0}, False),
    ],
)
def test_naming_a_defect_is_failing_at_its_node_and_no_other(change, told):
    fault = a_mutation("dW product in float32")
    assert is_told([ROW, replace(ROW, **change)], fault, "affine1") == told


def test_the_faults_of_a_network_fit_a_node_and_its_dtype(layers):
    names = {fault.name for fault in list_faults(CASE, layers)}
    assert {"dW scaled by 1 + e", "y (1 - y) in float32", "cotangent replaced by ones"} <= names
    assert "labels smoothed by 1e-3" not in names
    narrow = {fault.name for fault in list_faults(replace(CASE, dtype="bfloat16"), layers)}
    assert "y (1 - y) in float32" in names - narrow
    assert len(names) >= 25


def test_a_task_tries_every_fault_and_tells_what_accuses_the_right_layers(layers, monkeypatch):
    few = [a_mutation("db scaled by 1 + e"), a_mutation("nothing returned")]
    monkeypatch.setattr("harness.selftest.trials.list_faults", lambda case, layers: few)
    trials, alarms = run_task(replace(TASK, rivals=("gradcheck-rule", "gradcheck")), layers)
    assert [trial.kind for trial in trials] == ["db scaled by 1 + e", "nothing returned"]
    assert [alarm.backend for alarm in alarms] == [*(f"check:{name}" for name in CHECKS), "rival:gradcheck-rule"]
    assert all(alarm.false_alarms == 0 for alarm in alarms)


def test_a_rival_that_accuses_the_right_layers_is_asked_nothing(layers, monkeypatch):
    monkeypatch.setattr("harness.selftest.trials.list_faults", lambda case, layers: [a_mutation("db scaled by 1 + e")])
    (trial,), alarms = run_task(replace(TASK, case=replace(CASE, dtype="float32"), rivals=("autograd",)), layers)
    assert isinstance(trial, Trial)
    assert next(alarm for alarm in alarms if alarm.backend == "rival:autograd").false_alarms == 1
    assert "autograd" not in trial.smallest
    assert "local" in trial.smallest


def test_there_are_at_least_25_kinds():
    assert len(find_mutations()) + len(find_wirings()) >= 25


def test_a_large_network_in_float64_is_judged_and_its_named_defects_weighed(layers):
    """Its truth is double-double, which no NumPy dtype names."""
    network = NetworkSpec({"x": 120, "t": 2}, (NodeSpec("a", "affine", ("x",), 207), NodeSpec("b", "affine", ("a",), 2),
                          NodeSpec("loss", "softmax_cross_entropy", ("b", "t"), 0)), batch=123)  # fmt: skip
    task = Task(0, Case(network, "float64", 1))
    with remember():
        found = prepare_subject(task.case, layers)
        assert [row.verdict for row in found.right.rows if row.fails] == []
        assert len(found.right.rows) > 1
        trial = try_fault(found, a_mutation("dW product in float32"), task, CHECKS)
    assert (trial.below_noise, trial.told, trial.smallest["verdict"]) == (False, True, 0.0)
