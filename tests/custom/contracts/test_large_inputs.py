"""Layers that overflow come in; that NaN is told, and infinity noted, must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.contract import NotApplicable, Note
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class NaiveSigmoid(layers.Swish):
    def forward(self, x: Any) -> Any:
        self.y = np.exp(x) / (1 + np.exp(x))
        return self.y.copy()

    def backward(self, dy: Any) -> Any:
        return dy * self.y * (1 - self.y)


class NaiveSoftplus(layers.Swish):
    def forward(self, x: Any) -> Any:
        self.x = x
        return np.log1p(np.exp(x))

    def backward(self, dy: Any) -> Any:
        return dy / (1 + np.exp(-self.x))


def sigmoid(xp: Any, params: Any, x: Any) -> Any:
    return 1 / (1 + xp.exp(-x))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nan_where_the_function_is_finite_is_told_by_this_contract_alone(dtype: str) -> None:
    broken = find_broken(draw(NaiveSigmoid, sigmoid, dtype=dtype))
    assert set(broken) == {"large_inputs"}
    assert "at inputs of 1e3 and -1e3 y is NaN in" in broken["large_inputs"]


def test_infinity_is_noted() -> None:
    said = ask("large_inputs", draw(NaiveSoftplus, lambda xp, params, x: xp.log(1 + xp.exp(x))))
    assert isinstance(said, Note)
    assert "y is infinite in" in said.text


def test_what_is_raised_is_noted() -> None:
    class Refuses(layers.Swish):
        def forward(self, x: Any) -> Any:
            assert np.abs(x).max() < 100, "out of range"
            return super().forward(x)

    assert "it raises AssertionError: out of range" in str(ask("large_inputs", draw(Refuses)))


def test_where_the_function_itself_is_not_finite_nothing_is_asked() -> None:
    with pytest.raises(NotApplicable, match="no finite value"):
        ask("large_inputs", draw(layers.Swish, lambda xp, params, x: xp.exp(x * x) - xp.exp(x * x * x * x), [(3, 2)]))
