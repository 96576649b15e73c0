"""Noisy functions: a NumPy function or ufunc and its plain float64 arguments come in, its noisy results go out.

The arguments are the bare numbers of noisy arrays; `harness.judge.noisy_array` takes them out and wraps the results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.core import Array
from harness.judge.value_noise import (
    ROOT_3,
    Rounder,
    find_half_ulp,
    is_exact_sum,
    is_power,
    is_stored,
    move,
    round_added,
    round_result,
    round_sum,
)

EXACT_UFUNCS = frozenset(
    "negative positive absolute fabs maximum minimum fmax fmin sign copysign floor ceil trunc rint clip conjugate ldexp "
    "frexp modf heaviside nextafter spacing fmod floor_divide".split()
)
ROUNDED_UFUNCS = frozenset(
    "multiply divide sqrt square reciprocal hypot remainder divmod deg2rad rad2deg degrees radians".split()
)
PRODUCT_UFUNCS = frozenset("matmul vecdot matvec vecmat".split())
CONTRACTIONS: frozenset[Any] = frozenset(
    {np.dot, np.inner, np.vdot, np.tensordot, np.convolve, np.correlate, np.kron, np.outer, np.linalg.outer, np.linalg.matmul}
)
REARRANGING: frozenset[Any] = frozenset(
    getattr(np, name)
    for name in (
        "reshape ravel transpose swapaxes moveaxis rollaxis expand_dims squeeze broadcast_to broadcast_arrays atleast_1d "
        "atleast_2d atleast_3d concatenate stack hstack vstack dstack column_stack block split array_split hsplit vsplit dsplit "
        "where select choose compress extract take take_along_axis pad repeat tile roll flip fliplr flipud rot90 sort partition "
        "diag diagonal diagflat tril triu zeros_like ones_like empty_like full_like copy copyto putmask place put "
        "put_along_axis fill_diagonal insert delete append resize unstack matrix_transpose permute_dims concat real"
    ).split()
) | {np.lib.stride_tricks.sliding_window_view}  # fmt: skip
OPAQUE = ("numpy.linalg", "numpy.fft")  # what these do inside cannot be seen: their results come back plain


def call_ufunc(rounder: Rounder, ufunc: np.ufunc, inputs: tuple[Any, ...], **kwargs: Any) -> Any:
    """Return what the ufunc makes of the numbers, each result moved as its rounding could move it."""
    if ufunc.__name__ in PRODUCT_UFUNCS:
        return contract(rounder, lambda *factors: ufunc(*factors, **kwargs), *inputs)
    results = ufunc(*inputs, **kwargs)
    several = isinstance(results, tuple)
    moved = tuple(_round(rounder, ufunc.__name__, inputs, value) for value in (results if several else (results,)))
    return moved if several else moved[0]


def _round(rounder: Rounder, name: str, inputs: tuple[Any, ...], value: Any) -> Any:
    if np.asarray(value).dtype != np.float64 or name in EXACT_UFUNCS:
        return value
    if name in ("add", "subtract"):
        a, b = np.broadcast_arrays(*inputs)
        return round_added(rounder, value, a, b if name == "add" else -b)
    if name in ROUNDED_UFUNCS:
        powers = inputs[1:] if name == "divide" else inputs if name == "multiply" else ()
        exact = is_stored(rounder, value) | np.any([is_power(factor) for factor in np.broadcast_arrays(*powers)], axis=0)
        return round_result(rounder, value, exact=exact)
    # exp(0) is exact; tanh(30) only seems to be, for float64 rounds it to 1 too.
    exact = is_stored(rounder, inputs[0]) & is_stored(rounder, value) if name == "power" else np.equal(inputs[0], 0)
    return round_result(rounder, value, exact=exact, ulps=1.0)


def contract(rounder: Rounder, function: Callable[..., Any], *factors: Any) -> Any:
    """Return function(*factors), a sum of products that is linear in each factor, moved as its rounding could move it."""
    total = function(*factors)
    if np.asarray(total).dtype != np.float64 or is_exact_sum(rounder, *factors):
        return total
    scales = [float(np.max(np.abs(factor), initial=0.0, where=np.isfinite(factor))) or 1.0 for factor in factors]
    norm = np.sqrt(function(*(np.square(factor / scale) for factor, scale in zip(factors, scales, strict=True))))
    count = function(*((np.asarray(factor) != 0).astype(np.float64) for factor in factors))
    roundings = max(sum(not is_power(factor).all() for factor in factors) - 1, 0)
    return round_sum(rounder, total, norm * float(np.prod(scales)), count, roundings)


def reduce(rounder: Rounder, ufunc: np.ufunc, value: Array, **kwargs: Any) -> Any:
    """Return ufunc.reduce, moved: a sum as sums are, a product or anything else by the root of how many it joins."""
    value = np.asarray(value)
    if ufunc is np.add:
        extra = {key: setting for key, setting in kwargs.items() if key != "initial"}
        found = contract(rounder, lambda terms: np.add.reduce(terms, **extra), value)
        start = kwargs.get("initial", 0)
        return found if start is None or np.all(start == 0) else call_ufunc(rounder, np.add, (found, start))
    total = ufunc.reduce(value, **kwargs)
    if np.asarray(total).dtype != np.float64 or ufunc.__name__ in EXACT_UFUNCS:
        return total
    joined = max(value.size // max(np.size(total), 1) - 1, 0)
    return round_result(rounder, total, ulps=0.5 * np.sqrt(joined))


def accumulate(rounder: Rounder, ufunc: np.ufunc, value: Array, axis: int = 0, **kwargs: Any) -> Any:
    """Return ufunc.accumulate: every partial result is rounded, and hands its rounding on to all that follow it."""
    totals = ufunc.accumulate(np.asarray(value), axis=axis, **kwargs)
    if totals.dtype != np.float64 or ufunc.__name__ in EXACT_UFUNCS:
        return totals
    own = round_result(rounder, totals) - totals
    own[(slice(None),) * (axis % totals.ndim) + (slice(0, 1),)] = 0  # the first is only copied
    if ufunc is np.multiply:
        with np.errstate(all="ignore"):
            return totals * (1 + np.cumsum(np.where(totals == 0, 0, own / totals), axis))
    return totals + np.cumsum(own, axis)


def reduce_at(rounder: Rounder, ufunc: np.ufunc, value: Array, indices: Any, **kwargs: Any) -> Any:
    """Return ufunc.reduceat, moved as `reduce` does."""
    value = np.asarray(value)
    if ufunc is np.add:
        return contract(rounder, lambda terms: np.add.reduceat(terms, indices, **kwargs), value)
    total = ufunc.reduceat(value, indices, **kwargs)
    return total if total.dtype != np.float64 or ufunc.__name__ in EXACT_UFUNCS else round_result(rounder, total, ulps=1.0)


def add_at(rounder: Rounder, ufunc: np.ufunc, target: Array, indices: Any, *values: Any) -> None:
    """Do ufunc.at in place; what is added up at each index is moved as a sum of as many terms."""
    before = target.astype(np.float64)
    ufunc.at(target, indices, *values)
    if target.dtype.kind != "f" or ufunc.__name__ in EXACT_UFUNCS:
        return
    count, squares = (before != 0).astype(np.float64), np.square(before)
    np.add.at(count, indices, 1.0)
    if ufunc in (np.add, np.subtract):
        np.add.at(squares, indices, np.square(np.asarray(values[0], np.float64)))
        exact = is_exact_sum(rounder, np.concatenate([before.ravel(), np.ravel(values[0])]))
        target[...] = target if exact else round_sum(rounder, target, np.sqrt(squares), count)
    else:
        touched = np.zeros(target.shape)
        np.add.at(touched, indices, 1.0)
        target[...] = move(rounder, target, ROOT_3 * np.sqrt(touched) * find_half_ulp(rounder, target))


def contract_einsum(rounder: Rounder, subscripts: str, *operands: Any, **kwargs: Any) -> Any:
    """Return np.einsum, moved."""
    kept = {key: value for key, value in kwargs.items() if key == "optimize"}
    return contract(rounder, lambda *factors: np.einsum(subscripts, *factors, **kept), *operands)
