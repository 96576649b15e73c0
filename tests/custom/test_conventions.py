"""Layers that take another subgradient at a kink, or none that is right, come in; what their report calls them goes out."""

from __future__ import annotations

import numpy as np
import pytest

from harness import check_layer
from harness.custom import conventions

VALUES = ["forward", "gradients", "power"]


class ReLU:
    """max(x, 0), with the slope 0 at 0."""

    at_zero, elsewhere = 0.0, 1.0

    def forward(self, x):
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dy):
        slope = np.where(self.x == 0, self.at_zero, (self.x > 0) * self.elsewhere)
        return dy * slope.astype(dy.dtype)


class OneAtZero(ReLU):
    at_zero = 1.0


class TwoAtZero(ReLU):
    at_zero = 2.0


class MinusAtZero(ReLU):
    at_zero = -0.5


class OneAtZeroAndWrong(OneAtZero):
    elsewhere = 1.001


class FirstMaximum:
    """The largest of each row, with all of its gradient for the first of several."""

    def forward(self, x):
        self.x = x
        return x.max(axis=1)

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        dx[np.arange(len(self.x)), self.x.argmax(axis=1)] = dy
        return dx


class EveryMaximum(FirstMaximum):
    """All of the gradient for each of several: twice as much as there is."""

    def backward(self, dy):
        return (self.x == self.x.max(axis=1, keepdims=True)) * dy[:, None]


class Median:
    """The middle one of each three, with all of the gradient for the first of those that are it."""

    def forward(self, x):
        self.x = x
        return np.sort(x, axis=1)[:, 1]

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        for row, (x, one) in enumerate(zip(self.x, dy, strict=True)):
            dx[row, np.flatnonzero(x == np.sort(x)[1])[0]] = one
        return dx


class TwiceMedian(Median):
    """All of the gradient for each of several: more than there is."""

    def backward(self, dy):
        return (self.x == np.sort(self.x, axis=1)[:, 1:2]) * dy[:, None]


def median(xp, params, x):
    a, b, c = x[:, 0], x[:, 1], x[:, 2]
    return xp.maximum(xp.minimum(a, b), xp.minimum(xp.maximum(a, b), c))


def draw_with_triples(rng):
    x = rng.standard_normal((5, 3))
    x[1], x[3] = 0.0, 1.5
    return [x]


def draw_one_triple(rng):
    x = rng.standard_normal((5, 3))
    x[1] = x[1, 0]
    return [x]


def relu(xp, params, x):
    return xp.where(x > 0, x, xp.zeros_like(x))


def maximum(xp, params, x):
    return xp.max(x, axis=1)


def draw_with_zeros(rng):
    x = rng.standard_normal((6, 4))
    x[::2, 1] = 0.0
    return [x]


def draw_with_ties(rng):
    x = rng.standard_normal((6, 4))
    x[::2, 1] = x[::2].max(axis=1)
    return [x]


def check(kind, formula, inputs):
    return check_layer(kind, formula, inputs=inputs, against=[], checks=VALUES, on_fail="report")


@pytest.mark.parametrize(
    ("kind", "formula", "inputs"),
    [
        (OneAtZero, relu, draw_with_zeros),
        (FirstMaximum, maximum, draw_with_ties),
        (Median, median, draw_with_triples),
        (Median, median, draw_one_triple),
    ],
)
def test_another_subgradient_is_a_convention_and_told(kind, formula, inputs):
    report = check(kind, formula, inputs)
    assert report.passed, report.describe()
    told = [text for text in report.findings if "convention" in text]
    assert told
    assert all("another subgradient than the oracle" in text for text in told)


def test_the_subgradient_of_the_oracle_is_nothing_to_tell():
    assert not check(ReLU, relu, draw_with_zeros).findings


@pytest.mark.parametrize("kind", [TwoAtZero, MinusAtZero, OneAtZeroAndWrong])
def test_what_is_no_subgradient_or_wrong_elsewhere_stays_a_mismatch(kind):
    report = check(kind, relu, draw_with_zeros)
    assert {one.check for one in report.failures} == {"gradients"}


@pytest.mark.parametrize(
    ("kind", "formula", "inputs"), [(EveryMaximum, maximum, draw_with_ties), (TwiceMedian, median, draw_with_triples)]
)
def test_a_gradient_that_is_handed_out_twice_stays_a_mismatch(kind, formula, inputs):
    assert "gradients" in {one.check for one in check(kind, formula, inputs).failures}


@pytest.mark.parametrize(("inputs", "is_asked"), [([(6, 4)], False), (draw_with_zeros, True)])
def test_a_trial_is_judged_once_more_beside_it_only_where_there_is_a_kink(inputs, is_asked, monkeypatch):
    asked, find = [], conventions._find_right_beside

    def count(trial, backend):
        asked.append(trial)
        return find(trial, backend)

    monkeypatch.setattr(conventions, "_find_right_beside", count)
    assert not check(OneAtZeroAndWrong, relu, inputs).passed
    assert bool(asked) is is_asked


class Clip:
    """min(max(x, -1), 1)."""

    slope = 1.0

    def forward(self, x):
        self.x = x
        return np.clip(x, -1, 1) * np.asarray(self.slope, x.dtype)

    def backward(self, dy):
        return dy * ((self.x > -1) & (self.x < 1)) * np.asarray(self.slope, dy.dtype)


class SteepClip(Clip):
    slope = 1.01


@pytest.mark.parametrize(("kind", "is_right"), [(Clip, True), (SteepClip, False)])
def test_numbers_at_which_nothing_is_rounded_accuse_no_right_layer(kind, is_right):
    def clip(xp, params, x):
        return xp.clip(x, -1, 1)

    report = check_layer(
        kind, clip, inputs=lambda rng: [rng.integers(-2, 3, (5, 4)).astype(float)], against=[], checks=VALUES, on_fail="report"
    )
    assert report.passed is is_right, report.describe()
