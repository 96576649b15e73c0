"""Double-double arrays come in; sums and extremes as exact as declared, and exact errors of float64 arrays, go out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judge.double_double import DoubleDouble, widen
from harness.judge.wide_arrays import find_error, join, map_parts, reduce_max, reduce_sum, where
from tests.judge.balls import to_balls, wide_balls
from tests.judge.measuring import draw_wide

U = 2.0**-53


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 100, 601])
def test_sums_are_as_exact_as_declared(length, rng):
    x = draw_wide(rng, (length, 5), 30)
    made = reduce_sum(x, 0)
    with wide_balls():
        limit = 3.01 * U**2 * np.ceil(np.log2(length)) * abs(to_balls(x)).sum(axis=0)
        assert (abs(to_balls(made) - to_balls(x).sum(axis=0)) <= limit).all()


def test_a_sum_that_cancels_keeps_what_is_left(rng):
    x = draw_wide(rng, (64,), 1)
    made = reduce_sum(join(np.concatenate, [x, -x, widen(np.array([2.0**-90]))], 0))
    assert made.hi == 2.0**-90


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1,), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_axes_are_those_of_numpy(axis, keepdims, rng):
    x = draw_wide(rng, (3, 4, 5), 2)
    for mine, numpy in ((reduce_sum, np.sum), (reduce_max, np.max)):
        made, plain = mine(x, axis, keepdims), numpy(x.hi, axis=axis, keepdims=keepdims)
        assert made.shape == plain.shape
        assert np.allclose(made.hi, plain, rtol=1e-12)


def test_an_empty_sum_is_zero_and_an_empty_maximum_is_refused():
    assert reduce_sum(DoubleDouble(np.ones((0, 3))), 0).hi.tolist() == [0, 0, 0]
    assert reduce_sum(DoubleDouble(np.ones((0, 3)))).hi == 0
    with pytest.raises(ValueError, match="zero-size"):
        reduce_max(DoubleDouble(np.ones((0, 3))), 0)


def test_the_largest_is_told_by_its_low_part():
    x = DoubleDouble(np.array([1.0, 1.0, 0.5]), np.array([-(2.0**-60), 2.0**-60, 2.0**-55]))
    assert reduce_max(x).lo == 2.0**-60
    assert (-reduce_max(-x[:2])).lo == -(2.0**-60)
    assert np.isnan(reduce_max(widen(np.array([1.0, np.nan]))).hi)
    assert reduce_max(widen(np.array([-np.inf, -np.inf]))).hi == -np.inf


def test_a_choice_takes_both_parts():
    x = DoubleDouble(np.ones(2), np.full(2, 2.0**-60))
    made = where(np.array([True, False]), x, 2)
    assert (made.hi.tolist(), made.lo.tolist()) == ([1.0, 2.0], [2.0**-60, 0.0])


def test_errors_are_exact_where_the_low_part_is_all_there_is():
    truth = DoubleDouble(np.array([1.0, 3.0, np.nan]), np.array([2.0**-60, -(2.0**-80), 0.0]))
    assert find_error(np.array([1.0, 3.0, 1.0]), truth)[:2].tolist() == [2.0**-60, 2.0**-80]
    assert np.isnan(find_error(np.ones(3), truth)[2])


def test_errors_are_within_an_ulp_of_what_they_are(rng):
    truth = draw_wide(rng, 300, 20)
    given = truth.hi * (1 + 2.0**-52 * rng.integers(-9, 9, 300))
    with wide_balls():
        exact = abs(to_balls(given) - to_balls(truth))
        assert (abs(to_balls(find_error(given, truth)) - exact) <= 2.0**-52 * exact).all()


def test_entries_are_moved_with_both_parts(rng):
    x = draw_wide(rng, (2, 3), 1)
    made = map_parts(lambda part: part[::-1].T, x)
    assert np.array_equal(made.lo, x.lo[::-1].T)
