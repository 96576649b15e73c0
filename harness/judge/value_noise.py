"""Value-hashed noise: float64 values and a precision come in, the same values moved as rounding could move them go out.

Rounding is no dice: where a number is rounded twice, it is rounded alike, a product with 2 or a difference of near
numbers is exact, and -x rounds to minus what x rounds to. So the noise of a value is a hash of its mantissa at the
precision that is simulated and of a seed, its size is that of the rounding which that precision would do, and what
that precision does exactly gets none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.core import Array

MANTISSA = np.uint64(2**52 - 1)
EXPONENT = np.uint64(0x7FF << 52)
MAGNITUDE = np.uint64(2**63 - 1)
LOST = 2.0**-44
ROOT_3 = float(np.sqrt(3.0))  # a number spread evenly over [-w, w] has the standard deviation w / sqrt(3)


@dataclass(frozen=True, eq=False)
class Rounder:
    """The precision that is simulated: `digits` significant bits, `least` the smallest subnormal, `salt` seeds the hash.

    `constants` says whether a constant of the code is rounded on entering, as 0.1 is in float32 beside an oracle that
    takes the float64 number. `casts` collects the float dtypes that the code asks for while it runs.
    """

    digits: int
    least: float
    salt: int
    constants: bool = True
    casts: set[str] = field(default_factory=set)

    @property
    def u(self) -> float:
        """The unit roundoff."""
        return 2.0**-self.digits


def move(rounder: Rounder, value: Any, width: Any) -> Array:
    """Return the float64 values, each moved within its width by its hash; what is not finite stays as it is.

    >>> rounder = Rounder(digits=24, least=2.0**-149, salt=1)
    >>> one, other = move(rounder, np.array([0.1, 0.1]), 1e-8)
    >>> bool(one == other), bool(one != 0.1), float(move(rounder, 0.1, 0.0))
    (True, True, 0.1)
    """
    value = np.asarray(value, np.float64)
    width = np.where(np.isfinite(value) & np.isfinite(width), width, 0.0)
    return np.asarray(value + width * _hash(rounder, value) * np.copysign(1.0, value)) if np.any(width) else value


def _hash(rounder: Rounder, value: Array) -> Array:
    """Return a number in [-1, 1) for each mantissa, rounded to the precision's digits (splitmix64)."""
    drop = 53 - rounder.digits
    bits = np.ascontiguousarray(value).view(np.uint64).reshape(value.shape) & MAGNITUDE
    rounded = ((bits + np.uint64(1 << (drop - 1))) & MANTISSA) >> np.uint64(drop)
    with np.errstate(over="ignore"):
        state = rounded * np.uint64(0x9E3779B97F4A7C15) + np.uint64(rounder.salt)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    out: Array = state.astype(np.float64) / 2.0**63 - 1.0
    return out


def find_half_ulp(rounder: Rounder, value: Any) -> Array:
    """Return half a unit in the last place of each value: what one correct rounding may do; 0 of 0.

    >>> float(find_half_ulp(Rounder(24, 2.0**-149, 1), 1.5)) == 2.0**-24
    True
    """
    value = np.asarray(value, np.float64)
    power = (np.ascontiguousarray(value).view(np.uint64).reshape(value.shape) & EXPONENT).view(np.float64)
    half = np.minimum(np.maximum(power * rounder.u, rounder.least / 2), np.abs(value))
    return np.where(np.isfinite(value), half, 0.0)


def is_stored(rounder: Rounder, value: Any) -> Array:
    """Whether each value fits into the precision's digits: then nothing is rounded."""
    bits = np.ascontiguousarray(value, np.float64).view(np.uint64).reshape(np.shape(value))
    fits: Array = (bits & np.uint64((1 << (53 - rounder.digits)) - 1)) == 0
    return fits


def is_power(value: Any) -> Array:
    """Whether each value is 0 or a power of two, by which products and quotients are exact.

    >>> is_power([0.0, -0.25, 3.0]).tolist()
    [True, True, False]
    """
    bits = np.ascontiguousarray(value, np.float64).view(np.uint64).reshape(np.shape(value))
    exact: Array = (bits & MANTISSA) == 0
    return exact


def enter(rounder: Rounder, value: Any) -> Any:
    """Return a number or plain array of the code as the precision stores it; integers and booleans stay as they are."""
    if isinstance(value, (bool, int)) or not rounder.constants:
        return value
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return value
    wide = array.astype(np.float64)
    return move(rounder, wide, np.where(is_stored(rounder, wide), 0.0, find_half_ulp(rounder, wide)))


def round_result(rounder: Rounder, value: Any, exact: Any = False, ulps: float = 0.5) -> Array:
    """Return the results of one operation each, moved by up to so many ulps, but for the exact ones."""
    return move(rounder, value, np.where(exact, 0.0, 2 * ulps * find_half_ulp(rounder, value)))


def round_added(rounder: Rounder, value: Any, a: Any, b: Any) -> Array:
    """Return value = a + b, moved by up to half an ulp; near numbers subtract exactly (Sterbenz).

    No such sum errs by more than its smaller term. Where that is so small that float64 itself, in which this is
    simulated, lost it, half an ulp stands for it: 1 + 1e-20 is not exact.
    """
    larger, smaller = np.where(np.abs(a) < np.abs(b), (b, a), (a, b))
    least, half, size = np.abs(smaller), find_half_ulp(rounder, value), np.abs(value)
    fits = is_stored(rounder, value) & (value - larger == smaller)
    width = np.where(least > LOST * size, np.minimum(half, least), half)
    return move(rounder, value, np.where((size <= least) | (least == 0) | fits, 0.0, width))


def round_sum(rounder: Rounder, total: Any, norm: Any, count: Any, products: Any = 0) -> Array:
    """Return sums of `count` terms, moved as adding them one by one does, and as rounding each term `products` times does.

    `norm` is the root of the sum of the terms' squares. The n - 1 partial sums err by u each; they wander like a random
    walk to n/2 of the squares and drift with the sum C itself, which gives the variance u^2 (n/2 sum A^2B^2 + n/3 C^2).
    """
    added = np.maximum(np.asarray(count, np.float64) - 1, 0)
    deviation = np.hypot(np.sqrt(added / 2 + products / 3) * norm, np.sqrt(added / 3) * total)
    return move(rounder, total, ROOT_3 * rounder.u * deviation)


def is_exact_sum(rounder: Rounder, *factors: Any) -> bool:
    """Whether sums of products of these arrays are exact: the terms are multiples of a grid, and no sum outgrows it.

    It looks at whole arrays: a sum has at most as many terms as the smallest factor has entries other than 0.
    """
    grid, most, count = 1.0, 1.0, np.inf
    for factor in factors:
        sizes = np.abs(np.asarray(factor, np.float64))
        sizes = sizes[sizes > 0]
        if not sizes.size or not np.isfinite(sizes).all():
            return not sizes.size
        grid, most, count = grid * _find_grid(sizes), most * float(sizes.max()), min(count, sizes.size)
    return most * count < grid * 2.0**rounder.digits


def _find_grid(sizes: Array) -> float:
    """Return the largest power of two of which all the positive sizes are multiples."""
    mantissa, exponent = np.frexp(sizes)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponent - 53).min())
