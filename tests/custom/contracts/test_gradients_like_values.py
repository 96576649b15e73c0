"""Layers whose gradients have another shape or dtype than their values come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.contract import NotApplicable
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class KeepsAxis(layers.Linear):
    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        self.grads["b"] = dy.sum(axis=0, keepdims=True)
        return dx


class Forgets(layers.Bilinear):
    def backward(self, dy: Any) -> Any:
        return dy * self.b


class Widens(layers.Swish):
    """A scalar of NumPy is float64, and so is what it meets."""

    def backward(self, dy: Any) -> Any:
        return super().backward(dy) * np.float64(1.0)


class Single(layers.Swish):
    def forward(self, x: Any) -> Any:
        return super().forward(np.asarray(x, np.float32))

    def backward(self, dy: Any) -> Any:
        return super().backward(np.asarray(dy, np.float32))


def product(xp: Any, params: Any, a: Any, b: Any) -> Any:
    return a * b


def test_an_axis_too_many_is_told_by_this_contract_alone() -> None:
    assert find_broken(draw(KeepsAxis, layers.linear))["gradient_shapes"] == "db has the shape [1, 3], not [3]"


def test_a_gradient_that_does_not_come_is_told() -> None:
    assert ask("gradient_shapes", draw(Forgets, product, [(4, 3), (4, 3)])).startswith("dx1 is missing: constants=(1,)")


def test_a_gradient_too_many_is_told() -> None:
    class Twice(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return super().backward(dy), dy

    assert "backward returned 2 gradients; accepted are 1" in ask("gradient_shapes", draw(Twice))


def test_float64_in_a_float32_layer_is_told_by_this_contract_alone() -> None:
    assert find_broken(draw(Widens, dtype="float32")) == {"gradient_dtypes": "dx0 is float64 where its value is float32"}
    assert ask("gradient_dtypes", draw(Widens)) == ""


def test_a_layer_that_computes_in_float32_alone_is_not_asked_in_float64() -> None:
    with pytest.raises(NotApplicable, match=r"computes in float32 whatever it is given: check it with dtypes=\['float32'\]"):
        ask("gradient_dtypes", draw(Single))
    assert find_broken(draw(Single, dtype="float32")) == {}


def test_one_narrow_gradient_among_wide_ones_is_told() -> None:
    class Mixed(layers.Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads["W"] = self.grads["W"].astype(np.float32)
            return dx

    assert ask("gradient_dtypes", draw(Mixed, layers.linear)) == "dW is float32 where its value is float64"
