"""Random and hard numbers come in; errors against ball arithmetic, within what is declared, and NumPy's own rules go out."""

from __future__ import annotations

import operator

import numpy as np
import pytest

from harness.judge.double_double import FLOOR, UNIT, WIDE, DoubleDouble, divide, scale, sqrt, two_product, two_sum, widen
from tests.judge.balls import call, to_balls, wide_balls
from tests.judge.measuring import draw_wide, find_worst

ARITHMETIC = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv}
U = 2.0**-53
# What the module declares of each operation, in units of u^2.
DECLARED = {"add": 3.01, "sub": 3.01, "mul": 5, "truediv": 15.1}
SPECIAL = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 1e308, -1e308, 5e-324, 1e-300])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("spread", [2, 60, 400])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_is_as_exact_as_declared(name, spread, rng):
    x, y = draw_wide(rng, 500, spread), draw_wide(rng, 500, spread)
    with wide_balls():
        worst = find_worst(ARITHMETIC[name](x, y), ARITHMETIC[name](to_balls(x), to_balls(y)))
    assert 0 < worst <= DECLARED[name] * U**2 <= UNIT


def test_sums_that_cancel_are_as_exact_as_others(rng):
    x = draw_wide(rng, 500, 2)
    for shift in range(0, 100, 7):
        y = -x + scale(draw_wide(rng, 500, 2), -shift)
        with wide_balls():
            assert find_worst(x + y, to_balls(x) + to_balls(y)) <= 3.01 * U**2


@pytest.mark.parametrize("spread", [2, 400, 1000])
def test_roots_are_as_exact_as_declared(spread, rng):
    x = abs(draw_wide(rng, 500, spread))
    with wide_balls():
        assert 0 < find_worst(sqrt(x), call("sqrt", to_balls(x))) <= 4 * U**2


def test_the_parts_of_a_result_do_not_overlap(rng):
    x, y = draw_wide(rng, 500, 50), draw_wide(rng, 500, 50)
    for name, function in ARITHMETIC.items():
        z = function(x, y)
        assert (z.hi + z.lo == z.hi).all(), name


def test_transformations_without_error_are_without_error(rng):
    a, b = rng.standard_normal((2, 500)) * 2.0 ** rng.uniform(-50, 50, (2, 500))
    with wide_balls():
        for made, exact in ((two_sum(a, b), to_balls(a) + to_balls(b)), (two_product(a, b), to_balls(a) * to_balls(b))):
            assert (to_balls(DoubleDouble(*made)) == exact).all()


@pytest.mark.parametrize("name", ARITHMETIC)
def test_infinities_and_nan_are_those_of_float64(name):
    x, y = np.meshgrid(SPECIAL, SPECIAL)
    with np.errstate(all="ignore"):
        plain = ARITHMETIC[name](x, y)
    wide = ARITHMETIC[name](widen(x), widen(y))
    assert np.array_equal(wide.hi, plain, equal_nan=True)
    assert np.array_equal(np.signbit(wide.hi[plain == 0]), np.signbit(plain[plain == 0]))
    assert (wide.lo[~np.isfinite(plain)] == 0).all()


@pytest.mark.parametrize("size", [1e-290, 1e-307, 5e-324])
def test_underflow_moves_a_result_by_no_more_than_the_floor(size, rng):
    x, y = widen(rng.standard_normal(200) * size), widen(rng.standard_normal(200))
    with wide_balls(1200):
        for made, exact in ((x * y, to_balls(x) * to_balls(y)), (x / y, to_balls(x) / to_balls(y))):
            assert (abs(to_balls(made) - exact) <= FLOOR + UNIT * abs(exact)).all()


def test_large_numbers_are_multiplied_without_loss():
    x, y = widen(2.0**1000 / 3), widen(7 / 3)
    with wide_balls():
        assert find_worst(x * y, to_balls(x) * to_balls(y)) <= 5 * U**2


@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_look_at_the_low_part(name):
    compare = getattr(operator, name)
    low = [0.0, 2.0**-60, -(2.0**-60), 2.0**-90]
    x = DoubleDouble(np.ones(4), np.array(low))
    expected = [[compare(a, b) for b in low] for a in low]
    assert compare(x[:, None], x[None, :]).tolist() == expected
    assert compare(widen(np.nan), x).tolist() == [name == "ne"] * 4
    assert compare(np.ones(4), x).tolist() == [compare(0.0, b) for b in low]


def test_arrays_and_numbers_mix_from_either_side():
    x = DoubleDouble(np.array([1.0, 2.0]), np.array([2.0**-70, 0.0]))
    for made in (x + np.array([1, 2]), np.array([1, 2]) + x, x + np.array([[1.0, 2.0]])[0]):
        assert isinstance(made, DoubleDouble)
        assert (made.hi.tolist(), made.lo.tolist()) == ([2.0, 4.0], [2.0**-70, 0.0])
    assert (np.float64(3) - x).hi.tolist() == [2.0, 1.0]
    assert (1 / DoubleDouble(np.array(4.0))).hi == 0.25
    with pytest.raises(TypeError, match="unsupported operand"):
        x + "1"


def test_a_double_double_never_becomes_an_array_unseen():
    with pytest.raises(TypeError, match="no NumPy array"):
        np.asarray(DoubleDouble(1.0))
    with pytest.raises(TypeError, match="ufunc"):
        np.exp(DoubleDouble(1.0))


@pytest.mark.parametrize("value", [2**53 + 1, -(2**62) - 1, 2**63 - 1])
def test_integers_are_converted_exactly(value):
    wide = widen(np.array([value]))
    assert int(wide.hi[0]) + int(wide.lo[0]) == value


def test_floats_are_converted_exactly():
    third = np.longdouble(1) / 3
    assert widen(np.array(third)).to_longdouble() == third
    assert widen(np.array([np.inf, np.nan], np.longdouble)).lo.tolist() == [0, 0]
    assert widen(np.float32(0.1)).hi == np.float64(np.float32(0.1))
    assert widen(np.array([True])).hi.tolist() == [1.0]


def test_a_longdouble_of_it_keeps_what_it_can():
    x = DoubleDouble(np.array([1.0, np.inf]), np.array([2.0**-60, 0.0]))
    digits = np.finfo(np.longdouble).eps
    assert (x.to_longdouble()[0] - 1 == 2.0**-60) == (digits < 2.0**-60)
    assert x.to_longdouble()[1] == np.inf
    assert x.astype(np.float32).dtype == np.float32
    assert x.astype(WIDE) is x


def test_division_takes_mantissas_so_that_nothing_overflows_on_the_way():
    for x, y in ((1e308, 1e308), (1e-310, 1e-310), (1e300, 1e-5), (1e-300, 1e5)):
        assert divide(widen(x), widen(y)).hi == x / y
