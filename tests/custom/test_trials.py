"""Specifications come in; that trials vary what they may, and nothing else, must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core import BadInput
from harness.custom.spec import LayerSpec
from harness.custom.trials import VARIATIONS, TrialId, draw_again, draw_trials, read_trial_id
from tests.custom import layers


def test_trials_vary_batch_scale_and_storage_of_drawn_inputs() -> None:
    trials = list(draw_trials(LayerSpec(layers.Linear, layers.linear, [(6, 5)]), "float32", len(VARIATIONS), 0))
    assert {trial.problem.inputs["x"].shape[0] for trial in trials} == {6, 1, 2}
    assert {trial.problem.case.storage for trial in trials} == {"C", "fortran", "strided"}
    assert {trial.problem.case.scale for trial in trials} == {1.0, 8.0, 0.125}
    assert all(trial.problem.inputs["x"].dtype == np.float32 for trial in trials)
    assert all(trial.problem.params["Linear"]["W"].dtype == np.float32 for trial in trials)
    assert len({trial.kind for trial in trials}) == 1


def test_given_arrays_stay_as_they_are() -> None:
    given = np.arange(6.0).reshape(2, 3)
    for trial in draw_trials(LayerSpec(layers.Swish, layers.swish, [given]), "float64", len(VARIATIONS), 0):
        assert np.array_equal(trial.problem.inputs["x"], given)


def test_the_same_seed_gives_the_same_trials() -> None:
    spec = LayerSpec(layers.Swish, layers.swish, [(3, 3)])
    for a, b in zip(draw_trials(spec, "float64", 3, 5), draw_trials(spec, "float64", 3, 5), strict=True):
        assert np.array_equal(a.problem.inputs["x"], b.problem.inputs["x"])
        assert np.array_equal(a.problem.dy, b.problem.dy)
    other = next(draw_trials(spec, "float64", 1, 6))
    assert not np.array_equal(other.problem.dy, next(draw_trials(spec, "float64", 1, 5)).problem.dy)


def test_cotangents_keep_away_from_0() -> None:
    for trial in draw_trials(LayerSpec(layers.Swish, layers.swish, [(30, 30)]), "float64", 3, 0):
        assert 0.5 <= np.abs(trial.problem.dy).min() <= np.abs(trial.problem.dy).max() <= 2


def test_integers_are_constants() -> None:
    spec = LayerSpec(layers.Lookup, lambda xp, params, t: params["W"][t], [np.array([0, 3, 3])])
    trial = next(draw_trials(spec, "float32", 1, 0))
    assert trial.problem.constants == {"x"}
    assert trial.problem.inputs["x"].dtype == np.int64


def test_a_formula_that_fails_is_told() -> None:
    with pytest.raises(BadInput, match=r"formula: it fails on inputs of the shapes \[\[2, 4\]\]: ValueError"):
        next(draw_trials(LayerSpec(layers.Linear, layers.linear, [(2, 4)]), "float64", 1, 0))


def test_nothing_to_differentiate_is_told() -> None:
    spec = LayerSpec(layers.Swish, layers.swish, [(2, 2)], constants=(0,))
    with pytest.raises(BadInput, match="all of Swish's are constants"):
        next(draw_trials(spec, "float64", 1, 0))


def test_a_trial_can_be_drawn_again_from_its_case() -> None:
    spec = LayerSpec(layers.Swish, layers.swish, [(6, 5)], name="a-s1t2-b")
    for dtype in ("float64", "bfloat16"):
        for index, trial in enumerate(draw_trials(spec, dtype, len(VARIATIONS), 5)):
            found = read_trial_id(trial.problem.case.id, dtype)
            assert found == TrialId(5, index, dtype)
            (again,) = draw_again(spec, dtype, [found], 1, 0)
            assert again.problem.case == trial.problem.case
            assert np.array_equal(again.problem.inputs["x"], trial.problem.inputs["x"])
            assert np.array_equal(again.problem.dy, trial.problem.dy)


def test_trials_that_are_drawn_anyway_are_not_drawn_twice() -> None:
    spec = LayerSpec(layers.Swish, layers.swish, [(6, 5)])
    again = [TrialId(0, 2, "float64"), TrialId(0, 3, "float64"), TrialId(1, 2, "float64"), TrialId(0, 9, "float32")]
    ids = [read_trial_id(trial.problem.case.id, "float64") for trial in draw_again(spec, "float64", again, 3, 0)]
    assert ids == [TrialId(0, 3, "float64"), TrialId(1, 2, "float64")]


def test_a_case_of_a_network_is_no_trial() -> None:
    assert read_trial_id("s1n0d0-f32-00000000", "float32") is None
