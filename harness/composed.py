"""Functions of the Array API standard made of others: a namespace of the few that are differentiated comes in, one more goes out.

What a formula may use beside the operations for which every engine has a rule, so that none needs another: each function
here is its own definition, and the frameworks differentiate that. They mean what the standard (2024.12) says; where one of
them chooses among equals, as `clip` does at its ends, it takes the subgradient of `maximum` and `minimum`. None has a `dtype`:
a formula keeps the one it is given. An axis that there is not raises AxisError, a ValueError.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

CONSTANTS: Mapping[str, Any] = {"e": math.e, "inf": math.inf, "nan": math.nan, "newaxis": None, "pi": math.pi}


def clip(xp: Any, x: Any, min: Any = None, max: Any = None) -> Any:
    """Return x, no less than min and no more than max."""
    x = x if min is None else xp.maximum(x, full_like(xp, x, min))
    return x if max is None else xp.minimum(x, full_like(xp, x, max))


def cosh(xp: Any, x: Any) -> Any:
    """Return (e^x + e^-x) / 2."""
    return (xp.exp(x) + xp.exp(-x)) / 2


def sinh(xp: Any, x: Any) -> Any:
    """Return (e^x - e^-x) / 2, of which nothing cancels near 0."""
    return (xp.expm1(x) - xp.expm1(-x)) / 2


def tan(xp: Any, x: Any) -> Any:
    """Return sin x / cos x."""
    return xp.sin(x) / xp.cos(x)


def logaddexp(xp: Any, x: Any, y: Any) -> Any:
    """Return log(e^x + e^y); where x is y, two infinities too, the halves of the larger one's subgradient are the gradient."""
    more, less = xp.maximum(x, y), xp.minimum(x, y)
    tied, zero = less == more, xp.zeros_like(more)
    return more + xp.log1p(xp.exp(xp.where(tied, zero, less) - xp.where(tied, zero, more)))


def log2(xp: Any, x: Any) -> Any:
    """Return the logarithm to the base 2."""
    return xp.log(x) / xp.log(2 * xp.ones_like(x))


def log10(xp: Any, x: Any) -> Any:
    """Return the logarithm to the base 10."""
    return xp.log(x) / xp.log(10 * xp.ones_like(x))


def var(xp: Any, x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return the mean square distance from the mean, over n - correction."""
    count = math.prod(x.shape[one] for one in _list_axes(x, axis))
    apart = xp.square(x - xp.mean(x, axis=axis, keepdims=True))
    return xp.sum(apart, axis=axis, keepdims=keepdims) / (count - float(correction))


def std(xp: Any, x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return the square root of the variance."""
    return xp.sqrt(var(xp, x, axis, correction, keepdims))


def prod(xp: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the product along the axes, of all entries where none is named, 1 of none."""
    axes = _list_axes(x, axis)
    for one in axes:
        product = cumulative_prod(xp, x, one)[_at(x, one, slice(-1, None))]
        x = product if x.shape[one] else xp.sum(x, axis=one, keepdims=True) + 1
    return x if keepdims else squeeze(xp, x, axes)


def cumulative_sum(xp: Any, x: Any, axis: int | None = None, include_initial: bool = False) -> Any:
    """Return the sums of the first entries along an axis, which is needed where there are several, from 0 on request."""
    return _accumulate(xp, x, axis, include_initial, xp.zeros_like, operator.add)


def cumulative_prod(xp: Any, x: Any, axis: int | None = None, include_initial: bool = False) -> Any:
    """Return the products of the first entries along an axis, which is needed where there are several, from 1 on request."""
    return _accumulate(xp, x, axis, include_initial, xp.ones_like, operator.mul)


def _accumulate(xp: Any, x: Any, axis: int | None, include_initial: bool, neutral: Any, add: Any) -> Any:
    """Return what the first entries add up to, in the logarithm of their number of steps (Hillis and Steele, 1986)."""
    place = _read_axis(x, axis)
    length, step = x.shape[place], 1
    first = neutral(x[_at(x, place, slice(0, 1))]) if length else None
    while step < length:
        before = x[_at(x, place, slice(0, length - step))]
        x = add(x, xp.concat([neutral(x[_at(x, place, slice(0, step))]), before], axis=place))
        step *= 2
    return xp.concat([first, x], axis=place) if include_initial and first is not None else x


def unstack(xp: Any, x: Any, axis: int = 0) -> tuple[Any, ...]:
    """Return the slices along an axis."""
    return tuple(x[_at(x, axis, i)] for i in range(x.shape[axis]))


def flip(xp: Any, x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Return x with the entries along the axes, all where none is named, in reverse."""
    for one in _list_axes(x, axis):
        x = x[_at(x, one, np.arange(x.shape[one] - 1, -1, -1))]
    return x


def roll(xp: Any, x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """Return x with the entries moved along the axes, and in again at the other end; flat where no axis is named."""
    if axis is None:
        return xp.reshape(roll(xp, xp.reshape(x, (math.prod(x.shape),)), shift, 0), x.shape)
    axes = _list_axes(x, axis)
    shifts: Any = [shift] * len(axes) if np.ndim(shift) == 0 else shift
    for by, one in zip(shifts, axes, strict=True):
        x = x[_at(x, one, (np.arange(x.shape[one]) - by) % max(x.shape[one], 1))]
    return x


def moveaxis(xp: Any, x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """Return x with some axes at other places."""
    moved = dict(zip(_list_axes(x, destination), _list_axes(x, source), strict=True))
    order = [i for i in range(x.ndim) if i not in moved.values()]
    for place in sorted(moved):
        order.insert(place, moved[place])
    return xp.permute_dims(x, tuple(order))


def matrix_transpose(xp: Any, x: Any) -> Any:
    """Return x with its last two axes swapped."""
    return xp.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def squeeze(xp: Any, x: Any, axis: int | Sequence[int]) -> Any:
    """Return x without axes of length 1."""
    gone = _list_axes(x, axis)
    if wrong := [one for one in gone if x.shape[one] != 1]:
        raise ValueError(f"xp.squeeze: axis {wrong[0]} is {x.shape[wrong[0]]} long; accepted are axes of length 1")
    return xp.reshape(x, tuple(size for i, size in enumerate(x.shape) if i not in gone))


def take(xp: Any, x: Any, indices: Any, axis: int | None = None) -> Any:
    """Return the entries at the indices along an axis, which is needed where there are several."""
    return x[_at(x, _read_axis(x, axis), indices)]


def tril(xp: Any, x: Any, k: int = 0) -> Any:
    """Return x with zeros above the k-th diagonal of its last two axes."""
    return xp.where(_find_columns(xp, x) <= _find_rows(xp, x) + k, x, xp.zeros_like(x))


def triu(xp: Any, x: Any, k: int = 0) -> Any:
    """Return x with zeros below the k-th diagonal of its last two axes."""
    return xp.where(_find_columns(xp, x) >= _find_rows(xp, x) + k, x, xp.zeros_like(x))


def _find_rows(xp: Any, x: Any) -> Any:
    return xp.expand_dims(xp.arange(x.shape[-2]), axis=1)


def _find_columns(xp: Any, x: Any) -> Any:
    return xp.expand_dims(xp.arange(x.shape[-1]), axis=0)


def vecdot(xp: Any, x: Any, y: Any, axis: int = -1) -> Any:
    """Return the sums of products along an axis."""
    return xp.sum(x * y, axis=axis)


def full_like(xp: Any, x: Any, fill_value: Any) -> Any:
    """Return an array of the shape of x that holds one number; an array of numbers is spread over it."""
    return xp.ones_like(x) * (fill_value.item() if isinstance(fill_value, np.generic) else fill_value)  # NumPy's would widen x


def _at(x: Any, axis: int, index: Any) -> tuple[Any, ...]:
    """Return the index that takes this one along an axis, and all along the others."""
    return (*[slice(None)] * normalize_axis_index(axis, x.ndim), index)


def _read_axis(x: Any, axis: int | None) -> int:
    if axis is None and x.ndim != 1:
        raise ValueError(f"axis: None for an array of {x.ndim} axes; accepted is one of them, or an array of one")
    return int(normalize_axis_index(axis or 0, x.ndim))


def _list_axes(x: Any, axis: int | Sequence[int] | None) -> tuple[int, ...]:
    return tuple(range(x.ndim)) if axis is None else tuple(normalize_axis_tuple(axis, x.ndim))


COMPOSED: Mapping[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (
        clip, cosh, cumulative_prod, cumulative_sum, flip, full_like, log10, log2, logaddexp, matrix_transpose, moveaxis, prod,
        roll, sinh, squeeze, std, take, tan, tril, triu, unstack, var, vecdot,
    )
} | {
    "add": lambda xp, x, y: x + y,
    "subtract": lambda xp, x, y: x - y,
    "multiply": lambda xp, x, y: x * y,
    "divide": lambda xp, x, y: x / y,
    "negative": lambda xp, x: -x,
    "positive": lambda xp, x: x,
    "reciprocal": lambda xp, x: 1 / x,
    "hypot": lambda xp, x, y: xp.sqrt(x * x + y * y),
    "equal": lambda xp, x, y: x == y,
    "not_equal": lambda xp, x, y: x != y,
    "less": lambda xp, x, y: x < y,
    "less_equal": lambda xp, x, y: x <= y,
    "greater": lambda xp, x, y: x > y,
    "greater_equal": lambda xp, x, y: x >= y,
    "logical_and": lambda xp, x, y: x & y,
    "logical_or": lambda xp, x, y: x | y,
    "logical_not": lambda xp, x: ~x,
}  # fmt: skip
