"""Functions of the subset over double-double come in; which numbers they take, and that operators are they, goes out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.array_api import SUBSET, Unsupported
from harness.judge.double_double import WIDE, DoubleDouble, widen
from harness.judge.wide_operations import make_wide_namespace


def test_the_namespace_is_the_subset_and_nothing_more():
    xp = make_wide_namespace()
    assert set(vars(xp)) == set(SUBSET)
    with pytest.raises(Unsupported, match=r"xp\.einsum is outside the supported subset"):
        xp.einsum  # noqa: B018  # reason: to look it up is what raises


def test_integers_are_left_to_numpy_and_floats_are_not():
    xp = make_wide_namespace()
    labels = np.array([2, 0])
    assert xp.sum(labels) == 2
    assert xp.where(labels > 0, 1, 0).tolist() == [1, 0]
    assert isinstance(xp.sum(np.ones(3)), DoubleDouble)
    assert isinstance(xp.where(labels > 0, 0.5, 0), DoubleDouble)
    assert xp.sqrt(2).lo != 0
    assert xp.mean(np.array([1, 1, 2])).lo != 0
    assert xp.arange(3).dtype == np.arange(3).dtype
    assert xp.arange(3, dtype=WIDE).hi.tolist() == [0, 1, 2]


def test_product_and_power_are_operators_of_the_array_from_either_side():
    x = widen(np.array([[1.0, 2.0], [3.0, 4.0]])) / 3
    ones = np.ones((2, 2))
    for made, expected in (
        (x @ ones, [[1.0] * 2, [7 / 3] * 2]),
        (ones @ x, [[4 / 3, 2.0]] * 2),
        (x**2, [[1 / 9, 4 / 9], [1.0, 16 / 9]]),
    ):
        assert isinstance(made, DoubleDouble)
        assert np.allclose(made.hi, expected, rtol=2e-16, atol=0)
        assert made.lo.any()
    assert np.allclose((2**x).hi, 2**x.hi, rtol=4e-16, atol=0)


def test_joined_arrays_keep_both_parts():
    xp, x = make_wide_namespace(), widen(np.ones(2)) / 3
    assert xp.stack([x, np.zeros(2)], axis=1).lo.tolist() == [[x.lo[0], 0.0]] * 2
    assert xp.concat([x, x]).lo.tolist() == [x.lo[0]] * 4
