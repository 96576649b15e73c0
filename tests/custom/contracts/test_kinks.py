"""Layers at ties and kinks come in; that right choices are notes and wrong ones are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import check_layer
from harness.custom.contracts.contract import NotApplicable, Note
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken
from tests.custom.contracts.right_layers import Huber, Larger, MaxPool, Norm, Rectifier, huber, rectify


class RectifierAt0:
    slope = 0.5

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dy: Any) -> Any:
        return dy * np.where(self.x == 0, self.slope, self.x > 0).astype(dy.dtype)


class RectifierOf2At0(RectifierAt0):
    slope = 2.0


class PoolOfEach(MaxPool):
    """Every one of equal entries gets the whole gradient."""

    def forward(self, x: Any) -> Any:
        self.top = np.repeat(super().forward(x), 2, axis=1)
        return self.top[:, ::2].copy()

    def backward(self, dy: Any) -> Any:
        return np.repeat(dy, 2, axis=1) * (self.x == self.top)


class PoolOfShares(PoolOfEach):
    """Equal entries share it."""

    def backward(self, dy: Any) -> Any:
        pairs = (self.x == self.top).reshape(len(self.x), -1, 2)
        return (dy[..., None] * pairs / pairs.sum(axis=2, keepdims=True).astype(dy.dtype)).reshape(self.x.shape)


class LargerOfBoth(Larger):
    def backward(self, dy: Any) -> Any:
        return dy * (self.share > 0), dy * (self.share < 1)


class LogOfMore:
    def forward(self, x: Any) -> Any:
        self.x = x
        return np.log(x - 9)

    def backward(self, dy: Any) -> Any:
        return dy / (self.x - 9)


class Sinc:
    """sin(x) / x, which is 0 / 0 at 0."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return (np.sin(x) + (x == 0)) / (x + (x == 0))

    def backward(self, dy: Any) -> Any:
        x = self.x
        return dy * (np.cos(x) * x - np.sin(x)) / (x * x)


def pool(xp: Any, params: Any, x: Any) -> Any:
    return xp.max(xp.reshape(x, (x.shape[0], -1, 2)), axis=2)


def larger(xp: Any, params: Any, a: Any, b: Any) -> Any:
    return xp.maximum(a, b)


def sinc(xp: Any, params: Any, x: Any) -> Any:
    safe = xp.where(x == 0, xp.ones_like(x), x)
    return xp.where(x == 0, 1 - x * x / 6, xp.sin(safe) / safe)


RIGHT = [
    (Rectifier, rectify, [(6, 5)], "dx0[0][0] / dy is right from 0 to 1: the layer takes 0"),
    (RectifierAt0, rectify, [(6, 5)], "/ dy is right from 0 to 1: the layer takes 0.5"),
    (MaxPool, pool, [(6, 8)], "at equal inputs dx0"),
    (PoolOfShares, pool, [(6, 8)], "at equal inputs dx0"),
    (Larger, larger, [(5, 4), (5, 4)], "at inputs of 0 dx0"),
]


@pytest.mark.parametrize(("kind", "formula", "inputs", "words"), RIGHT, ids=[kind.__name__ for kind, *_ in RIGHT])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_right_choice_is_a_note(kind: Any, formula: Any, inputs: Any, words: str, dtype: str) -> None:
    said = ask("kinks", draw(kind, formula, inputs, dtype))
    assert isinstance(said, Note)
    assert words.partition(" dx")[0] in said.text


def test_the_note_says_what_is_taken() -> None:
    for kind, formula, inputs, words in RIGHT[:2]:
        said = ask("kinks", draw(kind, formula, inputs))
        assert isinstance(said, Note)
        assert words.removeprefix("dx0[0][0] ") in said.text


@pytest.mark.parametrize(
    ("kind", "formula", "inputs", "words"),
    [
        (RectifierOf2At0, rectify, [(6, 5)], "at inputs of 0 dx0"),
        (PoolOfEach, pool, [(6, 8)], "at equal inputs the entries of dx0 that share a gradient have more or less of it"),
        (Sinc, sinc, [(6, 5)], "at inputs of 0 dx0[0][0] is nan; right is anything from"),
    ],
    ids=["slope 2", "pool of each", "0 / 0"],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_lies_outside_is_told_by_this_contract_alone(kind: Any, formula: Any, inputs: Any, words: str, dtype: str) -> None:
    broken = find_broken(draw(kind, formula, inputs, dtype))
    assert set(broken) == {"kinks"}
    assert words in broken["kinks"]


def test_a_gradient_that_both_of_two_equal_inputs_get_is_told() -> None:
    broken = find_broken(draw(LargerOfBoth, larger, [(5, 4), (5, 4)]))
    assert set(broken) == {"kinks"}
    assert "the inputs that share a gradient have more or less of it in all" in broken["kinks"]


def test_smooth_formulas_and_those_without_a_slope_are_not_asked() -> None:
    with pytest.raises(NotApplicable, match="has no kink"):
        ask("kinks", draw(layers.Swish))
    with pytest.raises(NotApplicable, match="has no kink"):
        ask("kinks", draw(Huber, huber, [(6, 4), (6, 4)], constants=(1,)))
    with pytest.raises(NotApplicable, match="gives no finite numbers"):
        ask("kinks", draw(LogOfMore, lambda xp, params, x: xp.log(x - 9.0), [np.full((2, 2), 10.0)]))


def test_nan_where_the_formula_itself_gives_nan_is_no_failure() -> None:
    said = ask("kinks", draw(Norm, lambda xp, params, x: xp.sqrt(xp.sum(x * x, axis=1)), [(5, 4)]))
    assert isinstance(said, Note)
    assert "the layer takes nan" in said.text


def test_the_choice_stands_beside_that_of_the_frameworks() -> None:
    report = check_layer(RectifierAt0, rectify, inputs=[(6, 5)], checks=["kinks"], dtypes=["float32"])
    (said,) = report.findings
    assert "the layer takes 0.5, torch 0.5, jax 0.5" in said
    taken = check_layer(Rectifier, rectify, inputs=[(6, 5)], checks=["kinks"], dtypes=["float64"])
    assert "the layer takes 0, torch 0.5, jax 0.5" in taken.findings[0]
