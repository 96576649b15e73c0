"""Double-doubles and enclosures come in; the largest certain relative error goes out, and random arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.judge.double_double import DoubleDouble, two_sum
from tests.judge.balls import to_balls


def draw_wide(rng: np.random.Generator, shape: Any, spread: float) -> DoubleDouble:
    """Return random numbers whose exponents lie within the spread on both sides of 0, with a low part that is not 0."""
    hi = rng.uniform(1, 2, shape) * 2.0 ** rng.uniform(-spread, spread, shape) * rng.choice([-1.0, 1.0], shape)
    return DoubleDouble(*two_sum(hi, hi * 2.0**-54 * rng.uniform(-1, 1, shape)))


def find_worst(made: DoubleDouble, exact: Any) -> float:
    """Return the largest relative error; a ball that is wide beside the error counts against it."""
    errors = [abs(got - true) / abs(true) for got, true in zip(np.ravel(to_balls(made)), np.ravel(exact), strict=True)]
    return max(float(error.upper()) for error in errors)
