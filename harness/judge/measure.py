"""Measuring: a gradient, its truth and its bound come in, the error in bounds, in ulps and against the norm goes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core import Array, Verdict
from harness.floats import find_format, find_spacing
from harness.judge.precision import find_distance
from harness.judge.wide_arrays import map_parts

SEEN = 0.01
MILLIONTH = 1e-6
EXPONENT = np.int64(0x7FF << 52)
PIECE = 1 << 14


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


@dataclass(frozen=True)
class _Scan:
    """What one pass over some entries finds.

    The largest ratio of error to bound and where it is, the least bound / |truth|, how many entries are wrong and in how
    many an error of 1e-2 and of 1e-6 would be seen, the most ulps, and the sums of squared errors and truths.
    """

    top: float
    worst: int
    least: float
    n_wrong: int
    percent: int
    millionth: int
    ulps: float
    errors: float
    sizes: float


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


def _measure(given: Array, truth: Any, bound: Array, dtype: str) -> Measure:
    return _measure_usual(given, truth, bound, dtype) or _measure_any(given, truth, bound, dtype)


def _measure_usual(given: Array, truth: Any, bound: Array, dtype: str) -> Measure | None:
    """Return what `_measure_any` does, in fewer passes, where no error, bound or truth is out of the ordinary; None elsewhere.

    That the largest ratio is a number says that each error is finite, so each truth too, and that each bound is neither 0
    nor NaN. Arrays are taken by pieces that stay in the processor's cache.
    """
    if not bound.flat[0] and (not any(bound.strides) or not bound.any()):
        return _measure_equal(given, truth)
    scans = []
    for piece in _cut(given, truth, bound):
        scans.append(_scan(*piece, dtype))
        if not (scans[-1].top < np.inf and scans[-1].sizes < np.inf):
            return None
    at = max(range(len(scans)), key=lambda i: scans[i].top)
    worst = tuple(map(int, np.unravel_index(at * PIECE + scans[at].worst, given.shape)))
    n_wrong, power = sum(scan.n_wrong for scan in scans), 2 * min(scan.least for scan in scans)
    return Measure(
        verdict="mismatch" if n_wrong else "ok" if power <= SEEN else "powerless",
        error_in_bounds=scans[at].top,
        ulps=float(np.fmax.reduce([scan.ulps for scan in scans])),
        relative_to_norm=_relative_of_usual(scans, given, truth),
        power=power,
        seen_percent=sum(scan.percent for scan in scans) / given.size,
        seen_millionth=sum(scan.millionth for scan in scans) / given.size,
        n_compared=given.size,
        n_wrong=n_wrong,
        worst_index=worst,
        got=float(given[worst]),
        expected=float(_narrow(truth[worst])),
    )


def _measure_equal(given: Array, truth: Any) -> Measure | None:
    """Return the measure of what is exactly as it must be, where bounds are 0; None where it is not."""
    if not (given == truth).all():
        return None
    some, first = bool(_narrow(truth).any()), (0,) * given.ndim
    nothing, power = (0.0, 0.0) if some else (float("nan"), float("inf"))
    return Measure(
        "ok" if some else "powerless", 0.0, nothing, nothing, power, 1.0, 1.0, given.size, 0, first,
        float(given[first]), float(_narrow(truth[first])),
    )  # fmt: skip


def _cut(given: Array, truth: Any, bound: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Yield errors, sizes of the truth and bounds, piece by piece."""
    given, bound = np.ravel(given), np.ravel(bound)
    true = np.ravel(truth) if isinstance(truth, np.ndarray) else map_parts(np.ravel, truth)
    for start in range(0, given.size, PIECE):
        here = slice(start, start + PIECE)
        yield find_distance(given[here], true[here]), np.abs(_narrow(true[here])), bound[here]


def _scan(error: Array, size: Array, bound: Array, dtype: str) -> _Scan:
    """Return what there is to be found in one piece; where the top is no number, the rest is worth nothing."""
    ratio, blur = error / bound, bound / size
    worst, least = int(ratio.argmax()), float(blur.min())
    top = float(ratio[worst])
    n_wrong = int(np.count_nonzero(ratio > 1)) if top > 1 else 0
    percent, millionth = (int(np.count_nonzero(blur <= e / 2)) if 2 * least <= e else 0 for e in (SEEN, MILLIONTH))
    ulps = _ulps_of_normal(error, size, np.multiply(ratio, blur, out=ratio), dtype)
    squares = float(np.vdot(error, error)), float(np.vdot(size, size))
    return _Scan(top, worst, least, n_wrong, percent, millionth, ulps, *squares)


def _ulps_of_normal(error: Array, size: Array, quotient: Array, dtype: str) -> float:
    """What `_ulps` gives, from the entries whose error / |truth| is within a factor 2 of the largest.

    An ulp of a normal number is 2^-digits to 2^(1-digits) of it, and more of a smaller one: no other entry reaches what
    the largest quotient is sure to.
    """
    most = float(quotient.max())
    if not most:
        return 0.0
    near, kind = np.flatnonzero(quotient > most * 0.499), find_format(dtype)
    sizes = size[near]
    if not (len(near) and kind.tiny <= sizes.min() <= sizes.max() <= kind.largest):
        return _ulps(error, size, dtype)
    powers = (sizes.view(np.int64) & EXPONENT).view(np.float64)
    return float((error[near] / powers).max()) * 2.0 ** (kind.digits - 1)


def _relative_of_usual(scans: list[_Scan], given: Array, truth: Any) -> float:
    """What `_relative` gives, from the sums of squares where no square is near the ends of float64."""
    errors, sizes = sum(scan.errors for scan in scans), sum(scan.sizes for scan in scans)
    if 1e-200 < sizes < 1e300 and (errors > 1e-300 or max(scan.top for scan in scans) == 0):
        return float(np.sqrt(errors / sizes))
    return _relative(find_distance(given, truth), np.abs(_narrow(truth)))


def _narrow(value: Any) -> Any:
    """Return numbers of any precision in float64, infinite where they are beyond it."""
    return value if value.dtype == np.float64 else value.astype(np.float64)


def _measure_any(given: Array, truth: Any, bound: Array, dtype: str) -> Measure:
    error, truth = find_distance(given, truth), _narrow(truth)
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
    """Where both are NaN, both the same infinity, or the truth is so large that rounding may overflow, here or before."""
    same: Array = (np.isnan(given) & np.isnan(truth)) | (np.isinf(given) & (given == truth)) | np.isposinf(bound)
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
