"""Sigmoid comes in; its values and slopes are held against its symmetry and its closed form, far out too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_layers import Pair, Sigmoid

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@every_dtype
def test_saturated_inputs_give_finite_values_and_slopes(dtype):
    layer = Sigmoid()
    y = layer.forward(np.array([-np.inf, -1e4, -1e3, 1e3, 1e4, np.inf], dtype))
    assert y.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert layer.backward(np.ones(6, dtype)).tolist() == [0.0] * 6


@every_dtype
def test_it_is_a_half_with_slope_a_quarter_in_the_middle(dtype):
    layer = Sigmoid()
    assert layer.forward(np.zeros(1, dtype)).item() == 0.5
    assert layer.backward(np.ones(1, dtype)).item() == 0.25


@given(x=st.floats(-1e3, 1e3))
def test_a_value_and_that_of_the_negative_input_sum_to_one(x, rounding):
    """Both values err by their bound, and their sum is rounded."""
    bound = sum(Sigmoid.forward_bound(rounding("float64"), {}, Pair(np.array([z]), np.zeros(1))) for z in (x, -x))
    total = Sigmoid().forward(np.array([x])) + Sigmoid().forward(np.array([-x]))
    assert abs(total - 1.0) <= bound + np.finfo(float).eps


@given(x=st.floats(-700, 700))
def test_the_slope_is_that_of_the_closed_form(x, rounding):
    """e / (1 + e)^2 with e = exp(-|x|) has no cancellation: it errs by a few roundings of its own."""
    layer, e = Sigmoid(), np.exp(-abs(x))
    layer.forward(np.array([x]))
    slope = e / (1 + e) ** 2
    bound = Sigmoid.backward_bound(rounding("float64"), {}, Pair(np.array([x]), np.zeros(1)), Pair(np.ones(1), np.zeros(1)))
    assert abs(layer.backward(np.ones(1)) - slope) <= bound.dx[0] + 8 * np.finfo(float).eps * slope


def test_it_rises():
    x = np.linspace(-40, 40, 1001)
    assert (np.diff(Sigmoid().forward(x)) >= 0).all()
