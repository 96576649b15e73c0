"""Elementary functions of double-double arrays: an array comes in, exp, log, tanh, pow and the like of each entry go out.

Relative errors, with u = 2^-53 and UNIT = 2^-100: exp, expm1, log, log1p and tanh 2^-98 (as measured on hard
arguments less than 2^-101), pow by a whole number n of at most 64 in magnitude 2^-98 n, any other pow
2^-98 (1 + |y log x|). sin, cos and erf are mpmath's, rounded once: few formulas have them, and a range reduction of
our own would have to be proven for every argument. FLOOR stands beside each, for results near the smallest float64.
Where float64's own function gives an infinity or NaN, so do these.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial
from typing import Any

import numpy as np

from harness.core import Array
from harness.judge.double_double import DoubleDouble, add, divide, multiply, scale, sqrt, widen
from harness.judge.wide_arrays import where

ELEMENTARY = 2.0**-98
HALVINGS = 4
MPMATH_BITS = 240
_LN2_BITS = 40  # a third of log 2 of so many bits, times an exponent of 11, is exact in float64
_EXP_WIDE, _EXP_TERMS = 8, 16
_LOG_WIDE, _LOG_TERMS = 12, 24


def split(value: Fraction) -> DoubleDouble:
    """Return the fraction as the nearest double-double.

    >>> split(Fraction(1, 3)).lo.item()
    1.850371707708594e-17
    """
    hi = float(value)
    return DoubleDouble(hi, float(value - Fraction(hi)))


def _split_ln2() -> tuple[float, float, float]:
    """Return log 2 as three float64, of which the first two leave room for a factor of 11 bits."""
    value = Fraction("0.693147180559945309417232121458176568075500134360255254120680009493393621969694715605863")
    first = Fraction(int(value * 2**_LN2_BITS), 2**_LN2_BITS)
    second = Fraction(int((value - first) * 4**_LN2_BITS), 4**_LN2_BITS)
    return float(first), float(second), float(value - first - second)


_LN2 = _split_ln2()
_EXP = [split(Fraction(1, factorial(n))) for n in range(_EXP_TERMS)]
_LOG = [split(Fraction(1, 2 * n + 1)) for n in range(_LOG_TERMS)]


@np.errstate(all="ignore")
def exp(x: DoubleDouble) -> DoubleDouble:
    """Return e^x = 2^k (1 + expm1(x - k log 2))."""
    k, rest = _reduce(x)
    return _agree(scale(add(_expm1_near_zero(rest), widen(1.0)), k), np.exp(x.hi))


@np.errstate(all="ignore")
def expm1(x: DoubleDouble) -> DoubleDouble:
    """Return e^x - 1 = 2^k expm1(x - k log 2) + (2^k - 1), with 2^k taken out where it is large."""
    k, rest = _reduce(x)
    near, power = _expm1_near_zero(rest), np.ldexp(1.0, -np.abs(k))
    small = add(scale(near, k), add(widen(power), widen(-1.0)))
    large = scale(add(near, add(widen(1.0), widen(-power))), k)
    return _agree(where(k > 0, large, small), np.expm1(x.hi))


@np.errstate(all="ignore")
def log(x: DoubleDouble) -> DoubleDouble:
    """Return log x = k log 2 + log m, with the mantissa m between the root of 1/2 and that of 2."""
    k, mantissa = _take_mantissa(x)
    return _agree(_log_of_parts(k, add(mantissa, widen(-1.0))), np.log(x.hi))


@np.errstate(all="ignore")
def log1p(x: DoubleDouble) -> DoubleDouble:
    """Return log(1 + x): where 1 + x is its own mantissa, x itself goes into the series."""
    k, mantissa = _take_mantissa(add(x, widen(1.0)))
    return _agree(_log_of_parts(k, where(k == 0, x, add(mantissa, widen(-1.0)))), np.log1p(x.hi))


@np.errstate(all="ignore")
def tanh(x: DoubleDouble) -> DoubleDouble:
    """Return tanh |x| = -e / (2 + e) with e = expm1(-2 |x|), under the sign of x."""
    e = expm1(scale(-abs(x), 1))
    size = divide(-e, add(e, widen(2.0)))
    return where(np.signbit(x.hi), -size, size)


@np.errstate(all="ignore")
def sech_squared(x: DoubleDouble) -> DoubleDouble:
    """Return the derivative of tanh, 4 e / (1 + e)^2 with e = exp(-2 |x|): 1 - tanh^2 would cancel."""
    e = exp(scale(-abs(x), 1))
    root = add(e, widen(1.0))
    return divide(scale(e, 2), multiply(root, root))


def power(x: DoubleDouble, y: Any) -> DoubleDouble:
    """Return x^y: by multiplication for a whole number up to 64, by the root for a half, else as exp(y log x)."""
    exponent = widen(y)
    if exponent.ndim == 0 and not exponent.lo.any():
        value = float(exponent.hi)
        if value.is_integer() and abs(value) <= 64:
            return _power_of_whole(x, int(value))
        if abs(value) == 0.5:
            root = sqrt(where(np.isinf(x.hi) | (x.hi == 0), abs(x), x))  # pow(-inf, 0.5) is inf, and of -0 it is 0
            return root if value > 0 else divide(widen(1.0), root)
    return _power_of_any(x, exponent)


def sin(x: DoubleDouble) -> DoubleDouble:
    """Return the sine, by mpmath."""
    return _by_mpmath("sin", x)


def cos(x: DoubleDouble) -> DoubleDouble:
    """Return the cosine, by mpmath."""
    return _by_mpmath("cos", x)


def erf(x: DoubleDouble) -> DoubleDouble:
    """Return the error function, by mpmath."""
    return _by_mpmath("erf", x)


@np.errstate(all="ignore")
def erf_slope(x: DoubleDouble) -> DoubleDouble:
    """Return the derivative of erf, exp(-x^2) 2 / sqrt(pi)."""
    return multiply(exp(-multiply(x, x)), _TWO_OVER_ROOT_PI)


_TWO_OVER_ROOT_PI = split(Fraction("1.12837916709551257389615890312154517168810125865799771368817144"))


def _reduce(x: DoubleDouble) -> tuple[Array, DoubleDouble]:
    """Return k and x - k log 2, which is at most log 2 / 2; x is clipped to where e^x is neither 0 nor infinite."""
    known = where(np.abs(x.hi) < 1500, x, np.where(np.isnan(x.hi), 0.0, np.clip(x.hi, -1500.0, 1500.0)))
    k = np.rint(known.hi / np.log(2))
    for part in _LN2:
        known = add(known, widen(-k * part))
    return k.astype(np.int64), known


def _expm1_near_zero(x: DoubleDouble) -> DoubleDouble:
    """Return expm1 for |x| <= log 2 / 2: the series at x / 16, and (1 + s)^2 - 1 = s (2 + s) four times."""
    small = scale(x, -HALVINGS)
    tail = np.zeros(x.shape)
    for term in reversed(_EXP[_EXP_WIDE + 1 :]):
        tail = tail * small.hi + term.hi
    series = widen(tail)
    for term in reversed(_EXP[2 : _EXP_WIDE + 1]):
        series = add(multiply(series, small), term)
    s = add(multiply(multiply(small, small), series), small)
    for _ in range(HALVINGS):
        s = multiply(s, add(s, widen(2.0)))
    return s


def _take_mantissa(x: DoubleDouble) -> tuple[Array, DoubleDouble]:
    """Return k and m with x = 2^k m; what has no logarithm becomes 1."""
    usable = where(np.isfinite(x.hi) & (x.hi > 0), x, 1.0)
    mantissa, k = np.frexp(usable.hi)
    k = k - (mantissa < np.sqrt(0.5))
    return k, scale(usable, -k)


def _log_of_parts(k: Array, f: DoubleDouble) -> DoubleDouble:
    """Return k log 2 + log(1 + f) = k log 2 + 2 artanh(s) with s = f / (2 + f), |s| < 0.172."""
    s = divide(f, add(f, widen(2.0)))
    square = multiply(s, s)
    tail = np.zeros(f.shape)
    for term in reversed(_LOG[_LOG_WIDE + 1 :]):
        tail = tail * square.hi + term.hi
    series = widen(tail)
    for term in reversed(_LOG[1 : _LOG_WIDE + 1]):
        series = add(multiply(series, square), term)
    total = scale(add(s, multiply(s, multiply(square, series))), 1)
    for part in reversed(_LN2):
        total = add(total, widen(k * part))
    return total


def _power_of_whole(x: DoubleDouble, n: int) -> DoubleDouble:
    """Return x^n by squaring."""
    out, factor, left = widen(np.ones(x.shape)), x, abs(n)
    while left:
        if left % 2:
            out = multiply(out, factor)
        left //= 2
        factor = multiply(factor, factor) if left else factor
    return divide(widen(1.0), out) if n < 0 else out


@np.errstate(all="ignore")
def _power_of_any(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return |x|^y under the sign that float64 gives; 0, infinity and NaN are float64's."""
    plain = np.power(x.hi, y.hi)
    size = exp(multiply(y, log(abs(x))))
    usual = np.isfinite(plain) & np.isfinite(x.hi) & (x.hi != 0) & np.isfinite(size.hi)
    return where(usual, where(plain < 0, -size, size), plain)


def _agree(wide: DoubleDouble, plain: Any) -> DoubleDouble:
    """Return the wide result where float64's is finite, float64's elsewhere."""
    return where(np.isfinite(plain), wide, plain)


def _by_mpmath(name: str, x: DoubleDouble) -> DoubleDouble:
    """Return the function of each entry, computed from its exact value and rounded once; NaN stays, erf(inf) = 1."""
    import mpmath

    function = getattr(mpmath, name)

    def compute(hi: float, lo: float) -> tuple[float, float]:
        if not np.isfinite(hi):
            return (float(np.sign(hi)) if name == "erf" else np.nan), 0.0
        value = function(mpmath.mpf(hi) + mpmath.mpf(lo))
        return float(value), float(value - float(value))

    with mpmath.workprec(MPMATH_BITS):
        found = [compute(hi, lo) for hi, lo in zip(x.hi.ravel().tolist(), x.lo.ravel().tolist(), strict=True)]
    hi, lo = np.array(found, np.float64).reshape(-1, 2).T
    return DoubleDouble(hi.reshape(x.shape), lo.reshape(x.shape))
