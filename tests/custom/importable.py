"""Wrong layers that other processes can import, right twins of them, and their formulas."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from harness import LayerSpec
from harness.styles import from_attributes
from tests.custom import layers

MENDED = "TESTS_OF_THE_HARNESS_MEND_THE_LAYER"


def is_mended() -> bool:
    """Whether the process is to see the right twins."""
    return MENDED in os.environ


class Slightly(layers.Swish):
    """One part in a million too large."""

    def backward(self, dy: Any) -> Any:
        return super().backward(dy) * (1 if is_mended() else 1.000001)


class Averages(layers.Linear):
    """A mean for a sum."""

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        if not is_mended():
            self.grads["b"] = dy.mean(axis=0)
        return dx


class Leaks:
    """A ReLU, whose closed gates leak."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dy: Any) -> Any:
        return dy * np.where(self.x > 0, 1, 0 if is_mended() else 0.01).astype(dy.dtype)


class Raises(layers.Swish):
    """It multiplies matrices where numbers are meant."""

    def backward(self, dy: Any) -> Any:
        return super().backward(dy) if is_mended() else dy @ self.x


class Shifted(layers.Swish):
    """Its output is too large."""

    def forward(self, x: Any) -> Any:
        return super().forward(x) + (0 if is_mended() else 0.25)


class Widens(layers.Swish):
    """It returns float64, whatever comes in."""

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        return dx if is_mended() else dx.astype(np.float64)


class LosesTheLast(layers.Linear):
    """The last row of the batch is left out."""

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        if not is_mended():
            self.grads["W"] = self.x[:-1].T @ dy[:-1]
        return dx


class Clips(layers.Swish):
    """It clips the cotangent, which is wrong and not linear."""

    def backward(self, dy: Any) -> Any:
        return super().backward(dy if is_mended() else np.clip(dy, -1.5, 1.5))


class Attributes(layers.Linear):
    """Style 1, with a mean for a sum."""

    def __init__(self) -> None:
        super().__init__()
        del self.params

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        self.dW, self.db = self.grads["W"], dy.sum(axis=0) if is_mended() else dy.mean(axis=0)
        return dx


class TwoInputs:
    """max(a b, b), whose gradient of a ignores b."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return np.maximum(a * b, b)

    def backward(self, dy: Any) -> Any:
        first = self.a * self.b > self.b
        da = np.where(first, dy * self.b if is_mended() else dy, 0 * dy)
        return da, np.where(first, dy * self.a, dy)


def relu(xp: Any, params: Any, x: Any) -> Any:
    return xp.where(x > 0, x, 0 * x)


def larger(xp: Any, params: Any, a: Any, b: Any) -> Any:
    return xp.maximum(a * b, b)


class Gate:
    """GELU by erf, and the largest of each row, added: functions whose names the frameworks do not share."""

    def forward(self, x: Any) -> Any:
        from scipy.special import erf

        self.x, self.p = x, 0.5 * (1 + erf(x / np.sqrt(2)).astype(x.dtype))
        return x * self.p + x.max(axis=-1, keepdims=True)

    def backward(self, dy: Any) -> Any:
        density = np.exp(-self.x * self.x / 2) / np.sqrt(2 * np.pi).astype(dy.dtype)
        top = self.x == self.x.max(axis=-1, keepdims=True)
        dx = dy * (self.p + self.x * density) + top * dy.sum(axis=-1, keepdims=True)
        return dx * (1 if is_mended() else 1.5)


def gate(xp: Any, params: Any, x: Any) -> Any:
    return xp.maximum(0.5 * x * (1 + xp.erf(x / 2**0.5)), -1.0) + xp.max(x, axis=-1, keepdims=True)


styled = LayerSpec(from_attributes(Attributes, params=["W", "b"]), layers.linear, [(8, 5)], name="styled")


def through(xp: Any, params: Any, x: Any) -> Any:
    return x


class Promotes:
    """A right layer that turns float32 into float64."""

    def forward(self, x: Any) -> Any:
        return x * np.sqrt(np.float64(2.0))

    def backward(self, dy: Any) -> Any:
        return dy * np.sqrt(np.float64(2.0))
