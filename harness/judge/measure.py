"""Measuring: a gradient, its truth and its bound come in, the error in bounds, in ulps and against the norm goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core import Array, Verdict

SEEN = 0.01


@dataclass(frozen=True)
class Measure:
    """How far one array is from the truth.

    `power` is the smallest relative error of the whole array that would surely have left its bound: an error of
    relative size e is surely flagged where e |truth| exceeds twice the bound.
    """

    verdict: Verdict
    error_in_bounds: float = float("nan")
    ulps: float = float("nan")
    relative_to_norm: float = float("nan")
    power: float = float("nan")
    n_compared: int = 0
    n_wrong: int = 0
    worst_index: tuple[int, ...] = ()
    got: float = float("nan")
    expected: float = float("nan")
    message: str = ""


def measure(got: Any, truth: Array, bound: Array, dtype: str) -> Measure:
    """Return the measure of `got` against `truth`, in units of `bound`; shape and dtype must be as they should."""
    if got is None:
        return Measure("missing", message="no such gradient was returned")
    given = np.asarray(got)
    if given.shape != truth.shape:
        return Measure("shape", message=f"the shape is {list(given.shape)}; it must be {list(truth.shape)}")
    if given.dtype != np.dtype(dtype):
        return Measure("dtype", message=f"the dtype is {given.dtype}; it must be {dtype}")
    if not given.size:
        return Measure("vacuous", n_compared=0, message="there is no number to compare")
    with np.errstate(all="ignore"):
        return _measure(given, truth, np.broadcast_to(bound, truth.shape), dtype)


def _measure(given: Array, truth: Array, bound: Array, dtype: str) -> Measure:
    error = np.abs(given.astype(truth.dtype) - truth)
    agreed = _agree_beyond_finite(given, truth, bound, dtype)
    error = np.where(agreed, 0, np.where(np.isnan(error), np.inf, error)).astype(np.float64)
    ratio = np.where(error == 0, 0.0, error / np.asarray(bound, np.float64))
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    worst = int(ratio.argmax())
    n_wrong = int(np.count_nonzero(ratio > 1))
    size = np.abs(truth).astype(np.float64)
    power = _power(size, bound)
    index = tuple(int(i) for i in np.unravel_index(worst, truth.shape))
    broken = bool((~np.isfinite(given) & np.isfinite(truth) & ~agreed).any())
    verdict: Verdict = "ok" if not n_wrong else "nonfinite" if broken else "mismatch"
    if verdict == "ok" and not power <= SEEN:
        verdict = "powerless"
    return Measure(
        verdict=verdict,
        error_in_bounds=float(ratio.flat[worst]),
        ulps=_ulps(error, size, dtype),
        relative_to_norm=_relative(error, size),
        power=power,
        n_compared=given.size,
        n_wrong=n_wrong,
        worst_index=index,
        got=float(given.flat[worst]),
        expected=float(truth.flat[worst]),
    )


def _agree_beyond_finite(given: Array, truth: Array, bound: Array, dtype: str) -> Array:
    """Where both are NaN, both the same infinity, or the truth is so large that rounding may overflow."""
    same: Array = (np.isnan(given) & np.isnan(truth)) | (np.isinf(given) & (given == truth))
    largest = float(np.finfo(dtype).max)
    overflows = np.isinf(given) & (np.sign(given) == np.sign(truth)) & (np.abs(truth).astype(np.float64) + bound >= largest)
    both: Array = same | overflows
    return both


def _power(size: Array, bound: Array) -> float:
    """The least of 2 bound / |truth|; infinite where the truth is 0 or not finite everywhere, for nothing scales there."""
    usable = (size > 0) & np.isfinite(size)
    return float((2 * bound[usable] / size[usable]).min()) if usable.any() else float("inf")


def _ulps(error: Array, size: Array, dtype: str) -> float:
    usable = (size > 0) & np.isfinite(size) & np.isfinite(error)
    if not usable.any():
        return float("nan")
    spacing = np.spacing(np.minimum(size[usable], float(np.finfo(dtype).max)).astype(dtype)).astype(np.float64)
    return float((error[usable] / spacing).max())


def _relative(error: Array, size: Array) -> float:
    top = float(size.max(initial=0.0))
    return float(np.linalg.norm(error / top) / np.linalg.norm(size / top)) if 0 < top < np.inf else float("nan")
