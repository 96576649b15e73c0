"""Layers whose backward pass is not linear come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.contract import NotApplicable
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class ForgetsSign(layers.Swish):
    def backward(self, dy: Any) -> Any:
        return super().backward(np.abs(dy))


class TakesTheLargest(layers.Linear):
    """Its bias gets the largest entry of dy, and the smallest: twice as much is twice that, and the negative minus it."""

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        self.grads["b"] = dy.max(axis=0) + dy.min(axis=0)
        return dx


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (layers.IgnoresCotangent, "the cotangent 0 does not give 0: dx0"),
        (layers.Clips, "twice what dy gives: dx0"),
        (ForgetsSign, "-dy does not give minus it: dx0"),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_how_it_is_not_linear_is_told(kind: Any, words: str, dtype: str) -> None:
    assert words in str(ask("linear_in_cotangent", draw(kind, dtype=dtype)))


def test_parts_that_do_not_add_up_are_told() -> None:
    said = ask("linear_in_cotangent", draw(TakesTheLargest, layers.linear))
    assert "does not add up to what their sum gives: db" in str(said)


def test_nothing_else_is_broken() -> None:
    assert set(find_broken(draw(layers.Clips))) == {"linear_in_cotangent"}


def test_it_is_not_asked_where_gradients_are_infinite() -> None:
    with pytest.raises(NotApplicable, match="not finite"):
        ask("linear_in_cotangent", draw(layers.Swish, inputs=[np.full((2, 2), np.inf)]))
