"""MeanSquaredError comes in; its value is held against torch's, its gradient against (y - t) / N."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_layers import MeanSquaredError, Pair

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def draw_outputs(dtype, batch, width, seed=0):
    """Return outputs and targets."""
    y, t = np.random.default_rng(seed).standard_normal((2, batch, width)).astype(dtype)
    return y, t


@every_dtype
@pytest.mark.parametrize("batch", [1, 2, 8, 64])
def test_the_gradient_is_the_difference_over_the_batch_exactly(dtype, batch):
    """Dividing by a power of two rounds nothing."""
    (y, t), layer = draw_outputs(dtype, batch, 3), MeanSquaredError()
    layer.forward(y, t)
    assert np.array_equal(layer.backward(1.0), (y - t) / batch)


@given(seed=st.integers(0, 99), batch=st.integers(1, 50), width=st.integers(1, 20), dy=st.floats(-4, 4))
def test_the_gradient_is_the_difference_over_any_batch_within_its_bound(seed, batch, width, dy, rounding):
    (y, t), layer = draw_outputs("float32", batch, width, seed), MeanSquaredError()
    layer.forward(y, t)
    dy = np.float32(dy)
    pairs = [Pair(value.astype(np.float64), np.zeros(value.shape)) for value in (y, t, np.asarray(dy))]
    bound = MeanSquaredError.backward_bound(rounding("float32"), {}, *pairs).dx[0]
    assert (np.abs(layer.backward(dy) - dy * (y.astype(np.float64) - t) / batch) <= bound).all()


@every_dtype
@pytest.mark.parametrize(("batch", "width"), [(1, 1), (4, 3), (7, 10), (32, 2)])
def test_it_is_half_the_width_times_the_loss_of_torch(dtype, batch, width, rounding):
    torch = pytest.importorskip("torch")
    y, t = draw_outputs(dtype, batch, width)
    theirs = torch.nn.functional.mse_loss(torch.tensor(y), torch.tensor(t)).item() * width / 2
    pairs = [Pair(value.astype(np.float64), np.zeros(value.shape)) for value in (y, t)]
    bound = MeanSquaredError.forward_bound(rounding(dtype), {}, *pairs)
    assert abs(MeanSquaredError().forward(y, t) - theirs) <= 2 * bound


def test_whole_targets_keep_the_dtype_of_the_outputs():
    layer = MeanSquaredError()
    loss = layer.forward(np.array([[3.0], [1.0]], np.float32), np.array([[1], [1]]))
    assert loss == 1.0
    assert loss.dtype == layer.backward(np.float64(1)).dtype == np.float32


def test_targets_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"targets have shape \[4\]; accepted is the shape of the outputs, \[4, 1\]"):
        MeanSquaredError().forward(np.zeros((4, 1)), np.zeros(4))


@every_dtype
def test_an_empty_batch_has_no_mean(dtype):
    layer = MeanSquaredError()
    loss = layer.forward(np.zeros((0, 3), dtype), np.zeros((0, 3), dtype))
    assert np.isnan(loss)
    assert loss.dtype == dtype
    assert layer.backward(1.0).shape == (0, 3)
