"""Wrong factors, masks and constants: what a faulty layer returns is held against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mutations.mutation import find_mutation
from reference_layers import Affine, MeanSquaredError, ReLU, Sigmoid, SoftmaxCrossEntropy
from tests.mutations.one_pass import give, run_once

BATCH = 5
FACTORS = {
    "mean for sum over the batch": 1 / BATCH,
    "N - 1 for N": BATCH / (BATCH - 1),
    "N + 1 for N": BATCH / (BATCH + 1),
    "dy times the batch": BATCH,
}


def _both(name, kind, size=0.0, given=None):
    given = given or give(kind)
    return run_once(kind, given), run_once(find_mutation(name).plant(kind, size, 1), given)


@pytest.mark.parametrize("name", FACTORS)
def test_a_wrong_factor_of_the_batch(name):
    right, wrong = _both(name, Affine)
    assert wrong.gradients["W"] == pytest.approx(FACTORS[name] * right.gradients["W"])
    assert wrong.gradients["b"] == pytest.approx(FACTORS[name] * right.gradients["b"])


@pytest.mark.parametrize("kind", [SoftmaxCrossEntropy, MeanSquaredError])
def test_a_loss_without_its_mean(kind):
    right, wrong = _both("sum for mean over the batch", kind)
    assert wrong.gradients[0] == pytest.approx(BATCH * right.gradients[0])


@pytest.mark.parametrize(
    ("name", "of_dy"),
    [
        ("upstream gradient ignored", np.ones_like),
        ("upstream gradient without its sign", np.abs),
        ("upstream gradient gated", lambda dy: np.maximum(dy, 0)),
        ("upstream gradient squared", np.square),
    ],
)
def test_another_upstream_gradient(name, of_dy):
    given = give(Sigmoid)
    _, wrong = _both(name, Sigmoid, given=given)
    given.dy = of_dy(given.dy)
    assert (wrong.gradients[0] == run_once(Sigmoid, given).gradients[0]).all()


@pytest.mark.parametrize(
    ("name", "share"), [("gradient let through at exactly 0", 1.0), ("half the gradient let through at exactly 0", 0.5)]
)
def test_a_gate_at_exactly_0(name, share):
    given = give(ReLU)
    given.inputs[0][0] = [0.0, -0.0, 1.0, -1.0]
    _, wrong = _both(name, ReLU, given=given)
    assert wrong.gradients[0][0] == pytest.approx(given.dy[0] * [share, share, 1.0, 0.0])


def test_clipping_cuts_the_largest_tenth():
    right, wrong = _both("gradients clipped", Sigmoid)
    top = np.percentile(np.abs(right.gradients[0]), 90)
    assert wrong.gradients[0] == pytest.approx(np.clip(right.gradients[0], -top, top))
    assert 0 < np.count_nonzero(wrong.gradients[0] != right.gradients[0]) <= right.gradients[0].size / 10 + 1


@pytest.mark.parametrize(
    ("name", "size", "of_x"),
    [
        ("inputs clipped", 0.0, lambda x: np.clip(x, -np.percentile(np.abs(x), 90), np.percentile(np.abs(x), 90))),
        ("input moved away from 0 by e", 1e-3, lambda x: np.where(x < 0, x - 1e-3, x + 1e-3)),
    ],
)
def test_another_input_forward_and_backward(name, size, of_x):
    given = give(Sigmoid)
    _, wrong = _both(name, Sigmoid, size, given)
    given.inputs = (of_x(given.inputs[0]),)
    other = run_once(Sigmoid, given)
    assert (wrong.y == other.y).all()
    assert (wrong.gradients[0] == other.gradients[0]).all()


def test_a_constant_of_the_size_of_the_largest_entry():
    right, wrong = _both("constant e of the largest added", ReLU, 1e-3)
    added = wrong.gradients[0] - right.gradients[0]
    assert added == pytest.approx(np.full_like(added, 1e-3 * np.abs(right.gradients[0]).max()))


def test_weight_decay_inside():
    given = give(Affine)
    right, wrong = _both("e of the parameter added to its gradient", Affine, 1e-3, given)
    assert wrong.gradients["W"] == pytest.approx(right.gradients["W"] + 1e-3 * given.params["W"])
    assert (wrong.gradients[0] == right.gradients[0]).all()
