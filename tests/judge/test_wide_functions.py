"""Random and hard arguments come in; errors of each function against ball arithmetic, within what is declared, go out."""

from __future__ import annotations

from fractions import Fraction
from math import pi

import flint
import numpy as np
import pytest
from scipy import special

from harness.judge import wide_functions
from harness.judge.double_double import FLOOR, scale, widen
from harness.judge.wide_arrays import where
from harness.judge.wide_functions import ELEMENTARY, power, split
from tests.judge.balls import call, to_balls, wide_balls
from tests.judge.measuring import draw_wide, find_worst

rng = np.random.default_rng(5)
SMALL = scale(draw_wide(rng, 200, 30), -40)
MIDDLE = draw_wide(rng, 400, 3)
LARGE = where(np.abs(MIDDLE.hi) < 6.6, MIDDLE * 100, 1.0)
NEAR_ONE = widen(1 + rng.uniform(-1, 1, 200) * 2.0 ** -rng.integers(1, 52, 200))
POSITIVE = abs(draw_wide(rng, 400, 900))
NEAR_ZEROS_OF_SINE = widen(np.round(2.0 ** rng.uniform(0, 60, 100)) * pi)
ARGUMENTS = {
    "exp": (SMALL, MIDDLE, LARGE, widen(np.arange(-660.0, 709.0, 17.3))),
    "expm1": (SMALL, MIDDLE, LARGE, widen(np.arange(-660.0, 709.0, 17.3)), widen(np.log(2.0) * np.arange(-9.5, 9.5))),
    "log": (abs(MIDDLE), POSITIVE, NEAR_ONE, widen(np.array([5e-324, 1e-310, 1.7e308]))),
    "log1p": (SMALL, abs(MIDDLE), POSITIVE, scale(NEAR_ONE, -1) - 0.5, widen(-1 + 2.0 ** -np.arange(1.0, 50.0))),
    "tanh": (SMALL, MIDDLE, LARGE),
    "sin": (SMALL, MIDDLE, LARGE, NEAR_ZEROS_OF_SINE),
    "cos": (SMALL, MIDDLE, LARGE, NEAR_ZEROS_OF_SINE / 2),
    "erf": (SMALL, MIDDLE, LARGE),
}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -2.0, 1e4, -1e4])
PLAIN = {name: getattr(special, name) if name == "erf" else getattr(np, name) for name in ARGUMENTS}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_functions_are_as_exact_as_declared(name):
    with wide_balls():
        for x in ARGUMENTS[name]:
            usual = x[x.hi != 0]
            assert find_worst(getattr(wide_functions, name)(usual), call(name, to_balls(usual))) <= ELEMENTARY


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p", "tanh"])
def test_the_errors_measured_are_an_eighth_of_those_declared(name):
    with wide_balls():
        worst = [find_worst(getattr(wide_functions, name)(x), call(name, to_balls(x))) for x in ARGUMENTS[name][:2]]
    assert 0 < max(worst) <= ELEMENTARY / 8


@pytest.mark.parametrize("name", ARGUMENTS)
def test_infinities_zeros_and_nan_are_those_of_float64(name):
    with np.errstate(all="ignore"):
        plain = PLAIN[name](SPECIAL)
    wide = getattr(wide_functions, name)(widen(SPECIAL))
    odd = ~np.isfinite(plain) | (plain == 0)
    assert odd.any()
    assert np.array_equal(wide.hi[odd], plain[odd], equal_nan=True)
    assert not wide.lo[odd].any()
    assert np.allclose(wide.hi[~odd], plain[~odd], rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", ["exp", "expm1", "tanh"])
def test_results_that_underflow_are_within_the_floor(name):
    x = widen(np.array([-740.0, -720.0, 1e-310, -5e-324] if name == "exp" else [1e-310, -5e-324, 3e-308]))
    with wide_balls(2000):
        error = abs(to_balls(getattr(wide_functions, name)(x)) - call(name, to_balls(x)))
        assert (error <= FLOOR + ELEMENTARY * abs(call(name, to_balls(x)))).all()


def test_slopes_do_not_cancel_where_functions_saturate():
    x = widen(np.array([0.0, 1e-20, 0.3, -5.0, 40.0, 300.0]))
    with wide_balls(2000):
        tanh = call("tanh", to_balls(x))
        assert find_worst(wide_functions.sech_squared(x), 1 - tanh * tanh) <= 4 * ELEMENTARY
        slope = call("exp", -(to_balls(x[:5]) ** 2)) * 2 / flint.arb.pi().sqrt()
        assert find_worst(wide_functions.erf_slope(x[:4]), slope[:4]) <= 4 * ELEMENTARY


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 64, -1, -2, -5, 0.5, -0.5, 1.5, -2.25, 65])
def test_powers_are_as_exact_as_declared(exponent):
    x = abs(draw_wide(rng, 100, 5))
    with wide_balls():
        exact = to_balls(x) ** flint.arb(exponent)
        worst = find_worst(power(x, exponent), exact)
    whole = float(exponent).is_integer() and abs(exponent) <= 64
    logarithm = 5.0 if abs(exponent) == 0.5 else abs(exponent) * 6 * np.log(2)
    assert worst <= ELEMENTARY * (max(abs(exponent), 1) if whole else 1 + logarithm)


def test_powers_have_the_signs_and_limits_of_float64():
    x, y = np.meshgrid(
        [0.0, -0.0, 1.0, -1.0, -2.5, 3.0, np.inf, -np.inf, np.nan], [0.0, 1.0, 2.0, -1.0, -3.0, 0.5, 1.5, 300.0, 1e4]
    )
    with np.errstate(all="ignore"):
        plain = np.power(x, y)
    wide = power(widen(x), y)
    assert np.allclose(wide.hi, plain, rtol=1e-14, atol=0, equal_nan=True)
    for i, exponent in enumerate(y[:, 0]):
        assert np.allclose(power(widen(x[i]), exponent).hi, plain[i], rtol=1e-14, atol=0, equal_nan=True)


def test_a_fraction_is_split_into_its_nearest_double_double():
    third = split(Fraction(1, 3))
    assert abs(Fraction(float(third.hi)) + Fraction(float(third.lo)) - Fraction(1, 3)) < Fraction(1, 2**108)


def test_constants_hold_their_digits():
    with wide_balls():
        first, second, third = map(flint.arb, wide_functions._LN2)
        assert abs(first + second + third - flint.arb(2).log()) < 2.0**-130
        assert find_worst(wide_functions._TWO_OVER_ROOT_PI, 2 / flint.arb.pi().sqrt()) < 2.0**-106
    for k in (1, 1075, -1075):
        assert all(Fraction(k * part) == k * Fraction(part) for part in wide_functions._LN2[:2])
