"""Functions of the Array API standard made of others: a namespace of the few that are differentiated comes in, one more goes out.

What a formula may use beside the operations for which every engine has a rule, so that none needs another: each function
here is its own definition, and the frameworks differentiate that. They mean what the standard (2024.12) says; where one of
them chooses among equals, as `clip` does at its ends, it takes the subgradient of `maximum` and `minimum`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

CONSTANTS: Mapping[str, Any] = {"e": math.e, "inf": math.inf, "nan": math.nan, "newaxis": None, "pi": math.pi}


def clip(xp: Any, x: Any, min: Any = None, max: Any = None) -> Any:
    """Return x, no less than min and no more than max."""
    x = x if min is None else xp.maximum(x, xp.ones_like(x) * min)
    return x if max is None else xp.minimum(x, xp.ones_like(x) * max)


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
    """Return log(e^x + e^y); where x is y, too, the two halves of both subgradients add up to the one gradient."""
    more, less = xp.maximum(x, y), xp.minimum(x, y)
    return more + xp.log1p(xp.exp(less - more))


def log2(xp: Any, x: Any) -> Any:
    """Return the logarithm to the base 2."""
    return xp.log(x) / xp.log(2 * xp.ones_like(x))


def log10(xp: Any, x: Any) -> Any:
    """Return the logarithm to the base 10."""
    return xp.log(x) / xp.log(10 * xp.ones_like(x))


def var(xp: Any, x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return the mean square distance from the mean, over n - correction."""
    mean = xp.mean(x, axis=axis, keepdims=True)
    apart = xp.sum(xp.square(x - mean), axis=axis, keepdims=keepdims)
    return apart / (math.prod(x.shape) // math.prod(mean.shape) - correction)


def std(xp: Any, x: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Return the square root of the variance."""
    return xp.sqrt(var(xp, x, axis, correction, keepdims))


def prod(xp: Any, x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Return the product along an axis, of all entries where there is none."""
    if axis is None:
        flat = prod(xp, xp.reshape(x, (-1,)), 0)
        return xp.reshape(flat, (1,) * x.ndim) if keepdims else flat
    product = cumulative_prod(xp, x, axis)[_at(x, axis, -1)]
    return xp.expand_dims(product, axis=axis) if keepdims else product


def cumulative_sum(xp: Any, x: Any, axis: int | None = None) -> Any:
    """Return the sums of the first entries along an axis, which is needed where there are several."""
    return _accumulate(xp, x, axis, lambda total, part: total + part)


def cumulative_prod(xp: Any, x: Any, axis: int | None = None) -> Any:
    """Return the products of the first entries along an axis, which is needed where there are several."""
    return _accumulate(xp, x, axis, lambda total, part: total * part)


def _accumulate(xp: Any, x: Any, axis: int | None, add: Callable[[Any, Any], Any]) -> Any:
    place = _read_axis(x, axis)
    parts = unstack(xp, x, axis=place)
    totals = [parts[0]]
    for part in parts[1:]:
        totals.append(add(totals[-1], part))
    return xp.stack(totals, axis=place)


def unstack(xp: Any, x: Any, axis: int = 0) -> tuple[Any, ...]:
    """Return the slices along an axis."""
    return tuple(x[_at(x, axis, i)] for i in range(x.shape[axis]))


def flip(xp: Any, x: Any, axis: int | Sequence[int] | None = None) -> Any:
    """Return x with the entries along the axes, all where none is named, in reverse."""
    for one in _list_axes(x, axis):
        x = xp.stack(unstack(xp, x, one)[::-1], axis=one)
    return x


def roll(xp: Any, x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """Return x with the entries moved along the axes, and in again at the other end; flat where no axis is named."""
    if axis is None:
        return xp.reshape(roll(xp, xp.reshape(x, (-1,)), shift, 0), x.shape)
    axes = _list_axes(x, axis)
    for by, one in zip([shift] * len(axes) if isinstance(shift, int) else shift, axes, strict=True):
        k = by % x.shape[one]
        x = xp.concat([x[_at(x, one, slice(x.shape[one] - k, None))], x[_at(x, one, slice(0, x.shape[one] - k))]], axis=one)
    return x


def moveaxis(xp: Any, x: Any, source: int, destination: int) -> Any:
    """Return x with one axis at another place."""
    order = [i for i in range(x.ndim) if i != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return xp.permute_dims(x, tuple(order))


def matrix_transpose(xp: Any, x: Any) -> Any:
    """Return x with its last two axes swapped."""
    return xp.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def squeeze(xp: Any, x: Any, axis: int | Sequence[int]) -> Any:
    """Return x without axes of length 1."""
    gone = {one % x.ndim for one in _list_axes(x, axis)}
    if wrong := sorted(one for one in gone if x.shape[one] != 1):
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


def full_like(xp: Any, x: Any, fill_value: float) -> Any:
    """Return an array of the shape of x that holds one number."""
    return xp.ones_like(x) * fill_value


def _at(x: Any, axis: int, index: Any) -> tuple[Any, ...]:
    """Return the index that takes this one along an axis, and all along the others."""
    return (*[slice(None)] * (axis % x.ndim), index)


def _read_axis(x: Any, axis: int | None) -> int:
    if axis is None and x.ndim != 1:
        raise ValueError(f"axis: None; accepted is one of the {x.ndim} axes of the array")
    return (axis or 0) % int(x.ndim)


def _list_axes(x: Any, axis: int | Sequence[int] | None) -> list[int]:
    given = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    return [one % x.ndim for one in given]


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
