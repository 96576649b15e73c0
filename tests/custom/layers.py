"""Hand-written layers as strangers write them, right ones and, each with one fault, wrong ones; the tests judge them."""

from __future__ import annotations

from typing import Any

import numpy as np


class Swish:
    """y = x / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        self.x, self.s = x, 1 / (1 + np.exp(-x))
        return x * self.s

    def backward(self, dy: Any) -> Any:
        return dy * (self.s + self.x * self.s * (1 - self.s))


def swish(xp: Any, params: Any, x: Any) -> Any:
    """Return the formula of Swish."""
    return x / (1 + xp.exp(-x))


class Linear:
    """y = x W + b, with the parameters as attributes and in a dict."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.W, self.b = rng.standard_normal((5, 3)), rng.standard_normal(3)
        self.params, self.grads = {"W": self.W, "b": self.b}, dict[str, Any]()

    def forward(self, x: Any) -> Any:
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy: Any) -> Any:
        self.grads = {"W": self.x.T @ dy, "b": dy.sum(axis=0)}
        return dy @ self.W.T


def linear(xp: Any, params: Any, x: Any) -> Any:
    """Return the formula of Linear."""
    return x @ params["W"] + params["b"]


class Bilinear:
    """y = a * b, with two inputs."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return a * b

    def backward(self, dy: Any) -> Any:
        return dy * self.b, dy * self.a


class Lookup:
    """y = W[t], whose input is integers."""

    def __init__(self) -> None:
        self.params, self.grads = {"W": np.random.default_rng(1).standard_normal((4, 3))}, dict[str, Any]()

    def forward(self, t: Any) -> Any:
        self.t = t
        return self.params["W"][t]

    def backward(self, dy: Any) -> None:
        self.grads = {"W": np.zeros_like(self.params["W"])}
        np.add.at(self.grads["W"], self.t, dy)


class ChangesInput(Swish):
    def forward(self, x: Any) -> Any:
        y = super().forward(x.copy())
        x *= 0
        return y


class ChangesCotangent(Swish):
    def backward(self, dy: Any) -> Any:
        dy *= self.s + self.x * self.s * (1 - self.s)
        return dy


class ChangesParameter(Linear):
    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        self.W -= 0.1 * self.grads["W"]
        return dx


class IsRandom(Swish):
    def backward(self, dy: Any) -> Any:
        return super().backward(dy) * (1 + 1e-3 * np.random.standard_normal(dy.shape))


class HandsOutItsOutput(Swish):
    """y = exp(x), which it goes on using."""

    def forward(self, x: Any) -> Any:
        self.y = np.exp(x)
        return self.y

    def backward(self, dy: Any) -> Any:
        return dy * self.y


class IgnoresCotangent(Swish):
    def backward(self, dy: Any) -> Any:
        return super().backward(np.ones_like(dy))


class Clips(Swish):
    def backward(self, dy: Any) -> Any:
        return super().backward(np.clip(dy, -2.0, 2.0))


class UsesItsCacheUp(Swish):
    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        del self.x
        return dx


class Accumulates(Linear):
    def backward(self, dy: Any) -> Any:
        before, dx = self.grads, super().backward(dy)
        self.grads = {name: value + before.get(name, 0) for name, value in self.grads.items()}
        return dx


class RemembersTheFirst(Swish):
    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        if not hasattr(self, "kept"):
            self.kept = self.s
        self.s = self.kept
        return y


class ReadsRawMemory(Swish):
    """It takes the buffer of dy as if it were laid out row by row."""

    def backward(self, dy: Any) -> Any:
        flat = dy.ravel(order="K")
        return super().backward(flat.reshape(dy.shape))


class FailsOnEmpty(Swish):
    def forward(self, x: Any) -> Any:
        self.largest = x.max()
        return super().forward(x)
