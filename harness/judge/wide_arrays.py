"""Reductions and shapes of double-double arrays: arrays come in, sums, extremes, joined arrays and exact errors go out.

A sum of n numbers is within 3 u^2 ceil(log2 n) of the sum of their magnitudes, u = 2^-53; the rest moves entries and
is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.core import Array
from harness.judge.double_double import DoubleDouble, add, pick, subtract, widen


def where(condition: Any, x: Any, y: Any) -> DoubleDouble:
    """Return x where the condition holds and y elsewhere."""
    return pick(condition, widen(x), widen(y))


def reduce_sum(x: DoubleDouble, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> DoubleDouble:
    """Return the sum over one axis, some or all, pair by pair: within 3 u^2 ceil(log2 n) of the sum of the magnitudes."""
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis)
    for one in sorted((int(one) % x.ndim for one in axes), reverse=True):
        x = _sum_axis(x, one)
    return x if keepdims else _drop(x, axis)


def reduce_max(x: DoubleDouble, axis: Any = None, keepdims: bool = False) -> DoubleDouble:
    """Return the largest number along the axis, NaN where there is one."""
    hi = x.hi.max(axis=axis, keepdims=True)
    lo = np.where(x.hi == hi, x.lo, -np.inf).max(axis=axis, keepdims=True)
    top = DoubleDouble(hi, np.where(np.isfinite(lo), lo, 0.0))
    return top if keepdims else _drop(top, axis)


def map_parts(function: Callable[..., Array], *arrays: DoubleDouble) -> DoubleDouble:
    """Return what a function that only moves entries makes of the arrays."""
    return DoubleDouble(function(*[x.hi for x in arrays]), function(*[x.lo for x in arrays]))


def join(function: Callable[..., Array], arrays: Sequence[Any], axis: int) -> DoubleDouble:
    """Return the arrays joined by NumPy's concatenate or stack."""
    wide = [widen(x) for x in arrays]
    return DoubleDouble(function([x.hi for x in wide], axis=axis), function([x.lo for x in wide], axis=axis))


def find_error(given: Array, truth: Any) -> Array:
    """Return |given - truth| in float64, within an ulp of itself.

    hi is subtracted first: of numbers that are close that is exact, and only then does lo count; to convert the
    truth to float64 first would throw lo away, and to subtract hi + lo at once in float64 would, too.

    >>> truth = DoubleDouble(np.array([1.0]), np.array([2.0**-60]))
    >>> find_error(np.array([1.0]), truth) == 2.0**-60
    array([ True])
    """
    with np.errstate(all="ignore"):
        return abs(subtract(widen(given), widen(truth))).hi


def _sum_axis(x: DoubleDouble, axis: int) -> DoubleDouble:
    """Return the sum over one axis, which is kept with length 1."""
    x = map_parts(lambda part: np.moveaxis(part, axis, 0), x)
    if not len(x):
        x = DoubleDouble(np.zeros((1, *x.shape[1:])))
    while len(x) > 1:
        half = len(x) // 2
        paired = add(x[:half], x[half : 2 * half])
        x = join(np.concatenate, [paired, x[2 * half :]], 0) if len(x) % 2 else paired
    return map_parts(lambda part: np.moveaxis(part, 0, axis), x)


def _drop(x: DoubleDouble, axis: Any) -> DoubleDouble:
    return map_parts(lambda part: np.squeeze(part, axis=axis), x)
