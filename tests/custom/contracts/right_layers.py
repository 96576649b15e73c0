"""Right layers as people write them, in many kinds; every contract is put to them, and none may be found broken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from harness import LayerSpec


class Rectifier:
    """max(x, 0), by a comparison that takes NaN for a number below 0."""

    def forward(self, x: Any) -> Any:
        self.open = x > 0
        return np.where(self.open, x, 0).astype(x.dtype)

    def backward(self, dy: Any) -> Any:
        return dy * self.open


class Elu:
    def forward(self, x: Any) -> Any:
        self.x = x
        return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)

    def backward(self, dy: Any) -> Any:
        return dy * np.where(self.x > 0, 1, np.exp(np.minimum(self.x, 0))).astype(dy.dtype)


class Tanh:
    """The derivative is taken at the output, of which the layer keeps the array that it hands out a copy of."""

    def forward(self, x: Any) -> Any:
        self.y = np.tanh(x)
        return self.y.copy()

    def backward(self, dy: Any) -> Any:
        return dy * (1 - self.y**2)


class Softmax:
    def forward(self, x: Any) -> Any:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.p = e / e.sum(axis=1, keepdims=True)
        return self.p.copy()

    def backward(self, dy: Any) -> Any:
        return self.p * (dy - (dy * self.p).sum(axis=1, keepdims=True))


class Normalised:
    """Layer norm over axis 1, batch norm over axis 0."""

    axis = 1

    def __init__(self) -> None:
        self.params = {"gamma": np.linspace(0.5, 1.5, 5), "beta": np.linspace(-1, 1, 5)}
        self.grads: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        self.inv = 1 / np.sqrt(x.var(axis=self.axis, keepdims=True) + x.dtype.type(1e-5))
        self.x_hat = (x - x.mean(axis=self.axis, keepdims=True)) * self.inv
        return self.params["gamma"] * self.x_hat + self.params["beta"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"gamma": (dy * self.x_hat).sum(axis=0), "beta": dy.sum(axis=0)}
        g = dy * self.params["gamma"]
        along = self.x_hat * (g * self.x_hat).mean(axis=self.axis, keepdims=True)
        return self.inv * (g - g.mean(axis=self.axis, keepdims=True) - along)


class BatchNorm(Normalised):
    """With running statistics, and both modes."""

    axis = 0

    def __init__(self) -> None:
        super().__init__()
        self.training, self.mean, self.var = True, np.zeros(5), np.ones(5)

    def forward(self, x: Any) -> Any:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
            self.var = 0.9 * self.var + 0.1 * x.var(axis=0)
            return super().forward(x)
        self.inv = (1 / np.sqrt(self.var + 1e-5)).astype(x.dtype)
        self.x_hat = (x - self.mean.astype(x.dtype)) * self.inv
        return self.params["gamma"] * self.x_hat + self.params["beta"]

    def backward(self, dy: Any) -> Any:
        return super().backward(dy) if self.training else dy * self.params["gamma"] * self.inv


class Dropout:
    """Seeded, with the mode as a word."""

    mode = "train"

    def forward(self, x: Any) -> Any:
        self.mask = np.ones_like(x)
        if self.mode == "train":
            self.mask = (np.random.default_rng(3).random(x.shape) < 0.75) / np.asarray(0.75, x.dtype)
        return x * self.mask

    def backward(self, dy: Any) -> Any:
        return dy * self.mask


class MaxPool:
    """Two rows in one, the first of equal entries taken."""

    def forward(self, x: Any) -> Any:
        pairs = x.reshape(len(x), -1, 2)
        self.chosen, self.x = pairs.argmax(axis=2), x
        return pairs.max(axis=2)

    def backward(self, dy: Any) -> Any:
        dx = np.zeros_like(self.x)
        pairs = dx.reshape(len(dx), -1, 2)
        np.put_along_axis(pairs, self.chosen[..., None], dy[..., None], axis=2)
        return dx


class Conv1d:
    def __init__(self) -> None:
        self.params, self.grads = {"w": np.array([0.5, -1.0, 2.0])}, dict[str, Any]()

    def forward(self, x: Any) -> Any:
        self.windows = sliding_window_view(x, 3, axis=1)
        return self.windows @ self.params["w"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"w": np.einsum("ntk,nt->k", self.windows, dy)}
        dx = np.zeros((dy.shape[0], dy.shape[1] + 2), dy.dtype)
        for k in range(3):
            dx[:, k : k + dy.shape[1]] += dy * self.params["w"][k]
        return dx


class Huber:
    def forward(self, x: Any, t: Any) -> Any:
        self.d = x - t
        size = np.abs(self.d)
        return np.where(size <= 1, 0.5 * self.d**2, size - 0.5).sum()

    def backward(self, dy: Any) -> Any:
        return dy * np.clip(self.d, -1, 1), None


class Hinge:
    def forward(self, x: Any, t: Any) -> Any:
        self.margin, self.t = 1 - t * x, t
        return np.maximum(self.margin, 0).sum(axis=1)

    def backward(self, dy: Any) -> Any:
        return -self.t * (self.margin > 0) * dy[:, None], None


class Larger:
    """The larger of two, half of the gradient to each where they are equal."""

    def forward(self, a: Any, b: Any) -> Any:
        self.share = np.where(a == b, 0.5, a > b).astype(a.dtype)
        return np.maximum(a, b)

    def backward(self, dy: Any) -> Any:
        return dy * self.share, dy * (1 - self.share)


class PassesOn:
    """A sum of two, whose gradient is the array that came in."""

    def forward(self, a: Any, b: Any) -> Any:
        return a + b

    def backward(self, dy: Any) -> Any:
        return dy, dy


class Norm:
    """The length of each row, which has no slope at 0."""

    def forward(self, x: Any) -> Any:
        self.x, self.y = x, np.sqrt((x * x).sum(axis=1))
        return self.y

    def backward(self, dy: Any) -> Any:
        return (dy / self.y)[:, None] * self.x


class Norm2(Norm):
    def forward(self, x: Any) -> Any:
        return super().forward(x).copy()


class Attention:
    """Scaled dot products of x with itself."""

    def forward(self, x: Any) -> Any:
        self.x, self.scale = x, x.dtype.type(1 / np.sqrt(x.shape[2]))
        scores = x @ x.transpose(0, 2, 1) * self.scale
        e = np.exp(scores - scores.max(axis=2, keepdims=True))
        self.p = e / e.sum(axis=2, keepdims=True)
        return self.p @ x

    def backward(self, dy: Any) -> Any:
        dp = dy @ self.x.transpose(0, 2, 1)
        ds = self.p * (dp - (dp * self.p).sum(axis=2, keepdims=True)) * self.scale
        return self.p.transpose(0, 2, 1) @ dy + ds @ self.x + ds.transpose(0, 2, 1) @ self.x


def normalise(axis: int) -> Any:
    """Return the formula of a norm over one axis."""

    def formula(xp: Any, params: Any, x: Any) -> Any:
        centred = x - xp.mean(x, axis=axis, keepdims=True)
        var = xp.mean(centred * centred, axis=axis, keepdims=True)
        return params["gamma"] * centred / xp.sqrt(var + 1e-5) + params["beta"]

    return formula


def attend(xp: Any, params: Any, x: Any) -> Any:
    """Return the formula of Attention."""
    scores = xp.matmul(x, xp.permute_dims(x, (0, 2, 1))) / x.shape[2] ** 0.5
    e = xp.exp(scores - xp.max(scores, axis=2, keepdims=True))
    return xp.matmul(e / xp.sum(e, axis=2, keepdims=True), x)


def softmax(xp: Any, params: Any, x: Any) -> Any:
    """Return the formula of Softmax."""
    e = xp.exp(x - xp.max(x, axis=1, keepdims=True))
    return e / xp.sum(e, axis=1, keepdims=True)


def convolve(xp: Any, params: Any, x: Any) -> Any:
    """Return the formula of Conv1d."""
    w, size = params["w"], x.shape[1] - 2
    return x[:, :size] * w[0] + x[:, 1 : size + 1] * w[1] + x[:, 2:] * w[2]


def huber(xp: Any, params: Any, x: Any, t: Any) -> Any:
    """Return the formula of Huber."""
    d = x - t
    return xp.sum(xp.where(xp.abs(d) <= 1, 0.5 * d * d, xp.abs(d) - 0.5))


def drop(xp: Any, params: Any, x: Any) -> Any:
    """Return the formula of Dropout in training."""
    return x * ((np.random.default_rng(3).random(x.shape) < 0.75) / 0.75)


def draw_signs(rng: np.random.Generator) -> Any:
    """Return scores and targets of -1 and 1."""
    return rng.standard_normal((6, 4)), rng.choice([-1.0, 1.0], (6, 4))


def rectify(xp: Any, params: Any, x: Any) -> Any:
    """Return the formula of Rectifier."""
    return xp.maximum(x, xp.zeros_like(x))


RIGHT = (
    LayerSpec(Rectifier, rectify, [(6, 5)]),
    LayerSpec(Elu, lambda xp, params, x: xp.where(x > 0, x, xp.exp(xp.minimum(x, xp.zeros_like(x))) - 1), [(6, 5)]),
    LayerSpec(Tanh, lambda xp, params, x: xp.tanh(x), [(7,)]),
    LayerSpec(Softmax, softmax, [(6, 5)]),
    LayerSpec(Normalised, normalise(1), [(6, 5)]),
    LayerSpec(BatchNorm, normalise(0), [(6, 5)]),
    LayerSpec(Dropout, drop, [(6, 5)]),
    LayerSpec(MaxPool, lambda xp, params, x: xp.max(xp.reshape(x, (x.shape[0], -1, 2)), axis=2), [(6, 8)]),
    LayerSpec(Conv1d, convolve, [(4, 9)]),
    LayerSpec(Huber, huber, [(6, 4), (6, 4)], constants=(1,)),
    LayerSpec(Hinge, lambda xp, params, x, t: xp.sum(rectify(xp, params, 1 - t * x), axis=1), draw_signs, constants=(1,)),
    LayerSpec(Larger, lambda xp, params, a, b: xp.maximum(a, b), [(5, 4), (5, 4)]),
    LayerSpec(PassesOn, lambda xp, params, a, b: a + b, [(5, 4), (5, 4)]),
    LayerSpec(Norm2, lambda xp, params, x: xp.sqrt(xp.sum(x * x, axis=1)), [(5, 4)]),
    LayerSpec(Attention, attend, [(3, 4, 4)]),
)

# What cancels in them is rounding alone: of two rows, of scores far apart, of a column that is the same in all rows.
CANCELLING = (
    LayerSpec(BatchNorm, normalise(0), [(2, 5)], name="batch_norm_of_two"),
    LayerSpec(BatchNorm, normalise(0), [100 + np.random.default_rng(0).standard_normal((6, 5))], name="batch_norm_off_centre"),
    LayerSpec(Softmax, softmax, [30 * np.random.default_rng(0).standard_normal((6, 5))], name="softmax_saturated"),
    LayerSpec(Normalised, normalise(1), [np.full((3, 5), 2.0)], name="layer_norm_of_equals"),
    LayerSpec(MaxPool, RIGHT[7].formula, [np.zeros((3, 4))], name="max_pool_of_zeros"),
)
