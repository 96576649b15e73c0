"""Matrices of every length, range and shape come in; the product's error, entry by entry within what is declared, goes out."""

from __future__ import annotations

import flint
import numpy as np
import pytest

from harness.judge import wide_product
from harness.judge.double_double import FLOOR, UNIT, DoubleDouble, scale, widen
from harness.judge.wide_arrays import join
from harness.judge.wide_product import count_bits, matmul
from tests.judge.balls import to_balls, wide_balls
from tests.judge.measuring import draw_wide


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def _assert_exact(a: DoubleDouble, b: DoubleDouble) -> None:
    """Assert that a @ b is within UNIT |a| |b| of the product of balls."""
    made = matmul(a, b)
    with wide_balls(3000):
        exact = _multiply(to_balls(a), to_balls(b))
        sizes = _multiply(abs(to_balls(a)), abs(to_balls(b)))
        assert made.shape == exact.shape
        assert (abs(to_balls(made) - exact) <= UNIT * sizes + FLOOR * a.shape[-1]).all()


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the product of two matrices of balls."""
    left, right = (flint.arb_mat(*part.shape, part.ravel().tolist()) for part in (a, b))
    return np.array((left * right).entries(), object).reshape(a.shape[0], b.shape[1])


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 64, 150, 256, 600])
def test_products_are_as_exact_as_declared(length, rng):
    _assert_exact(draw_wide(rng, (3, length), 2), draw_wide(rng, (length, 4), 2))


@pytest.mark.parametrize("length", [1, 17, 300])
def test_float64_matrices_are_multiplied_as_exactly(length, rng):
    _assert_exact(widen(rng.standard_normal((4, length))), widen(rng.standard_normal((length, 3))))


@pytest.mark.parametrize("spread", [20, 60, 150, 500])
def test_entries_of_any_range_are_as_exact(spread, rng):
    _assert_exact(draw_wide(rng, (5, 20), spread), draw_wide(rng, (20, 4), spread))


def test_the_slow_way_is_taken_where_slices_do_not_reach_and_only_there(rng, monkeypatch):
    taken = []
    slow = wide_product._mend
    monkeypatch.setattr(wide_product, "_mend", lambda *given: taken.append(int(given[-1].sum())) or slow(*given))
    matmul(draw_wide(rng, (5, 20), 2), draw_wide(rng, (20, 4), 2))
    assert taken == []
    a, b = draw_wide(rng, (5, 20), 2), draw_wide(rng, (20, 4), 2)
    a.hi[2, 1:], a.lo[2, 1:] = a.hi[2, 1:] * 2.0**-300, a.lo[2, 1:] * 2.0**-300
    b.hi[0, 3] = b.lo[0, 3] = 0
    _assert_exact(a, b)
    assert taken == [1]


def test_a_huge_entry_beside_tiny_ones_hides_nothing():
    a, b = widen(np.array([[1e300, 1e-300]])), widen(np.array([[0.0, 1.0], [1.0, 1e-5]]))
    made = matmul(a, b)
    assert made.hi.tolist() == [[1e-300, 1e300]]
    _assert_exact(a, b)


def test_sums_that_cancel_keep_their_digits(rng):
    a = draw_wide(rng, (3, 40), 1)
    b = draw_wide(rng, (40, 2), 1)
    moved = b + scale(abs(b), -70)
    _assert_exact(join(np.concatenate, [a, -a], 1), join(np.concatenate, [b, moved], 0))


def test_rows_and_columns_are_scaled_by_themselves(rng):
    a, b = draw_wide(rng, (4, 9), 1), draw_wide(rng, (9, 3), 1)
    _assert_exact(scale(a, np.array([[-900], [0], [400], [900]])), scale(b, np.array([[-90, 0, 90]])))


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 0), (0, 0))])
def test_empty_products_are_empty_or_zero(shapes):
    made = matmul(*(DoubleDouble(np.ones(shape)) for shape in shapes))
    assert made.shape == (shapes[0][0], shapes[1][1])
    assert not made.hi.any()


def test_zeros_give_exact_zeros():
    made = matmul(widen(np.zeros((2, 3))), widen(np.ones((3, 2))))
    assert not made.hi.any()
    assert not made.lo.any()


@pytest.mark.parametrize(
    "shapes", [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 1))]
)
def test_vectors_and_stacks_follow_numpy(shapes, rng):
    a, b = (draw_wide(rng, shape, 3) for shape in shapes)
    made, plain = matmul(a, b), a.hi @ b.hi
    assert made.shape == plain.shape
    assert np.allclose(made.hi, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_and_nan_are_those_of_float64(value, rng):
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    a[1, 2], b[0, 3] = value, np.inf
    with np.errstate(all="ignore"):
        plain = a @ b
    made = matmul(widen(a), widen(b))
    assert np.array_equal(np.isfinite(plain), np.isfinite(made.hi))
    assert np.array_equal(made.hi[~np.isfinite(plain)], plain[~np.isfinite(plain)], equal_nan=True)
    assert made.lo[np.isfinite(plain)].all()


def test_products_that_overflow_are_infinite():
    made = matmul(widen(np.array([[1e300]])), widen(np.array([[1e300, -1e300, 1.0]])))
    assert made.hi.tolist() == [[np.inf, -np.inf, 1e300]]


@pytest.mark.parametrize("length", [1, 2, 100, 600, 5000])
@pytest.mark.parametrize("slices", [3, 5, 9])
def test_sums_of_products_of_slices_stay_below_two_to_53(length, slices):
    bits = count_bits(slices, length)
    assert slices * length * 2 ** (2 * (bits - 1)) <= 2**53
