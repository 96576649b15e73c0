"""Hand-written layers whose forward passes trap whoever differentiates them numerically; each has a right backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np


class LayerNorm:
    """(x - mean) / sqrt(var + eps) * g + b, over the last axis."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.params, self.grads = {"g": rng.uniform(0.5, 2, 5), "b": rng.standard_normal(5)}, dict[str, Any]()

    def forward(self, x: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        self.r = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-3)
        self.h = centred * self.r
        return self.h * self.params["g"] + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"g": (dy * self.h).sum(axis=0), "b": dy.sum(axis=0)}
        dh = dy * self.params["g"]
        inner = dh - dh.mean(axis=-1, keepdims=True) - self.h * (dh * self.h).mean(axis=-1, keepdims=True)
        return inner * self.r


class VarNorm(LayerNorm):
    """The same, by np.var, whose complex numbers are squared by their conjugates."""

    def forward(self, x: Any) -> Any:
        self.r = 1 / np.sqrt(np.var(x, axis=-1, keepdims=True) + 1e-3)
        self.h = (x - x.mean(axis=-1, keepdims=True)) * self.r
        return self.h * self.params["g"] + self.params["b"]


class ReLU:
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        self.mask = x > 0
        return np.maximum(x, 0)

    def backward(self, dy: Any) -> Any:
        return dy * self.mask


class InPlaceReLU(ReLU):
    """max(x, 0), written over a copy."""

    def forward(self, x: Any) -> Any:
        y = x.copy()
        self.mask = x > 0
        y[y < 0] = 0
        return y


class Abs:
    """|x|."""

    def forward(self, x: Any) -> Any:
        self.sign = np.sign(x)
        return np.abs(x)

    def backward(self, dy: Any) -> Any:
        return dy * self.sign


class SignTimes(Abs):
    """|x|, as sign(x) x."""

    def forward(self, x: Any) -> Any:
        self.sign = np.sign(x)
        return self.sign * x


class Norm:
    """The length of each row."""

    def forward(self, x: Any) -> Any:
        self.x, self.n = x, np.linalg.norm(x, axis=-1)
        return self.n

    def backward(self, dy: Any) -> Any:
        return (dy / self.n)[:, None] * self.x


class Softmax:
    """Softmax over the last axis."""

    def forward(self, x: Any) -> Any:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.y = e / e.sum(axis=-1, keepdims=True)
        return self.y.copy()

    def backward(self, dy: Any) -> Any:
        return self.y * (dy - (dy * self.y).sum(axis=-1, keepdims=True))


class MaxPool:
    """The largest of each two neighbours along the last axis."""

    def forward(self, x: Any) -> Any:
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        self.shape, self.at = x.shape, pairs.argmax(axis=-1)[..., None]
        return np.take_along_axis(pairs, self.at, -1)[..., 0]

    def backward(self, dy: Any) -> Any:
        dx = np.zeros((*dy.shape, 2), dy.dtype)
        np.put_along_axis(dx, self.at, dy[..., None], -1)
        return dx.reshape(self.shape)


class Buffered:
    """x^2, written into a buffer that is made without a dtype."""

    def forward(self, x: Any) -> Any:
        self.x, y = x, np.zeros(x.shape)
        y[...] = x * x
        return y.astype(x.dtype) if x.dtype == np.float32 else y

    def backward(self, dy: Any) -> Any:
        return 2 * self.x * dy


class Listed(Buffered):
    """x^2, one number at a time through Python's floats."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.array([float(one) ** 2 for one in x.ravel()], x.dtype if x.dtype.kind == "f" else float).reshape(x.shape)


class Cast(Buffered):
    """x^2 + x, with x^2 brought to float64 in between."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return (x * x).astype(np.float64).astype(x.dtype) + x

    def backward(self, dy: Any) -> Any:
        return (2 * self.x + 1) * dy


class RealPart(Buffered):
    """x^2 + x, of which one term takes the real part."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return x * x + x.real

    def backward(self, dy: Any) -> Any:
        return (2 * self.x + 1) * dy


class Sorted:
    """The entries of each row in order."""

    def forward(self, x: Any) -> Any:
        self.order = np.argsort(x, axis=-1)
        return np.take_along_axis(x, self.order, -1)

    def backward(self, dy: Any) -> Any:
        dx = np.empty_like(dy)
        np.put_along_axis(dx, self.order, dy, -1)
        return dx


class BatchNorm:
    """Normalises over the batch, and keeps running means in the pass forward."""

    def __init__(self) -> None:
        self.params, self.grads = {"g": np.linspace(0.5, 1.5, 5)}, dict[str, Any]()
        self.mean = np.zeros(5)

    def forward(self, x: Any) -> Any:
        self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        centred = x - x.mean(axis=0)
        self.r = 1 / np.sqrt((centred**2).mean(axis=0) + 1e-2)
        self.h = centred * self.r
        return self.h * self.params["g"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"g": (dy * self.h).sum(axis=0)}
        dh = dy * self.params["g"]
        return self.r * (dh - dh.mean(axis=0) - self.h * (dh * self.h).mean(axis=0))


class Huber:
    """One number: the mean of x^2 / 2 where |x| < 1, and |x| - 1/2 elsewhere."""

    def forward(self, x: Any) -> Any:
        self.x, a = x, np.abs(x)
        return np.where(a < 1, x * x / 2, a - 0.5).mean()

    def backward(self, dy: Any) -> Any:
        return dy * np.clip(self.x, -1, 1) / self.x.size


class CrossEntropy:
    """The mean cross entropy of softmax, for labels that are integers."""

    def forward(self, x: Any, t: Any) -> Any:
        moved = x - x.max(axis=1, keepdims=True)
        logs = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
        self.p, self.t = np.exp(logs), t
        return -logs[np.arange(len(t)), t].mean()

    def backward(self, dy: Any) -> Any:
        one = np.zeros_like(self.p)
        one[np.arange(len(self.t)), self.t] = 1
        return dy * (self.p - one) / self.p.dtype.type(len(self.t)), None


class Halved(Buffered):
    """x^2 of an x that is cast to half precision: a staircase, whose own slope is 0."""

    def forward(self, x: Any) -> Any:
        self.x = x.astype(np.float16).astype(x.dtype)
        return self.x * self.x


class Singled(Buffered):
    """x^2 of an x that is cast to float32."""

    def forward(self, x: Any) -> Any:
        self.x = x.astype(np.float32).astype(x.dtype)
        return self.x * self.x
