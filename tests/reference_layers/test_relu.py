"""ReLU comes in; its gate is held bit for bit, at its kink and beyond finite numbers too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reference_layers import Pair, ReLU

FLOATS = {"float16": 16, "float32": 32, "float64": 64}


def any_numbers(dtype, shape):
    """Return the strategy for arrays of any numbers of a dtype: zeros of either sign, subnormal, infinite ones."""
    return arrays.arrays(dtype, shape, elements=st.floats(width=FLOATS[dtype], allow_nan=False))


@given(data=st.data(), dtype=st.sampled_from(list(FLOATS)), shape=arrays.array_shapes(min_dims=0, max_dims=3, max_side=4))
def test_the_gate_hands_on_every_number_bit_for_bit(data, dtype, shape):
    x, dy = data.draw(any_numbers(dtype, shape)), data.draw(any_numbers(dtype, shape))
    layer = ReLU()
    y = np.asarray(layer.forward(x))
    dx = np.asarray(layer.backward(dy))
    assert np.array_equal(y, np.where(x > 0, x, 0))
    assert dx.dtype == dy.dtype
    assert dx.tobytes() == np.where(x > 0, dy, np.zeros((), dtype)).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
def test_the_gate_is_closed_at_zero(dtype):
    x, layer = np.array([0.0, -0.0, -1.0, 1.0], dtype), ReLU()
    assert layer.forward(x).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert layer.backward(np.full(4, 3.0, dtype)).tolist() == [0.0, 0.0, 0.0, 3.0]
    assert ReLU.decisions(np, {}, x).tolist() == [False, False, False, True]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_stops_at_a_closed_gate(dtype):
    layer = ReLU()
    layer.forward(np.array([-1.0, -1.0, 1.0, 1.0], dtype))
    dx = layer.backward(np.array([np.inf, np.nan, np.inf, np.nan], dtype))
    assert np.array_equal(dx, [0.0, 0.0, np.inf, np.nan], equal_nan=True)


def test_not_a_number_goes_through():
    assert np.isnan(ReLU().forward(np.array([np.nan]))).all()


def test_the_gate_is_undecided_within_the_error_of_its_input():
    x = Pair(np.array([-0.1, 0.1, 0.3, 0.0]), np.array([0.2, 0.1, 0.2, 0.0]))
    assert ReLU.undecided({}, x).tolist() == [True, True, False, True]


def test_decisions_can_be_replayed_in_the_formula():
    x = np.array([-1.0, 2.0])
    assert ReLU.formula(np, {}, x, decisions=np.array([True, False])).tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("seed", range(10))
def test_the_hazard_plants_zeros_and_lets_a_column_live(width, seed):
    (hazard,) = ReLU.hazards
    planted = hazard.plant(np.random.default_rng(seed), np.ones((3, width)))
    is_zero = (planted == 0).all(axis=0)
    assert is_zero[1 if width > 1 else 0]
    assert width == 1 or not is_zero[0]
