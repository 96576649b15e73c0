"""Add comes in; its sum, its two gradients and its complaint are held."""

from __future__ import annotations

import numpy as np
import pytest

from reference_layers import Add


def test_both_gradients_are_the_upstream_one_bit_for_bit():
    layer, dy = Add(), np.array([[0.1, -0.0, np.inf]])
    assert np.array_equal(layer.forward(dy, 2 * dy), 3 * np.array([[0.1, 0.0, np.inf]]))
    assert [dx.tobytes() for dx in layer.backward(dy)] == [dy.tobytes()] * 2


def test_a_value_added_to_itself_is_doubled():
    x = np.array([[1.5, -2.0]])
    assert np.array_equal(Add().forward(x, x), 2 * x)


@pytest.mark.parametrize("other", [(1, 3), (2, 1), (3,), (2, 3, 1)])
def test_shapes_that_would_broadcast_are_refused(other):
    with pytest.raises(ValueError, match=r"one shape; got \[2, 3\] and \["):
        Add().forward(np.zeros((2, 3)), np.zeros(other))
