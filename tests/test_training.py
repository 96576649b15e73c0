"""Training comes in; what it reaches, how its trajectories part, and what it leaves alone is held."""

from __future__ import annotations

import os
import random
import sys
import warnings
from functools import partial

import numpy as np
import pytest

from harness import training
from harness.core import BadInput
from harness.training import (
    DESCENTS,
    TWINS,
    Shaken,
    descend_numpy,
    descend_twin,
    draw_batches,
    draw_weights,
    find_accuracy,
    load_digits,
    train,
)
from reference_layers import Affine, Rounding

pytest.importorskip("sklearn")
SHORT = {"steps": 12, "batch": 32, "hidden": 16}


@pytest.fixture(scope="module")
def full():
    """Return a training of the usual length in every framework that is installed."""
    return train()


@pytest.fixture(scope="module")
def start():
    """Return small weights, the digits, and two batches."""
    digits = load_digits(0, "float32")
    return draw_weights(0, 16, "float32"), digits, list(draw_batches(digits, 0, 2, 32))


def run_short(frameworks=(), **changes):
    """Return a short training."""
    return train(**(SHORT | {"frameworks": frameworks} | changes))


def test_every_framework_learns_the_digits(full):
    assert set(full.accuracies) == {"numpy", "torch", "jax"} - set(full.missing)
    assert all(accuracy > 0.96 for accuracy in full.accuracies.values())


def test_every_trajectory_stays_within_what_rounding_explains(full):
    assert full.within == dict.fromkeys(set(full.accuracies) - {"numpy"}, True)


def test_the_frame_has_a_row_a_step_and_accuracies_on_the_last(full):
    frame = full.frame()
    others = sorted(full.within)
    assert frame["step"].tolist() == list(range(1, 601))
    assert {f"loss_{name}" for name in ("numpy", *others)} <= set(frame)
    assert {f"weights_apart_{name}" for name in others} | {"loss_rounding_explains"} <= set(frame)
    assert frame["loss_numpy"].iloc[-50:].mean() < 0.1 * frame["loss_numpy"].iloc[0]
    for name in ("numpy", *others):
        assert frame[f"accuracy_{name}"].iloc[:-1].isna().all()
        assert frame[f"accuracy_{name}"].iloc[-1] == full.accuracies[name]
    for name in others:
        assert (frame[f"weights_apart_{name}"] <= frame[f"rounding_explains_{name}"]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_rounding_explains_is_small_at_first_and_never_shrinks(dtype):
    """After one step a weight carries its own rounding, in either training, and those of a small multiple of a gradient."""
    short = run_short(dtype=dtype)
    unit = np.finfo(dtype).eps / 2
    assert len(short.twins) == TWINS
    assert 0.1 * unit < short.weights_explained[0] < 10 * unit
    assert (np.diff(short.weights_explained) >= 0).all()
    assert (np.diff(short.losses_explained) >= 0).all()
    assert short.weights_explained[-1] < 1000 * unit


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_short_trajectories_stay_within_too(framework, dtype):
    pytest.importorskip(framework)
    short = run_short([framework], dtype=dtype)
    assert short.within == {framework: True}
    assert (short.trajectories[framework].losses_apart <= short.losses_explained).all()


def scale_rate(descent, factor, *arguments):
    """Return a descent whose learning rate is off."""
    *others, learning_rate = arguments
    return descent(*others, learning_rate * factor)


def scale_one_gradient(name, factor, start, batches, learning_rate):
    """Yield the steps of a NumPy training in which the gradient of one parameter is scaled."""
    weights = start
    for batch in batches:
        ((loss, moved),) = descend_numpy(weights, [batch], learning_rate)
        rate = learning_rate * (factor - 1)
        step = (weights[name].astype(np.float64) - moved[name]) / learning_rate
        weights = moved | {name: (moved[name] - rate * step).astype(moved[name].dtype)}
        yield loss, weights


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("factor", [1 + 1e-3, 1 - 1e-3, 1 + 1e-4])
def test_a_learning_rate_that_is_off_is_not_explained_by_rounding(framework, dtype, factor, monkeypatch):
    pytest.importorskip(framework)
    monkeypatch.setitem(DESCENTS, framework, partial(scale_rate, DESCENTS[framework], factor))
    assert run_short([framework], dtype=dtype).within == {framework: False}


@pytest.mark.parametrize("name", ["affine1.W", "affine1.b", "affine2.W", "affine2.b"])
def test_one_gradient_that_is_off_is_not_explained_by_rounding(name, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(DESCENTS, "torch", partial(scale_one_gradient, name, 1.001))
    assert run_short(["torch"]).within == {"torch": False}
    monkeypatch.setitem(DESCENTS, "torch", partial(scale_one_gradient, name, 1.0))
    assert run_short(["torch"]).within == {"torch": True}


def misreport_loss(descent, *arguments):
    """Yield the steps of a descent whose losses are off and whose weights are right."""
    for loss, weights in descent(*arguments):
        yield loss * (1 + 1e-4), weights


def test_a_loss_that_is_off_is_not_explained_by_rounding(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setitem(DESCENTS, "torch", partial(misreport_loss, descend_numpy))
    short = run_short(["torch"])
    assert not short.trajectories["torch"].weights_apart.any()
    assert short.within == {"torch": False}


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_start_from_the_same_weights_bit_for_bit_and_leave_them_alone(framework, dtype, start):
    pytest.importorskip(framework)
    weights = {name: value.astype(dtype) for name, value in start[0].items()}
    before = {name: value.copy() for name, value in weights.items()}
    batches = [{"x": batch["x"].astype(dtype), "t": batch["t"]} for batch in start[2]]
    descent = {"numpy": descend_numpy, **DESCENTS}[framework]
    steps = list(descent(weights, batches, 0.0))
    assert len(steps) == 2
    for name, value in before.items():
        assert weights[name].tobytes() == value.tobytes()
        assert {step[name].dtype for _, step in steps} == {np.dtype(dtype)}
        assert all(np.array_equal(step[name], value) for _, step in steps)
    list(descent(weights, batches, 0.25))
    assert all(weights[name].tobytes() == value.tobytes() for name, value in before.items())


def test_steps_that_were_handed_out_stay_as_they_are(start):
    weights, _, batches = start
    for descent in (descend_numpy, *(DESCENTS[name] for name in DESCENTS if _is_installed(name))):
        steps = descent(weights, batches, 0.25)
        first = next(steps)[1]
        before = {name: value.copy() for name, value in first.items()}
        next(steps)
        assert all(np.array_equal(first[name], before[name]) for name in before)


def _is_installed(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def test_a_twin_is_drawn_from_its_own_seed(start):
    weights, _, batches = start
    runs = [next(descend_twin(weights, batches, 0.25, 0, twin))[1]["affine1.W"] for twin in (0, 0, 1)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_shaken_layer_stays_within_its_bound():
    rng = np.random.default_rng(0)
    layer = Affine(rng.standard_normal((5, 4)), rng.standard_normal(4))
    rounding = Rounding(2.0**-30, 2.0**-30, 2.0**-1022)
    shaken, x, dy = Shaken(layer, rounding, rng), rng.standard_normal((6, 5)), rng.standard_normal((6, 4))
    parted = np.abs(shaken.forward(x) - layer.forward(x))
    size = np.abs(x) @ np.abs(layer.params["W"]) + np.abs(layer.params["b"])
    assert parted.max() > 0
    assert (parted <= 2 * rounding.gamma(6) * size).all()
    assert not np.array_equal(shaken.backward(dy), layer.backward(dy))
    assert not np.array_equal(shaken.grads["W"], layer.grads["W"])


def test_the_same_seed_gives_the_same_training_and_another_another():
    one, same, other = run_short(), run_short(), run_short(seed=1)
    assert one.frame().equals(same.frame())
    assert not np.array_equal(one.trajectories["numpy"].losses, other.trajectories["numpy"].losses)


def test_training_and_test_digits_are_apart():
    digits = load_digits(3, "float64")
    assert len(digits.x) + len(digits.test_x) == 1797
    assert len(digits.test_x) == 359
    assert 0 <= digits.x.min() < digits.x.max() == 1
    again = load_digits(3, "float32")
    assert again.x.dtype == np.float32
    assert np.array_equal(again.test_t, digits.test_t)


def test_a_guess_is_right_a_tenth_of_the_time():
    weights = {name: np.zeros_like(value) for name, value in draw_weights(0, 4, "float64").items()}
    assert find_accuracy(weights, load_digits(0, "float64")) == pytest.approx(0.1, abs=0.04)


def test_a_framework_that_is_missing_is_named_and_the_others_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    short = run_short(["jax"])
    assert list(short.missing) == ["jax"]
    assert set(short.accuracies) == {"numpy"}
    assert short.within == {}
    assert "loss_numpy" in short.frame()


def test_without_scikit_learn_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(BadInput, match=r"scikit-learn.*install backprop-harness\[train\]"):
        run_short()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "--steps 0; accepted is a whole number of at least 1"),
        ({"batch": 0}, "--batch 0; accepted is a whole number of at least 1"),
        ({"batch": 5000}, "--batch 5000; accepted is a whole number from 1 to 1438"),
        ({"hidden": -3}, "--hidden -3; accepted is a whole number of at least 1"),
        ({"seed": -1}, "--seed -1; accepted is a whole number of at least 0"),
        ({"dtype": "float16"}, "--dtype float16; accepted are float64, float32"),
        ({"learning_rate": 0.0}, "learning_rate 0.0; accepted is a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate nan; accepted is a positive number"),
        ({"frameworks": ["caffe"]}, r"unknown frameworks \['caffe'\]; accepted are torch, jax"),
    ],
)
def test_a_setting_that_is_wrong_is_named(wrong, message):
    with pytest.raises(BadInput, match=message):
        run_short(**wrong)


def _state():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    kind, keys, *rest = np.random.get_state()
    return {
        "x64": jax.config.jax_enable_x64,
        "threads": torch.get_num_threads(),
        "torch random": torch.get_rng_state().tolist(),
        "gradients": torch.is_grad_enabled(),
        "numpy random": (kind, keys.tolist(), rest),
        "random": random.getstate(),
        "numpy errors": np.geterr(),
        "filters": list(warnings.filters),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_callers_process_stays_as_it_was(dtype):
    jax = pytest.importorskip("jax")
    for wide in (False, True):
        with np.errstate(over="raise", under="ignore"), jax.enable_x64(wide):
            before = _state()
            run_short(["torch", "jax"], dtype=dtype)
            assert _state() == before


def test_the_callers_process_stays_as_it_was_when_training_fails(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("in the middle")
        yield

    monkeypatch.setitem(training.DESCENTS, "torch", fail)
    before = _state()
    with pytest.raises(RuntimeError, match="in the middle"):
        run_short(["torch"])
    assert _state() == before
