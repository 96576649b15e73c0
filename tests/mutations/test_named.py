"""Named defects: what they return is held against their formula written out, and a judge finds each at its node."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from harness.mutations.mutation import find_mutation, find_named
from harness.mutations.reference import MutatedReference
from harness.shards import run_shard
from reference_layers import Affine, MeanSquaredError, Sigmoid, SoftmaxCrossEntropy
from tests.mutations.one_pass import LAYERS, give, lone_problem, run_once
from tests.mutations.rms_norm import RMSNorm

HOMES = {
    "y (1 - y) in float32": Sigmoid,
    "dW product in float32": Affine,
    "N - 1 for N in the loss": MeanSquaredError,
    "labels smoothed by 1e-3": SoftmaxCrossEntropy,
    "epsilon inside the root": RMSNorm,
    "1e-7 added in the logarithm": SoftmaxCrossEntropy,
}


def _both(name, kind, dtype="float64", given=None):
    given = given or give(kind, dtype)
    return given, run_once(kind, given), run_once(find_mutation(name).plant(kind, seed=1), given)


def test_every_named_defect_has_a_home():
    assert {mutation.name for mutation in find_named()} == set(HOMES)
    for mutation in find_named():
        assert mutation.fits(HOMES[mutation.name])
        assert sum(mutation.fits(kind) for kind in LAYERS.values()) <= 2


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_slope_of_the_sigmoid_in_float32(dtype):
    given, right, wrong = _both("y (1 - y) in float32", Sigmoid, dtype)
    y = right.y.astype(np.float32)
    assert (wrong.gradients[0] == given.dy * (y * (np.float32(1) - y)).astype(dtype)).all()
    assert (wrong.gradients[0] == right.gradients[0]).all() == (dtype == "float32")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_product_in_float32(dtype):
    given, right, wrong = _both("dW product in float32", Affine, dtype)
    assert (wrong.gradients["W"] == given.inputs[0].astype(np.float32).T @ given.dy.astype(np.float32)).all()
    assert (wrong.gradients["W"] == right.gradients["W"]).all() == (dtype == "float32")
    assert all((wrong.gradients[key] == right.gradients[key]).all() for key in ("b", 0))


@pytest.mark.parametrize("kind", [SoftmaxCrossEntropy, MeanSquaredError])
def test_an_unbiased_mean(kind):
    _, right, wrong = _both("N - 1 for N in the loss", kind)
    assert wrong.gradients[0] == pytest.approx(right.gradients[0] * 5 / 4)
    assert wrong.y == right.y
    lone = give(kind, batch=1)
    _, right, wrong = _both("N - 1 for N in the loss", kind, given=lone)
    assert (wrong.gradients[0] == right.gradients[0]).all()


@pytest.mark.parametrize("labels", ["integer", "one_hot", "soft"])
def test_smoothed_labels(labels):
    given = give(SoftmaxCrossEntropy, labels=labels)
    _, _, wrong = _both("labels smoothed by 1e-3", SoftmaxCrossEntropy, given=given)
    x, t = given.inputs
    smooth = 0.999 * (np.eye(x.shape[1])[t] if labels == "integer" else t) + 0.001 / x.shape[1]
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    assert wrong.y == pytest.approx(-(smooth * np.log(p)).sum() / len(x))
    assert wrong.gradients[0] == pytest.approx(given.dy * (p - smooth) / len(x))


def _differentiate(function, x, index):
    """Return the derivative by one entry, in 40 digits."""

    def along(value):
        moved = [[mpmath.mpf(float(entry)) for entry in row] for row in x]
        moved[index[0]][index[1]] = value
        return function(moved)

    with mpmath.workdps(40):
        return float(mpmath.diff(along, mpmath.mpf(float(x[index]))))


@pytest.mark.parametrize("index", [(0, 0), (2, 3), (4, 1)])
def test_a_shifted_logarithm_has_the_gradient_of_its_loss(index):
    given = give(SoftmaxCrossEntropy)
    given.inputs = (4 * given.inputs[0], given.inputs[1])
    _, right, wrong = _both("1e-7 added in the logarithm", SoftmaxCrossEntropy, given=given)
    labels = given.inputs[1]

    def loss(x):
        chosen = [mpmath.exp(row[t]) / sum(map(mpmath.exp, row)) for row, t in zip(x, labels, strict=True)]
        return -sum(mpmath.log(p + mpmath.mpf(1e-7)) for p in chosen) / len(x)

    assert wrong.gradients[0][index] == pytest.approx(given.dy * _differentiate(loss, given.inputs[0], index), rel=1e-10)
    assert wrong.y == pytest.approx(float(loss(given.inputs[0].tolist())), rel=1e-12)
    assert (wrong.gradients[0] != right.gradients[0]).any()


@pytest.mark.parametrize("index", [(0, 0), (2, 3), (4, 1)])
def test_the_epsilon_inside_has_the_gradient_of_its_formula(index):
    given, right, wrong = _both("epsilon inside the root", RMSNorm)
    g, dy = given.params["g"], given.dy

    def weigh(x):
        total = mpmath.mpf(0)
        for row, upstream in zip(x, dy, strict=True):
            d = mpmath.sqrt(sum(entry**2 for entry in row) / len(row) + mpmath.mpf(RMSNorm.eps))
            total += sum(float(a) * float(b) * entry / d for a, b, entry in zip(g, upstream, row, strict=True))
        return total

    assert wrong.gradients[0][index] == pytest.approx(_differentiate(weigh, given.inputs[0], index), rel=1e-10)
    d = np.sqrt(np.square(given.inputs[0]).mean(axis=1, keepdims=True) + RMSNorm.eps)
    assert wrong.gradients["g"] == pytest.approx((dy * given.inputs[0] / d).sum(axis=0))
    assert (wrong.y == right.y).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mutation", find_named(), ids=lambda mutation: mutation.name)
def test_a_judge_finds_it_at_its_node(mutation, dtype):
    """At logits twice as large as usual, where 1e-7 in the logarithm is more than rounding."""
    if dtype not in mutation.dtypes:
        return
    problem = lone_problem(HOMES[mutation.name], dtype, batch=8, width=8, scale=4.0)
    faulty = MutatedReference(mutations={"node": (mutation, 0.0)})
    rows = run_shard([problem.case], [faulty], LAYERS, {}).comparisons
    failing = [row for row in rows if row.fails]
    assert failing
    assert {row.node for row in failing} <= {"node", "x"}
