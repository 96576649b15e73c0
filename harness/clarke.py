"""Clarke intervals: a forward pass and a kink come in, the ends of the interval of right gradients there go out.

The interval is the hull of the limits of the gradients at points near the kink where there is one (Clarke,
Optimization and Nonsmooth Analysis, 1983, theorem 2.5.1). It is found in float64 from difference quotients of the
forward at such points, so that nobody derives it and nobody types it in.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from harness.core import Array
from harness.kinks import Call, Place

NEAR, NEARER, STEP = 2.0**-20, 2.0**-30, 2.0**-7  # powers of two: sums of them are exact, so are most of the quotients
TOLERANCE = 1e-5  # ten times what curvature (NEAR) and rounding (2**-52 over NEAR * STEP) leave in a quotient
DIGITS = 6


@cache
def find_interval(forward: Call, place: Place) -> tuple[float, float]:
    """Return the ends of the Clarke interval of `forward(numpy, x)` at the place, along its direction.

    An end is infinite where the slopes grow without limit; both are NaN where the function has no value nearby. Where
    the function jumps there is no such interval, and the ends are those of its slopes on either side.

    >>> find_interval(lambda xp, x: xp.abs(x), Place("x = 0", (0.0,)))
    (-1.0, 1.0)
    """
    near, nearer = (_slopes(forward, place, radius) for radius in (NEAR, NEARER))
    slopes = np.where(np.abs(nearer) > 4 * np.abs(near) + 1, np.copysign(math.inf, near), near)
    known = slopes[~np.isnan(slopes)]
    if not known.size:
        return math.nan, math.nan
    low, high = (round(float(end), DIGITS) + 0.0 for end in (known.min(), known.max()))
    return low, high


def contains(low: float, high: float, gradient: float) -> bool | None:
    """Return whether the gradient lies in the interval, None where there is no interval.

    >>> contains(0.0, 1.0, 0.5), contains(0.0, 1.0, 1.5), contains(0.0, 1.0, math.nan)
    (True, False, False)
    """
    return None if math.isnan(low) else low - TOLERANCE <= gradient <= high + TOLERANCE


def _slopes(forward: Call, place: Place, radius: float) -> Array:
    """Return central difference quotients along the place's direction at points at most so far from it."""
    along = np.asarray(place.along)
    step = radius * STEP
    points = np.asarray(place.at) + radius * _offsets(along)
    ends = np.array([[float(np.sum(forward(np, point + sign * step * along))) for sign in (-1, 1)] for point in points])
    out: Array = (ends[:, 1] - ends[:, 0]) / (2 * step)
    return out


def _offsets(along: Array) -> Array:
    """Return directions to leave a kink by: to and fro along the one asked for, and all around where there are others."""
    around = np.random.default_rng(0).integers(-64, 65, (200 if along.size > 1 else 0, along.size)) / 64
    return np.concatenate([[along, -along], around])
