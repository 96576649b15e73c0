"""Double-double arrays: float64 arrays come in, arrays of twice their digits that compute as NumPy's do go out.

A number is the unevaluated sum hi + lo of two float64 with |lo| <= ulp(hi) / 2. That is portable, where longdouble
is not, and its matrix products run on BLAS (`wide_product`). Every error is relative to the exact result of that one
operation, with u = 2^-53: sums 3 u^2, products 5 u^2, quotients 15 u^2 (Joldes, Muller and Popescu, Tight and
rigorous error bounds for basic building blocks of double-word arithmetic, algorithms 6, 10 and 17; Muller and
Rideau for the 5), roots 4 u^2; UNIT = 2^-100 bounds them all. Where a result or a product on its way is below 2^-960
the low part underflows: that moves it by FLOOR at most. Infinities and NaN come out where float64 gives them, and
within a factor 2 of the largest float64 lo may be 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core import Array

UNIT = 2.0**-100
FLOOR = 2.0**-1060
_LOW_BITS = 27  # a float64 rounded to its upper 26 bits leaves 26 bits and a sign, so that products of halves are exact


@dataclass(frozen=True)
class WideDtype:
    """What stands for a dtype where the numbers are double-double; `eps` is the declared error of one operation."""

    name: str = "double-double"
    kind: str = "f"
    eps: float = UNIT

    def __str__(self) -> str:
        return self.name


WIDE = WideDtype()


class DoubleDouble:
    """An array of hi + lo, both read-only float64 of one shape.

    Operators take DoubleDouble, NumPy arrays and numbers, and broadcast; what is not double-double is converted
    exactly. Comparisons return boolean arrays. `**` and `@` come with `wide_operations`, which is built on this.

    >>> third = DoubleDouble(np.array(1.0)) / 3
    >>> float(third.hi), float(third.lo)
    (0.3333333333333333, 1.850371707708594e-17)
    >>> (third * 3 - 1 < 1e-31).item()
    True
    """

    __slots__ = ("hi", "lo")
    __array_ufunc__ = None  # so that `array * wide` asks __rmul__ for the whole array
    __hash__ = None  # type: ignore[assignment]  # reason: like NumPy's arrays, they compare entry by entry

    def __init__(self, hi: Any, lo: Any = None) -> None:
        self.hi: Array = np.asarray(hi, np.float64)
        self.lo: Array = np.zeros(self.hi.shape) if lo is None else np.asarray(lo, np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.hi.shape

    @property
    def ndim(self) -> int:
        return self.hi.ndim

    @property
    def size(self) -> int:
        return self.hi.size

    @property
    def dtype(self) -> WideDtype:
        """The one precision there is, in place of a NumPy dtype."""
        return WIDE

    @property
    def T(self) -> DoubleDouble:  # noqa: N802  # reason: NumPy's name
        """The transpose."""
        return DoubleDouble(self.hi.T, self.lo.T)

    def to_longdouble(self) -> Array:
        """Return the numbers in longdouble: rounded to its 64 bits, or to float64 where it is no more."""
        out: Array = self.hi.astype(np.longdouble) + self.lo.astype(np.longdouble)
        return np.asarray(np.where(np.isfinite(self.hi), out, self.hi.astype(np.longdouble)))

    def astype(self, dtype: Any) -> Any:
        """Return NumPy's array of a narrower dtype, each number rounded once (for float64: hi), or itself for WIDE."""
        if isinstance(dtype, WideDtype):
            return self
        return self.to_longdouble() if np.dtype(dtype) == np.longdouble else self.hi.astype(dtype)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a double-double is no NumPy array: take .hi, .lo or .to_longdouble()")

    def __len__(self) -> int:
        return len(self.hi)

    def __bool__(self) -> bool:
        return bool(self.hi)

    def __repr__(self) -> str:
        return f"DoubleDouble({self.hi!r}, {self.lo!r})"

    def __getitem__(self, index: Any) -> DoubleDouble:
        return DoubleDouble(self.hi[index], self.lo[index])

    def __neg__(self) -> DoubleDouble:
        return DoubleDouble(-self.hi, -self.lo)

    def __abs__(self) -> DoubleDouble:
        return DoubleDouble(np.abs(self.hi), np.where(np.signbit(self.hi), -self.lo, self.lo))

    def __add__(self, other: Any) -> Any:
        return _apply(add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _apply(add, other, self)

    def __sub__(self, other: Any) -> Any:
        return _apply(subtract, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _apply(subtract, other, self)

    def __mul__(self, other: Any) -> Any:
        return _apply(multiply, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _apply(multiply, other, self)

    def __truediv__(self, other: Any) -> Any:
        return _apply(divide, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _apply(divide, other, self)

    def __eq__(self, other: Any) -> Any:
        return _apply(lambda x, y: (x.hi == y.hi) & (x.lo == y.lo), self, other)

    def __ne__(self, other: Any) -> Any:
        return _apply(lambda x, y: (x.hi != y.hi) | (x.lo != y.lo), self, other)

    def __lt__(self, other: Any) -> Any:
        return _apply(_is_less, self, other)

    def __gt__(self, other: Any) -> Any:
        return _apply(lambda x, y: _is_less(y, x), self, other)

    def __le__(self, other: Any) -> Any:
        return _apply(lambda x, y: _is_less(x, y) | (x == y), self, other)

    def __ge__(self, other: Any) -> Any:
        return _apply(lambda x, y: _is_less(y, x) | (x == y), self, other)


def widen(value: Any) -> DoubleDouble:
    """Return the numbers as double-double: float16 to float64, bool and integers exactly, longdouble to its 64 bits.

    >>> float(widen(np.array(2**53 + 1)).lo)
    1.0
    """
    if isinstance(value, DoubleDouble):
        return value
    array = np.asarray(value)
    hi = array.astype(np.float64)
    if array.dtype.kind == "f" and array.dtype.itemsize > hi.dtype.itemsize:
        lo = np.where(np.isfinite(hi), array - np.where(np.isfinite(hi), hi, 0), 0).astype(np.float64)
        return DoubleDouble(hi, lo)
    if array.dtype.kind in "iu" and array.dtype.itemsize == hi.dtype.itemsize:
        return DoubleDouble(*two_sum((array >> 32).astype(np.float64) * 2.0**32, (array & 0xFFFFFFFF).astype(np.float64)))
    return DoubleDouble(hi)


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the rounded sum and its exact error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the rounded product and its exact error (Dekker), but for underflow; NaN where the product overflows."""
    (a_high, a_low), (b_high, b_low) = _halve(a), _halve(b)
    product = a * b
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@np.errstate(all="ignore")
def add(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return x + y within 3 u^2 of the sum, however much it cancels."""
    total, error = two_sum(x.hi, y.hi)
    low, rest = two_sum(x.lo, y.lo)
    first, second = _fast_two_sum(total, error + low)
    return _seal(*_fast_two_sum(first, rest + second), total)


def subtract(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return x - y, as exact as the sum."""
    return add(x, -y)


@np.errstate(all="ignore")
def multiply(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return x y within 5 u^2."""
    product, error = two_product(x.hi, y.hi)
    return _seal(*_fast_two_sum(product, error + (x.hi * y.lo + x.lo * y.hi)), product)


@np.errstate(all="ignore")
def divide(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return x / y within 15 u^2; mantissas are divided, so that nothing over- or underflows on the way."""
    plain = x.hi / y.hi
    (top, over), (bottom, under) = _normalise(x), _normalise(y)
    quotient = top.hi / bottom.hi
    product, error = two_product(quotient, bottom.hi)
    rest = ((top.hi - product) - error) + (top.lo - quotient * bottom.lo)
    exact = scale(DoubleDouble(*_fast_two_sum(quotient, rest / bottom.hi)), over - under)
    return pick(np.isfinite(plain) & np.isfinite(y.hi) & (plain != 0), exact, DoubleDouble(plain))


@np.errstate(all="ignore")
def sqrt(x: DoubleDouble) -> DoubleDouble:
    """Return the square root within 4 u^2 (one Newton step on the mantissa); NaN below 0."""
    plain = np.sqrt(x.hi)
    _, exponent = np.frexp(np.where(np.isfinite(x.hi), x.hi, 1.0))
    half = exponent // 2
    mantissa = scale(x, -2 * half)
    root = np.sqrt(mantissa.hi)
    square, error = two_product(root, root)
    rest = ((mantissa.hi - square) - error) + mantissa.lo
    exact = scale(DoubleDouble(*_fast_two_sum(root, rest / (2 * root))), half)
    return pick(np.isfinite(plain) & (plain > 0), exact, DoubleDouble(plain))


@np.errstate(all="ignore")
def scale(x: DoubleDouble, exponent: Any) -> DoubleDouble:
    """Return x 2^exponent, exactly but for over- and underflow."""
    hi = np.ldexp(x.hi, exponent)
    return _seal(hi, np.where(np.isfinite(hi), np.ldexp(x.lo, exponent), np.nan), hi)


def _apply(function: Callable[[DoubleDouble, DoubleDouble], Any], x: Any, y: Any) -> Any:
    """Return the function of both as double-double, NotImplemented for what is none of ours (a traced value)."""
    known = (DoubleDouble, np.ndarray, np.generic, int, float)
    return function(widen(x), widen(y)) if isinstance(x, known) and isinstance(y, known) else NotImplemented


def _is_less(x: DoubleDouble, y: DoubleDouble) -> Array:
    out: Array = (x.hi < y.hi) | ((x.hi == y.hi) & (x.lo < y.lo))
    return out


def _fast_two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the rounded sum and its exact error for |a| >= |b|, or a = 0."""
    total = a + b
    return total, b - (total - a)


def _halve(a: Any) -> tuple[Any, Any]:
    """Return the upper 26 bits, rounded, and the rest; by its bits, for Veltkamp's product overflows from 2^996 on."""
    bits = np.asarray(a).view(np.int64)
    high = ((bits + (1 << (_LOW_BITS - 1))) & -(1 << _LOW_BITS)).view(np.float64)
    return high, a - high


def _seal(hi: Any, lo: Any, plain: Any) -> DoubleDouble:
    """Return hi + lo, and what float64 gives where that is not finite or where both are 0, for the sign."""
    fine = np.isfinite(lo)
    if fine.all() and np.all(hi):
        return DoubleDouble(hi, lo)
    fine &= (hi != 0) | (plain != 0)
    return DoubleDouble(np.where(fine, hi, plain), np.where(fine, lo, 0.0))


def _normalise(x: DoubleDouble) -> tuple[DoubleDouble, Array]:
    """Return mantissas from 1/2 to 1 and the exponents; what is not finite becomes 1."""
    finite = np.isfinite(x.hi)
    _, exponent = np.frexp(np.where(finite, x.hi, 1.0))
    return scale(pick(finite, x, DoubleDouble(np.ones(()))), -exponent), exponent


def pick(condition: Any, x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return x where the condition holds and y elsewhere."""
    return DoubleDouble(np.where(condition, x.hi, y.hi), np.where(condition, x.lo, y.lo))
