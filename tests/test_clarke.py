"""Functions with known kinks come in; the intervals found from their difference quotients must be those of the books."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.clarke import contains, find_interval
from harness.kinks import Place

TIE = Place("tie", (1.0, 1.0), (1.0, 0.0))
TOGETHER = Place("tie", (1.0, 1.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("forward", "place", "interval"),
    [
        (lambda xp, x: xp.abs(x), Place("", (0.0,)), (-1, 1)),
        (lambda xp, x: 3 * xp.abs(x) + x, Place("", (0.0,)), (-2, 4)),
        (lambda xp, x: xp.maximum(x, 0), Place("", (0.0,)), (0, 1)),
        (lambda xp, x: -xp.maximum(x, 0), Place("", (0.0,)), (-1, 0)),
        (lambda xp, x: xp.maximum(x, 0), Place("", (5.0,)), (1, 1)),
        (lambda xp, x: x * x, Place("", (3.0,)), (6, 6)),
        (lambda xp, x: xp.maximum(x[0], x[1]), TIE, (0, 1)),
        (lambda xp, x: xp.maximum(x[0], x[1]), TOGETHER, (1, 1)),
        (lambda xp, x: xp.linalg.norm(x), Place("", (0.0, 0.0), (0.6, 0.8)), (-1, 1)),
        (lambda xp, x: xp.sqrt(x), Place("", (0.0,)), (math.inf, math.inf)),
        (lambda xp, x: xp.sqrt(xp.abs(x)), Place("", (0.0,)), (-math.inf, math.inf)),
        (lambda xp, x: xp.floor(x), Place("", (1.0,)), (0, 0)),
    ],
)
def test_the_interval_is_that_of_the_function(forward, place, interval):
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(find_interval(forward, place), interval, atol=2e-6)


def test_it_looks_around_and_not_along_the_direction_alone():
    # Along either axis the median of three equal entries does not move at all, but nearby it does.
    place = Place("", (1.0, 1.0, 1.0), (1.0, 0.0, 0.0))
    assert find_interval(lambda xp, x: xp.median(x), place) == (0.0, 1.0)


def test_where_the_function_has_no_value_there_is_no_interval():
    low, high = find_interval(lambda xp, x: x, Place("", (math.nan,)))
    assert math.isnan(low)
    assert math.isnan(high)
    assert contains(low, high, 0.0) is None


def test_a_smooth_curve_is_no_interval_at_all():
    low, high = find_interval(lambda xp, x: xp.sin(x), Place("", (1.0,)))
    assert low == pytest.approx(math.cos(1.0), abs=2e-6)
    assert high - low <= 2e-6


@pytest.mark.parametrize("gradient", [-0.001, 1.001, math.nan, math.inf, -math.inf])
def test_what_lies_outside_is_told(gradient):
    assert contains(0.0, 1.0, gradient) is False


def test_an_infinite_end_holds_an_infinite_gradient():
    assert contains(0.0, math.inf, math.inf) is True
    assert contains(math.inf, math.inf, 1.0) is False
