"""Numbers come in; they are moved as far as float32 moves them, alike where they are alike, and not where it is exact."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judge.value_noise import (
    Rounder,
    enter,
    find_half_ulp,
    is_exact_sum,
    is_power,
    is_stored,
    move,
    round_added,
    round_result,
    round_sum,
)

RNG = np.random.default_rng(0)
ROUNDER = Rounder(digits=24, least=2.0**-149, salt=1)


def rounders(count: int) -> list[Rounder]:
    return [Rounder(24, 2.0**-149, salt) for salt in range(count)]


def test_a_number_moves_within_its_width_and_not_beyond():
    value, width = RNG.standard_normal(4000), np.full(4000, 1e-3)
    moved = move(ROUNDER, value, width) - value
    assert np.abs(moved).max() <= 1e-3
    assert np.std(moved) == pytest.approx(1e-3 / np.sqrt(3), rel=0.05)
    assert abs(np.mean(moved)) < 5 * 1e-3 / np.sqrt(3 * 4000)
    assert np.array_equal(move(ROUNDER, [np.inf, np.nan], 1.0), [np.inf, np.nan], equal_nan=True)


def test_noise_hangs_on_the_value_and_the_salt_alone():
    value = RNG.standard_normal(50)
    one, again, other = (move(Rounder(24, 0.0, salt), value, 1e-3) - value for salt in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.isclose(one, other, rtol=1e-6).any()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.5
    assert np.array_equal(move(ROUNDER, -value, 1e-3), -move(ROUNDER, value, 1e-3))


def test_values_that_the_precision_cannot_tell_apart_move_alike():
    step = (move(ROUNDER, 1.1 + 2.0**-40, 1e-3) - (1.1 + 2.0**-40)) - (move(ROUNDER, 1.1, 1e-3) - 1.1)
    apart = (move(ROUNDER, 1.1 + 2.0**-20, 1e-3) - (1.1 + 2.0**-20)) - (move(ROUNDER, 1.1, 1e-3) - 1.1)
    assert abs(step) < 1e-15
    assert abs(apart) > 1e-6


def test_half_an_ulp_is_what_one_rounding_may_do():
    values = np.abs(RNG.standard_normal(2000)) * 10.0 ** RNG.integers(-44, 38, 2000)
    rounded = values.astype(np.float32).astype(np.float64)
    half = find_half_ulp(ROUNDER, values)
    assert (np.abs(rounded - values) <= half).all()
    assert (half <= np.spacing(values.astype(np.float32)).astype(np.float64) / 2).all()
    assert find_half_ulp(ROUNDER, [0.0, np.inf, np.nan]).tolist() == [0.0, 0.0, 0.0]


def test_what_is_stored_and_what_is_a_power_of_two_is_known():
    values = np.array([1.0, 0.1, 2.0**-30, 3.0, 0.0, 1 + 2.0**-23, 1 + 2.0**-24])
    assert np.array_equal(is_stored(ROUNDER, values), values.astype(np.float32) == values)
    assert is_power(values).tolist() == [True, False, True, False, True, False, False]


def test_constants_enter_as_the_precision_stores_them():
    moved = [float(enter(rounder, 0.1)) for rounder in rounders(200)]
    assert 0 < max(abs(value - 0.1) for value in moved) <= 2.0**-28  # half an ulp of 0.1 in float32
    assert enter(ROUNDER, 0.5) == 0.5
    assert enter(ROUNDER, 3) == 3
    assert enter(Rounder(24, 0.0, 1, constants=False), 0.1) == 0.1
    labels = np.array([1, 2])
    assert enter(ROUNDER, labels) is labels


def test_a_sum_of_two_errs_by_no_more_than_its_smaller_term():
    a, b = np.array([1.0, 1.0, 3.0, 5.0, 1.3]), np.array([1e-12, 1e-20, -2.0, 0.0, 0.4])
    moved = np.array([round_added(rounder, a + b, a, b) - (a + b) for rounder in rounders(60)])
    most = np.abs(moved).max(axis=0)
    assert 0 < most[0] <= 1e-12 + 1e-15
    assert 2.0**-26 < most[1] <= 2.0**-24  # float64 lost the term, float32 rounds it away
    assert most[2] == most[3] == 0
    assert 2.0**-26 < most[4] <= 2.0**-24


def test_near_numbers_subtract_exactly():
    a = RNG.uniform(1, 2, 1000)
    b = -RNG.uniform(a / 2, a)  # Sterbenz: between half and all of it
    assert np.array_equal(round_added(ROUNDER, a + b, a, b), a + b)


def test_results_move_by_their_ulps_but_for_the_exact_ones():
    values, exact = RNG.uniform(1, 2, 3000), np.arange(3000) % 3 == 0
    for ulps in (0.5, 1.0):
        moved = np.abs(round_result(ROUNDER, values, exact=exact, ulps=ulps) - values)
        assert (moved[exact] == 0).all()
        assert 0.9 * ulps * 2.0**-23 < moved.max() <= ulps * 2.0**-23


def test_a_sum_wanders_as_real_sums_do():
    """The root of n times half the roundoff, and not n times it: measured on sums in float32, one by one."""
    terms = RNG.standard_normal((300, 400)).astype(np.float32)
    single = np.zeros(300, np.float32)
    for column in terms.T:
        single += column
    total, norm = terms.astype(np.float64).sum(axis=1), np.sqrt(np.square(terms.astype(np.float64)).sum(axis=1))
    simulated = np.std([round_sum(rounder, total, norm, np.full(300, 400.0)) - total for rounder in rounders(30)], axis=0)
    assert 0.3 < np.sqrt(np.mean((single - total) ** 2)) / np.sqrt(np.mean(simulated**2)) < 2


def test_a_sum_of_one_term_is_exact_and_its_product_is_not():
    one = np.array([1.3])
    assert round_sum(ROUNDER, one, one, 1) == one
    assert round_sum(ROUNDER, one, one, 1, products=1) != one


def test_sums_on_a_grid_are_exact():
    assert is_exact_sum(ROUNDER, np.arange(100.0))
    assert is_exact_sum(ROUNDER, np.zeros(3), RNG.standard_normal(3))
    assert is_exact_sum(ROUNDER, np.arange(100.0) / 8, np.full(100, 0.25))
    assert not is_exact_sum(ROUNDER, np.array([1e9, 0.125]))
    assert not is_exact_sum(ROUNDER, np.array([np.inf, 1.0]))
    assert not is_exact_sum(ROUNDER, RNG.standard_normal(4), np.ones(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_called_exact_are_so_in_any_order(dtype):
    """Sums in float32 of what the harness calls exact give the same number whatever the order."""
    rng = np.random.default_rng(4)
    rounder = Rounder(np.finfo(dtype).nmant + 1, 0.0, 1) if dtype == np.float32 else Rounder(30, 0.0, 1)
    for _ in range(200):
        terms = rng.integers(-(2**20), 2**20, rng.integers(1, 9)) * 2.0 ** rng.integers(-30, 3)
        shuffled = rng.permutation(terms)
        if is_exact_sum(rounder, terms):
            assert np.cumsum(terms.astype(dtype))[-1] == np.cumsum(shuffled.astype(dtype))[-1] == terms.sum()
