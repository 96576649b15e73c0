"""Measuring: a gradient, its truth and its bound come in, the error in bounds, in ulps and against the norm goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core import Array, Verdict
from harness.floats import find_format, find_spacing
from harness.judge.precision import find_distance

SEEN = 0.01
MILLIONTH = 1e-6
EXPONENT = np.int64(0x7FF << 52)


@dataclass(frozen=True)
class Measure:
    """How far one array is from the truth.

    `power` is the smallest relative error of the whole array that would surely have left its bound: an error of
    relative size e is surely flagged where e |truth| exceeds twice the bound. `seen_percent` and `seen_millionth` are
    the shares of the entries in which an error of 1e-2 and of 1e-6 would have been seen.
    """

    verdict: Verdict
    error_in_bounds: float = float("nan")
    ulps: float = float("nan")
    relative_to_norm: float = float("nan")
    power: float = float("nan")
    seen_percent: float = float("nan")
    seen_millionth: float = float("nan")
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
    if given.dtype != find_format(dtype).dtype:
        return Measure("dtype", message=f"the dtype is {given.dtype}; it must be {dtype}")
    if not given.size:
        return Measure("vacuous", n_compared=0, message="there is no number to compare")
    with np.errstate(all="ignore"):
        return _measure(given, truth, np.broadcast_to(bound, truth.shape), dtype)


def _measure(given: Array, truth: Array, bound: Array, dtype: str) -> Measure:
    error = find_distance(given, truth)
    plain = isinstance(truth, np.ndarray) and truth.dtype == np.float64
    truth = truth if plain else truth.astype(np.float64)  # infinite now where it is beyond float64; the distance is taken
    return _measure_usual(given, truth, error, bound, dtype) or _measure_any(given, truth, error, bound, dtype)


def _measure_usual(given: Array, truth: Array, error: Array, bound: Array, dtype: str) -> Measure | None:
    """Return what `_measure_any` does, in fewer passes, where no error, bound or truth is out of the ordinary; None elsewhere.

    That the largest ratio is a number says that each error is finite, so each truth too, and that each bound is neither 0
    nor NaN.
    """
    ratio, size = error / bound, np.abs(truth)
    worst = int(ratio.argmax())
    top = float(ratio.flat[worst])
    if not top < np.inf:
        return None if error.any() or bound.any() else _measure_equal(given, truth, size)
    blur = bound / size
    power = 2 * float(blur.min())
    n_wrong = int(np.count_nonzero(ratio > 1)) if top > 1 else 0
    return Measure(
        verdict="mismatch" if n_wrong else "ok" if power <= SEEN else "powerless",
        error_in_bounds=top,
        ulps=_ulps_of_normal(error, size, dtype),
        relative_to_norm=_relative_of_usual(error, size),
        power=power,
        seen_percent=_share(blur, power, SEEN),
        seen_millionth=_share(blur, power, MILLIONTH),
        n_compared=given.size,
        n_wrong=n_wrong,
        worst_index=tuple(map(int, np.unravel_index(worst, truth.shape))),
        got=float(given.flat[worst]),
        expected=float(truth.flat[worst]),
    )


def _measure_equal(given: Array, truth: Array, size: Array) -> Measure:
    """Return the measure of what is exactly as it must be, where bounds are 0."""
    some = bool(size.any())
    nothing, power = (0.0, 0.0) if some else (float("nan"), float("inf"))
    first = (0,) * truth.ndim
    return Measure(
        "ok" if some else "powerless", 0.0, nothing, nothing, power, 1.0, 1.0, given.size, 0, first,
        float(given[first]), float(truth[first]),
    )  # fmt: skip


def _share(blur: Array, power: float, error: float) -> float:
    """The share of entries where such a relative error is twice the bound, from bound / |truth| and twice its least."""
    return np.count_nonzero(blur <= error / 2) / blur.size if power <= error else 0.0


def _ulps_of_normal(error: Array, size: Array, dtype: str) -> float:
    """What `_ulps` gives, by the bits of the exponents where every truth is a normal number of the dtype."""
    kind = find_format(dtype)
    powers = (size.view(np.int64) & EXPONENT).view(np.float64)
    if not kind.tiny <= powers.min() <= powers.max() <= kind.largest:
        return _ulps(error, size, dtype)
    return float((error / powers).max()) * 2.0 ** (kind.digits - 1)


def _relative_of_usual(error: Array, size: Array) -> float:
    """What `_relative` gives, by inner products where no square is near the ends of float64."""
    errors, sizes = (float(np.vdot(value, value)) for value in (error, size))
    fits = 1e-200 < sizes < 1e300 and (errors > 1e-300 or not error.any())
    return float(np.sqrt(errors / sizes)) if fits else _relative(error, size)


def _measure_any(given: Array, truth: Array, error: Array, bound: Array, dtype: str) -> Measure:
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
        seen_percent=_share_seen(size, bound, SEEN),
        seen_millionth=_share_seen(size, bound, MILLIONTH),
        n_compared=given.size,
        n_wrong=n_wrong,
        worst_index=index,
        got=float(given.flat[worst]),
        expected=float(truth.flat[worst]),
    )


def _agree_beyond_finite(given: Array, truth: Array, bound: Array, dtype: str) -> Array:
    """Where both are NaN, both the same infinity, or the truth is so large that rounding may overflow."""
    same: Array = (np.isnan(given) & np.isnan(truth)) | (np.isinf(given) & (given == truth))
    largest = find_format(dtype).largest
    overflows = np.isinf(given) & (np.sign(given) == np.sign(truth)) & (np.abs(truth).astype(np.float64) + bound >= largest)
    both: Array = same | overflows
    return both


def _power(size: Array, bound: Array) -> float:
    """The least of 2 bound / |truth|; infinite where the truth is 0 or not finite everywhere, for nothing scales there."""
    usable = (size > 0) & np.isfinite(size)
    return float((2 * bound[usable] / size[usable]).min()) if usable.any() else float("inf")


def _share_seen(size: Array, bound: Array, error: float) -> float:
    """The share of entries where such a relative error is twice the bound; a true 0 has none, but a bound of 0 sees all."""
    return float(np.mean(2 * bound <= error * size))


def _ulps(error: Array, size: Array, dtype: str) -> float:
    usable = (size > 0) & np.isfinite(size) & np.isfinite(error)
    if not usable.any():
        return float("nan")
    return float((error[usable] / find_spacing(size[usable], dtype)).max())


def _relative(error: Array, size: Array) -> float:
    top = float(size.max(initial=0.0))
    return float(np.linalg.norm(error / top) / np.linalg.norm(size / top)) if 0 < top < np.inf else float("nan")
