"""Affine comes in; its products, its sum over the batch and its complaints are held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_layers import Affine

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
