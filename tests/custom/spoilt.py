"""Right layers by hand, their formulas, and what spoils one gradient of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.custom.spec import LayerSpec
from harness.custom.trials import draw_trials
from tests.custom.layers import Linear, Swish, linear, swish

Change = Callable[[Any, Any, Any], Any]


class Sigmoid:
    def forward(self, x: Any) -> Any:
        self.x, self.y = x, 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, dy: Any) -> Any:
        return dy * self.y * (1 - self.y)


def sigmoid(xp: Any, params: Any, x: Any) -> Any:
    return 1 / (1 + xp.exp(-x))


class Softmax:
    def forward(self, x: Any) -> Any:
        e = np.exp(x - x.max(-1, keepdims=True))
        self.p = e / e.sum(-1, keepdims=True)
        return self.p

    def backward(self, dy: Any) -> Any:
        return self.p * (dy - (dy * self.p).sum(-1, keepdims=True))


def softmax(xp: Any, params: Any, x: Any) -> Any:
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


class LayerNorm:
    def __init__(self) -> None:
        self.params = {"g": np.array([1.0, 2.0, 0.5, 1.5, -1.0]), "b": np.array([0.1, 0.2, 0.3, 0.4, 0.5])}
        self.grads: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        self.s = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        self.h = centred / self.s
        return self.h * self.params["g"] + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"g": (dy * self.h).sum(0), "b": dy.sum(0)}
        dh = dy * self.params["g"]
        return (dh - dh.mean(-1, keepdims=True) - self.h * (dh * self.h).mean(-1, keepdims=True)) / self.s


def layer_norm(xp: Any, params: Any, x: Any) -> Any:
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * params["g"] + params["b"]


class Cumulative:
    def forward(self, x: Any) -> Any:
        return x.cumsum(1)

    def backward(self, dy: Any) -> Any:
        return dy[:, ::-1].cumsum(1)[:, ::-1]


def cumulative(xp: Any, params: Any, x: Any) -> Any:
    return xp.cumulative_sum(x, axis=1)


class Gained:
    def __init__(self) -> None:
        self.params, self.grads = {"g": np.array([1.0, 2.0, 0.5, 1.5, -1.0])}, dict[str, Any]()

    def forward(self, x: Any) -> Any:
        self.t = np.tanh(x)
        return self.params["g"] * self.t

    def backward(self, dy: Any) -> Any:
        self.grads["g"] = (dy * self.t).sum(0)
        return dy * self.params["g"] * (1 - self.t**2)


def gained(xp: Any, params: Any, x: Any) -> Any:
    return params["g"] * xp.tanh(x)


def spoil(base: Any, quantity: str, change: Change) -> Any:
    """Return the layer with one gradient changed: `change(layer, dy, gradient)` gives the wrong one."""

    class Spoilt(base):  # type: ignore[misc]  # reason: the base is only known here
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            if quantity == "dx":
                return change(self, dy, dx)
            self.grads[quantity[1:]] = change(self, dy, self.grads[quantity[1:]])
            return dx

    return Spoilt


FORMULAS = {
    Swish: swish,
    Linear: linear,
    Sigmoid: sigmoid,
    Softmax: softmax,
    LayerNorm: layer_norm,
    Cumulative: cumulative,
    Gained: gained,
}


def draw(kind: Any, formula: Any) -> list[Any]:
    return list(draw_trials(LayerSpec(kind, formula, [(8, 5)]), "float64", 7, 0))


class Gelu:
    """The approximation of GELU by tanh."""

    constant, slope = 0.044715, 1.0

    def forward(self, x: Any) -> Any:
        self.x, self.t = x, np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
        return 0.5 * x * (1 + self.t)

    def backward(self, dy: Any) -> Any:
        c = 0.7978845608028654
        t = np.tanh(c * (self.x + self.constant * self.x**3))
        inner = c * (1 + 3 * self.constant * self.x * self.x)
        return dy * (0.5 * (1 + t) + self.slope * 0.5 * self.x * (1 - t * t) * inner)


def gelu(xp: Any, params: Any, x: Any) -> Any:
    return 0.5 * x * (1 + xp.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


class RoundedGelu(Gelu):
    constant = 0.0447
