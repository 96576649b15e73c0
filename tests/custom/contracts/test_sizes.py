"""Layers that are wrong at some sizes come in; that they are told, and that layers that may refuse a size are not, must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.contract import NotApplicable
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken
from tests.custom.contracts.right_layers import BatchNorm, normalise


class Squeezes(layers.Linear):
    def backward(self, dy: Any) -> Any:
        return super().backward(dy.squeeze()) if len(dy) > 1 else super().backward(dy) * 0


class DividesByWidth:
    """The sum of squares over the rows' number; the gradient divides by the columns' instead."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return (x * x).sum() / len(x)

    def backward(self, dy: Any) -> Any:
        return dy * 2 * self.x / self.x.shape[1]


class Chunks(layers.Swish):
    """It works in pieces of two rows, and forgets what is left over behind three of them."""

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        if len(dx) > 6:
            dx[len(dx) // 2 * 2 :] = 0
        return dx


def mean_square(xp: Any, params: Any, x: Any) -> Any:
    return xp.sum(x * x) / x.shape[0]


def test_a_batch_of_one_that_is_squeezed_is_told_by_this_contract_alone() -> None:
    given = np.random.default_rng(0).standard_normal((6, 5))
    assert find_broken(draw(Squeezes, layers.linear, [given])) == {"small_batches": "a batch of 1: far from the formula: dx0"}


def test_what_is_raised_at_a_size_is_told_with_it() -> None:
    class Refuses(layers.Swish):
        def forward(self, x: Any) -> Any:
            assert len(x) != 2
            return super().forward(x)

    assert str(ask("small_batches", draw(Refuses))).startswith("a batch of 2: it raises AssertionError")


def test_a_layer_may_refuse_a_batch_of_which_nothing_depends() -> None:
    class RefusesOne(BatchNorm):
        def forward(self, x: Any) -> Any:
            if len(x) == 1:
                raise ValueError("expected more than 1 value per channel when training")
            return super().forward(x)

    assert ask("small_batches", draw(RefusesOne, normalise(0))) == ""


def test_a_divisor_of_the_wrong_axis_shows_in_a_square_by_this_contract() -> None:
    square = draw(DividesByWidth, mean_square, [np.random.default_rng(0).standard_normal((4, 4))])
    assert ask("deterministic", square) == ""
    assert ask("odd_sizes", square) == "a batch of 5: far from the formula: dx0"


def test_rows_left_over_are_told_by_this_contract_alone() -> None:
    assert find_broken(draw(Chunks)) == {"odd_sizes": "a batch of 7: far from the formula: dx0"}


def test_axes_of_one_size_are_cut() -> None:
    class Flips(layers.Swish):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            return dx if dx.shape[1] == dx.shape[2] else dx[:, ::-1]

    assert find_broken(draw(Flips, inputs=[(3, 4, 4)])) == {
        "odd_sizes": "a last axis shorter by 1: far from the formula: dx0; a last axis shorter by 2: far from the formula: dx0"
    }


def test_nothing_is_asked_where_no_axis_is_the_batch_or_the_formula_takes_no_other_size() -> None:
    with pytest.raises(NotApplicable, match="share no first axis"):
        ask("small_batches", draw(layers.Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (3,)]))

    def fixed(xp: Any, params: Any, x: Any) -> Any:
        return xp.reshape(x, (6, 5)) * 1.0

    with pytest.raises(NotApplicable, match="a batch of 7: the formula takes no such inputs"):
        ask("odd_sizes", draw(layers.Swish, fixed))
