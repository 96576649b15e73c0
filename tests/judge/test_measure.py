"""A gradient, its truth and its bound come in; the verdict and the error in bounds, ulps and norms go out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.judge.measure import MILLIONTH, PIECE, SEEN, measure

NUMBERS = st.floats(0.5, 2.0) | st.floats(-2.0, -0.5)
TRUTH = arrays.arrays(np.float64, arrays.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=NUMBERS)
BIG = float(np.finfo(np.float32).max)


def _single(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def _bound(*numbers: float) -> np.ndarray:
    return np.array(numbers)


ONE, TIGHT = np.array([1.0, 2.0]), _bound(1e-6, 1e-6)
VERDICTS = {
    "equal": (_single(1, 2), ONE, TIGHT, "ok"),
    "within its bound": (_single(1, 2 + 4e-7), ONE, TIGHT, "ok"),
    "outside its bound": (_single(1, 2.01), ONE, TIGHT, "mismatch"),
    "of the other sign": (_single(1, -2), ONE, TIGHT, "mismatch"),
    "missing": (None, ONE, TIGHT, "missing"),
    "of another shape": (_single(1, 2)[None], ONE, TIGHT, "shape"),
    "a scalar": (np.float32(1), ONE, TIGHT, "shape"),
    "of another dtype": (np.array([1.0, 2.0]), ONE, TIGHT, "dtype"),
    "integers": (np.array([1, 2]), ONE, TIGHT, "dtype"),
    "nothing": (np.zeros((0, 3), np.float32), np.zeros((0, 3)), np.zeros((0, 3)), "vacuous"),
    "NaN for a number": (_single(1, np.nan), ONE, TIGHT, "nonfinite"),
    "infinity for a number": (_single(1, np.inf), ONE, TIGHT, "nonfinite"),
    "a number for NaN": (_single(1, 2), np.array([1.0, np.nan]), TIGHT, "mismatch"),
    "a number for infinity": (_single(1, 2), np.array([1.0, np.inf]), TIGHT, "mismatch"),
    "NaN for NaN": (_single(1, np.nan), np.array([1.0, np.nan]), TIGHT, "ok"),
    "infinity for infinity": (_single(1, np.inf), np.array([1.0, np.inf]), TIGHT, "ok"),
    "infinity for the other infinity": (_single(1, np.inf), np.array([1.0, -np.inf]), TIGHT, "mismatch"),
    "NaN for infinity": (_single(1, np.nan), np.array([1.0, np.inf]), TIGHT, "mismatch"),
    "infinity where rounding overflows": (_single(1, np.inf), np.array([1.0, BIG]), _bound(1e-6, 1e32), "ok"),
    "infinity where the truth is too large": (_single(1, -np.inf), np.array([1.0, -1e39]), TIGHT, "ok"),
    "infinity of the wrong sign there": (_single(1, -np.inf), np.array([1.0, 1e39]), TIGHT, "nonfinite"),
    "infinity just below": (_single(1, np.inf), np.array([1.0, BIG / 2]), TIGHT, "nonfinite"),
    "equal with a bound of zero": (_single(1, 2), ONE, _bound(0, 0), "ok"),
    "not equal with a bound of zero": (_single(1, 2.0000002), ONE, _bound(0, 0), "mismatch"),
    "zero for zero, bound of zero": (_single(1, 0), np.array([1.0, 0.0]), _bound(0, 0), "ok"),
    "negative zero for zero": (_single(1, -0.0), np.array([1.0, 0.0]), _bound(0, 0), "ok"),
    "zeros for zeros": (_single(0, 0), np.zeros(2), TIGHT, "powerless"),
    "bounds too wide": (_single(1, 2), ONE, _bound(0.1, 0.1), "powerless"),
    "one bound that is sharp": (_single(1, 2), ONE, _bound(1e9, 1e-6), "ok"),
    "infinite bounds": (_single(1, 9), ONE, _bound(np.inf, np.inf), "powerless"),
    "bounds that are NaN": (_single(1, 9), ONE, _bound(np.nan, np.nan), "mismatch"),
    "NaN all over for NaN": (_single(np.nan, np.nan), np.full(2, np.nan), TIGHT, "powerless"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_verdict_is(case):
    got, truth, bound, verdict = VERDICTS[case]
    assert measure(got, truth, bound, "float32").verdict == verdict


def test_what_is_told_of_the_worst_entry():
    truth = np.array([[1.0, 2.0], [4.0, 8.0]])
    found = measure(_single(1, 2.25, 4.5, 8).reshape(2, 2), truth, np.array([[1, 0.25], [0.25, 1]]), "float32")
    assert (found.worst_index, found.got, found.expected) == ((1, 0), 4.5, 4.0)
    assert (found.error_in_bounds, found.n_compared, found.n_wrong) == (2.0, 4, 1)
    assert found.ulps == 0.5 / np.spacing(np.float32(4))
    assert found.relative_to_norm == pytest.approx(np.hypot(0.25, 0.5) / np.linalg.norm(truth))


def test_an_error_is_measured_finer_than_the_dtype():
    truth = np.array([1 / 3])
    found = measure(truth.astype(np.float32), truth, np.zeros(1), "float32")
    assert found.n_wrong == 1
    assert 0 < found.ulps < 0.5


def test_longdouble_truths_keep_their_precision():
    truth = np.array([1 / np.longdouble(3)])
    if truth.dtype == np.float64:
        pytest.skip("this machine's longdouble is float64")
    found = measure(truth.astype(np.float64), truth, np.array([1.0]), "float64")
    assert 0 < found.ulps < 0.5


def test_a_bound_may_be_one_number():
    assert measure(_single(1, 2), ONE, np.float64(1e-6), "float32").verdict == "ok"


def test_one_number_can_be_measured():
    found = measure(np.float32(2), np.array(2.0), np.array(1e-6), "float32")
    assert (found.verdict, found.worst_index, found.n_compared) == ("ok", (), 1)


@given(TRUTH, st.floats(1e-12, 1e-3), st.data())
def test_right_within_its_bound_and_wrong_outside(truth, size, data):
    bound = size * np.abs(truth)
    share = data.draw(arrays.arrays(np.float64, truth.shape, elements=st.floats(-0.99, 0.99)))
    assert measure(truth + share * bound, truth, bound, "float64").n_wrong == 0
    index = data.draw(st.integers(0, truth.size - 1))
    got = truth + share * bound
    got.flat[index] = truth.flat[index] + 1.5 * bound.flat[index]
    found = measure(got, truth, bound, "float64")
    assert (found.verdict, found.n_wrong) == ("mismatch", 1)
    assert np.ravel_multi_index(found.worst_index, truth.shape) == index
    assert found.error_in_bounds == pytest.approx(1.5, rel=1e-2)


@given(TRUTH, st.floats(1e-9, 0.2), st.floats(1.01, 5.0), st.data())
def test_an_error_above_the_power_is_surely_seen(truth, size, above, data):
    bound = size * data.draw(arrays.arrays(np.float64, truth.shape, elements=st.floats(0.1, 1.0)))
    power = measure(truth, truth, bound, "float64").power
    rounding = data.draw(arrays.arrays(np.float64, truth.shape, elements=st.floats(-1, 1))) * bound
    assert measure(truth * (1 + above * power) + rounding, truth, bound, "float64").verdict == "mismatch"


@given(TRUTH, st.floats(1e-12, 1e3))
def test_powerless_is_just_what_could_not_show_one_percent(truth, size):
    found = measure(truth, truth, size * np.abs(truth), "float64")
    assert found.verdict == ("ok" if found.power <= SEEN else "powerless")
    assert found.power == pytest.approx(2 * size)


@given(TRUTH, st.integers(-60, 60))
def test_a_power_of_two_changes_no_ratio(truth, exponent):
    factor = 2.0**exponent
    a = measure(1.001 * truth, truth, 1e-6 * np.abs(truth), "float64")
    b = measure(1.001 * truth * factor, truth * factor, 1e-6 * np.abs(truth) * factor, "float64")
    assert (a.error_in_bounds, a.ulps, a.relative_to_norm, a.power) == (b.error_in_bounds, b.ulps, b.relative_to_norm, b.power)


@given(TRUTH)
def test_the_order_of_the_entries_does_not_matter(truth):
    a = measure(1.001 * truth, truth, np.full(truth.shape, 1e-6), "float64")
    b = measure((1.001 * truth).ravel()[::-1], truth.ravel()[::-1], np.full(truth.size, 1e-6), "float64")
    assert (a.error_in_bounds, a.n_wrong, a.ulps) == (b.error_in_bounds, b.n_wrong, b.ulps)


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_many_pieces_is_measured_as_the_definitions_say(order):
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((3, PIECE // 2 + 5)) * 10.0 ** rng.integers(-9, 9, (3, 1))
    bound = np.abs(truth) * 10.0 ** rng.uniform(-8, 0, truth.shape)
    got = np.asarray(truth + rng.uniform(-1.0, 1.2, truth.shape) * bound, np.float32, order=order)
    error, ratio = np.abs(got - truth), np.abs(got - truth) / bound
    found = measure(got, truth, bound, "float32")
    assert found.n_wrong == np.count_nonzero(ratio > 1) > 0
    assert (found.error_in_bounds, found.worst_index) == (ratio.max(), np.unravel_index(ratio.argmax(), truth.shape))
    assert (found.got, found.expected) == (got[found.worst_index], truth[found.worst_index])
    assert found.ulps == pytest.approx((error / np.spacing(np.abs(truth).astype(np.float32))).max(), rel=1e-6)
    assert found.relative_to_norm == pytest.approx(np.linalg.norm(error) / np.linalg.norm(truth))
    assert found.power == pytest.approx((2 * bound / np.abs(truth)).min())
    assert found.seen_percent == pytest.approx(np.mean(2 * bound <= SEEN * np.abs(truth)), abs=1e-4)
    assert found.seen_millionth == pytest.approx(np.mean(2 * bound <= MILLIONTH * np.abs(truth)), abs=1e-4)


def test_the_most_ulps_are_found_among_subnormal_numbers_too():
    least = float(np.finfo(np.float32).smallest_subnormal)
    truth = np.array([1.0, 3 * least])
    found = measure(np.array([1 + 2.0**-20, 4 * least], np.float32), truth, np.full(2, 1e-5), "float32")
    assert found.ulps == 8.0
