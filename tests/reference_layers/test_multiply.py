"""Multiply comes in; its product, its swapped inputs and its complaint are held."""

from __future__ import annotations

import numpy as np
import pytest

from reference_layers import Multiply


def test_each_gradient_is_the_upstream_one_times_the_other_input():
    rng = np.random.default_rng(0)
    a, b, dy = rng.standard_normal((3, 4, 5))
    layer = Multiply()
    assert np.array_equal(layer.forward(a, b), a * b)
    da, db = layer.backward(dy)
    assert np.array_equal(da, dy * b)
    assert np.array_equal(db, dy * a)


def test_the_square_of_a_value_has_twice_the_value_as_its_derivative():
    x, layer = np.array([[3.0, -0.5]]), Multiply()
    layer.forward(x, x)
    assert np.array_equal(sum(layer.backward(np.ones_like(x))), 2 * x)


@pytest.mark.parametrize("other", [(1, 3), (2, 1), (3,), (2, 3, 1)])
def test_shapes_that_would_broadcast_are_refused(other):
    with pytest.raises(ValueError, match=r"one shape; got \[2, 3\] and \["):
        Multiply().forward(np.zeros((2, 3)), np.zeros(other))
