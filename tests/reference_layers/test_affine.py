"""Affine comes in; its products, its sum over the batch and its complaints are held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_layers import Affine, Pair, Rounding

whole = st.integers(-8, 8)


@given(
    sizes=st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5)),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_whole_numbers_give_the_exact_products(sizes, dtype, seed):
    batch, n_in, n_out = sizes
    rng = np.random.default_rng(seed)
    x, W, b, dy = (rng.integers(-8, 9, shape) for shape in ((batch, n_in), (n_in, n_out), (n_out,), (batch, n_out)))
    layer = Affine(W.astype(dtype), b.astype(dtype))
    assert np.array_equal(layer.forward(x.astype(dtype)), x @ W + b)
    assert np.array_equal(layer.backward(dy.astype(dtype)), dy @ W.T)
    assert np.array_equal(layer.grads["W"], x.T @ dy)
    assert np.array_equal(layer.grads["b"], dy.sum(axis=0))


def test_backward_uses_the_weights_of_its_forward_pass():
    layer = Affine(np.array([[2.0]]), np.array([0.0]))
    layer.forward(np.array([[1.0]]))
    layer.params = {"W": np.array([[5.0]]), "b": np.array([0.0])}
    assert layer.backward(np.array([[1.0]])).item() == 2.0


@pytest.mark.parametrize(
    ("W", "b"),
    [
        (np.zeros((2, 3)), np.zeros(2)),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((2, 3)), np.zeros((1, 3))),
        (np.zeros((2, 3)), np.zeros(3, np.float32)),
    ],
)
def test_parameters_that_do_not_fit_are_named(W, b):
    with pytest.raises(ValueError, match=r"W of shape \(n_in, n_out\).*got W float64\[") as caught:
        Affine(W, b)
    assert str(list(b.shape)) in str(caught.value)


def test_initial_weights_keep_the_size_of_their_input():
    params = Affine.initial_params(np.random.default_rng(0), 400, 300)
    x = np.random.default_rng(1).standard_normal((50, 400))
    assert (x @ params["W"]).std() == pytest.approx(1.0, abs=0.05)
    assert params["b"].shape == (300,)


SINGLE = Rounding(u=2.0**-24, ua=2.0**-24, tiny=2.0**-126)


@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e-30, 1e18, 1e150])
@pytest.mark.parametrize("n", [3, 200])
def test_the_bound_of_float32_is_computed_upwards_and_no_further_than_need_be(scale, n):
    """Beside gamma |x| |W| and what flushing takes, summed in longdouble, from numbers that float32 cannot hold exactly."""
    rng = np.random.default_rng(n)
    x, dy, W = (scale * rng.standard_normal(shape) for shape in ((7, n), (7, 5), (n, 5)))
    W[rng.random(W.shape) < 0.3] = 0.0
    exact = [Pair(value, np.zeros(value.shape), is_exact=True) for value in (x, dy)]
    params = {"W": W / scale, "b": W[0]}
    found = Affine.backward_bound(SINGLE, params, *exact)
    bounds = [
        (Affine.forward_bound(SINGLE, params, exact[0]), x, params["W"], n + 1, np.abs(params["b"])),
        (found.dx[0], dy, params["W"].T, 5, 0.0),
        (found.dparams["W"], x.T, dy, 7, 0.0),
    ]
    for bound, left, right, roundings, bias in bounds:
        a, b = (np.abs(value).astype(np.longdouble) for value in (left, right))
        flushed = SINGLE.tiny * (a.sum(axis=1, keepdims=True) + b.sum(axis=0, keepdims=True) + roundings)
        least = SINGLE.gamma(roundings) * (a @ b + bias) + flushed
        assert (bound >= least * (1 - 1e-15)).all()
        assert (bound <= least * 1.0001).all()


def test_a_pair_that_is_not_said_to_be_exact_has_the_same_bound():
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((4, 6)) for _ in range(2))
    params = {"W": rng.standard_normal((6, 6)), "b": rng.standard_normal(6)}
    said, unsaid = ([Pair(value, np.zeros(value.shape), is_exact) for value in (x, dy)] for is_exact in (True, False))
    assert np.array_equal(Affine.forward_bound(SINGLE, params, said[0]), Affine.forward_bound(SINGLE, params, unsaid[0]))
    one, other = (Affine.backward_bound(SINGLE, params, *pairs) for pairs in (said, unsaid))
    assert np.array_equal(one.dx[0], other.dx[0])
    assert all(np.array_equal(one.dparams[name], other.dparams[name]) for name in "Wb")


def test_a_sum_too_long_for_its_accumulator_has_no_bound():
    coarse = Rounding(u=2.0**-8, ua=2.0**-8, tiny=2.0**-126)
    x, params = np.zeros((1, 256)), {"W": np.zeros((256, 2)), "b": np.zeros(2)}
    assert np.isposinf(Affine.forward_bound(coarse, params, Pair(x, x, is_exact=True))).all()
