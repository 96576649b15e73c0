"""Layers as strangers write them: correct ones in many styles and the same with a planted fault; each with its formula.

Nothing here belongs to the harness's own layers: these stand for a user's NumPy classes without a bound of their own.
Each takes its parameters by name, keeps what backward needs and leaves gradients in `grads`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from harness.core import Array


class HandLayer:
    """What these share: parameters by name, one input, and sample arrays of random sizes and scales."""

    differentiable: tuple[bool, ...] = (True,)
    name = "hand"

    def __init__(self, **params: Array) -> None:
        self.params = params
        self.grads: dict[str, Any] = {}

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        """Return float64 parameters and inputs."""
        return {}, (_draw(rng, rng.integers(1, 33), rng.integers(2, 33)),)


class Swish(HandLayer):
    """x sigmoid(x), in operators alone."""

    def forward(self, x: Any) -> Any:
        self.x, self.s = x, 1.0 / (1.0 + np.exp(-x))
        return self.x * self.s

    def backward(self, dy: Any) -> Any:
        return dy * (self.s + self.x * self.s * (1.0 - self.s))

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return x / (1 + xp.exp(-x))


class LayerNorm(HandLayer):
    """Rows normalised, in array methods."""

    eps = 1e-5

    def forward(self, x: Any) -> Any:
        self.scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + self.eps)
        self.hat = (x - x.mean(axis=1, keepdims=True)) * self.scale
        return self.params["g"] * self.hat + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads["g"], self.grads["b"] = (dy * self.hat).sum(axis=0), dy.sum(axis=0)
        d = dy * self.params["g"]
        return self.scale * (d - d.mean(axis=1, keepdims=True) - self.hat * (d * self.hat).mean(axis=1, keepdims=True))

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return params["g"] * _standardise(xp, x, 1) + params["b"]

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        _, (x,) = HandLayer.sample(rng)
        return _draw_affine(rng, x.shape[1]), (x,)


class BatchNorm(HandLayer):
    """Columns normalised, in NumPy functions and in-place operators, with 1/N taken out."""

    eps = 1e-5

    def forward(self, x: Any) -> Any:
        self.n = len(x)
        self.centred = x - np.sum(x, axis=0) / self.n
        self.deviation = np.sqrt(np.mean(np.square(self.centred), axis=0) + self.eps)
        self.hat = self.centred / self.deviation
        y = self.hat.copy()
        y *= self.params["g"]
        y += self.params["b"]
        return y

    def backward(self, dy: Any) -> Any:
        self.grads.update(g=np.einsum("ij,ij->j", dy, self.hat), b=np.sum(dy, axis=0))
        dx = self.n * dy
        dx -= self.grads["b"]
        dx -= self.hat * self.grads["g"]
        dx *= self.params["g"] / (self.n * self.deviation)
        return dx

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return params["g"] * _standardise(xp, x, 0) + params["b"]

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        return LayerNorm.sample(rng)


class NaiveBatchNorm(BatchNorm):
    """The variance as E[x^2] - E[x]^2: right, and unstable where the mean is far from 0."""

    def forward(self, x: Any) -> Any:
        self.n, mean = len(x), x.mean(0)
        self.deviation = np.sqrt((x**2).mean(0) - mean**2 + self.eps)
        self.hat = (x - mean) / self.deviation
        return self.params["g"] * self.hat + self.params["b"]

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        params, (x,) = LayerNorm.sample(rng)
        return params, (x + np.abs(x).max() * 10 ** rng.uniform(0, 1),)


class Softmax(HandLayer):
    """Softmax of rows, its Jacobian contracted by einsum."""

    def forward(self, x: Any) -> Any:
        shifted = np.exp(x - np.max(x, axis=-1, keepdims=True))
        self.p = shifted / np.sum(shifted, axis=-1, keepdims=True)
        return self.p.copy()

    def backward(self, dy: Any) -> Any:
        return self.p * (dy - np.einsum("ij,ij->i", dy, self.p)[:, None])

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)


class Affine(HandLayer):
    """x W + b by the `dot` method, gradients written into arrays that are made once."""

    def __init__(self, **params: Array) -> None:
        super().__init__(**params)
        self.grads = {name: np.zeros_like(value) for name, value in params.items()}

    def forward(self, x: Any) -> Any:
        self.x = x
        return x.dot(self.params["W"]) + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads["W"][...] = self.x.T.dot(dy)
        self.grads["b"][...] = dy.sum(0)
        return dy.dot(self.params["W"].T)

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return xp.matmul(x, params["W"]) + params["b"]

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        _, (x,) = HandLayer.sample(rng)
        width = int(rng.integers(1, 33))
        return {"W": _draw(rng, x.shape[1], width), "b": rng.standard_normal(width)}, (x,)


class GeluErf(HandLayer):
    """The exact GELU, by SciPy's erf, its constants in the input's dtype."""

    def forward(self, x: Any) -> Any:
        self.x = x
        self.cdf = 0.5 * (1 + special.erf(x / math.sqrt(2)))
        return x * self.cdf

    def backward(self, dy: Any) -> Any:
        return dy * (self.cdf + self.x * np.exp(-0.5 * self.x**2) * (1 / math.sqrt(2 * math.pi)))

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return 0.5 * x * (1 + xp.erf(x / xp.sqrt(2 * xp.ones_like(x))))


class GeluTanh(HandLayer):
    """GELU by tanh, its polynomial in powers."""

    cube, slope = 0.044715, 0.134145

    def forward(self, x: Any) -> Any:
        self.x = x
        self.t = np.tanh(x.dtype.type(math.sqrt(2 / math.pi)) * (x + self.cube * x**3))
        return 0.5 * x * (1 + self.t)

    def backward(self, dy: Any) -> Any:
        inner = math.sqrt(2 / math.pi) * (1 + self.slope * self.x**2)
        return dy * 0.5 * (1 + self.t + self.x * (1 - self.t**2) * inner)

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class MaxPool(HandLayer):
    """Maxima of pairs through `as_strided`, gradients scattered into zeros: the noise escapes."""

    def forward(self, x: Any) -> Any:
        n, width = x.shape[0], x.shape[1] // 2
        steps = (x.strides[0], 2 * x.strides[1], x.strides[1])
        windows = np.lib.stride_tricks.as_strided(x, (n, width, 2), steps)
        self.which, self.shape = windows.argmax(2), x.shape
        return windows.max(2) * 3.0

    def backward(self, dy: Any) -> Any:
        dx = np.zeros(self.shape, dy.dtype)
        rows, columns = np.indices(self.which.shape)
        dx[rows, 2 * columns + self.which] = 3.0 * dy
        return dx

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return 3 * xp.max(xp.reshape(x, (x.shape[0], x.shape[1] // 2, 2)), axis=2)

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        """Return pairs of which one is larger by a tenth or more: which one it is, no rounding may decide."""
        x = _draw(rng, rng.integers(1, 33), 2 * rng.integers(1, 17))
        x[:, 1::2] = x[:, ::2] * rng.uniform(1.1, 2, x[:, ::2].shape) ** rng.choice([-1, 1], x[:, ::2].shape)
        return {}, (x,)


class Convolution(HandLayer):
    """A convolution along rows by im2col, the patches through `as_strided`, gradients added back in a loop."""

    def forward(self, x: Any) -> Any:
        n, width, taps = x.shape[0], x.shape[1], self.params["W"].shape[0]
        self.shape = x.shape
        self.patches = np.lib.stride_tricks.as_strided(x, (n, width - taps + 1, taps), (*x.strides, x.strides[1]))
        return self.patches @ self.params["W"]

    def backward(self, dy: Any) -> Any:
        weights = self.params["W"]
        self.grads["W"] = np.tensordot(self.patches, dy, ((0, 1), (0, 1)))
        dx = np.zeros(self.shape, dtype=dy.dtype)
        for tap in range(len(weights)):
            dx[:, tap : tap + dy.shape[1]] += dy @ weights[tap]
        return dx

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        taps = params["W"].shape[0]
        width = x.shape[1] - taps + 1
        return xp.matmul(xp.stack([x[:, tap : tap + width] for tap in range(taps)], axis=2), params["W"])

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        taps = int(rng.integers(1, 5))
        x = _draw(rng, rng.integers(1, 17), rng.integers(taps, 25))
        return {"W": _draw(rng, taps, rng.integers(1, 5))}, (x,)


class RunningMean(HandLayer):
    """An exponential running mean, one number at a time."""

    keep = 0.9

    def forward(self, x: Any) -> Any:
        y = np.zeros_like(x)
        for row in range(x.shape[0]):
            level = 0.0
            for column in range(x.shape[1]):
                level = self.keep * level + (1 - self.keep) * x[row, column]
                y[row, column] = level
        return y

    def backward(self, dy: Any) -> Any:
        dx, carried = np.zeros_like(dy), np.zeros_like(dy[:, 0])
        for column in reversed(range(dy.shape[1])):
            carried = dy[:, column] + self.keep * carried
            dx[:, column] = (1 - self.keep) * carried
        return dx

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        levels = [(1 - 0.9) * x[:, 0]]
        for column in range(1, x.shape[1]):
            levels.append(0.9 * levels[-1] + (1 - 0.9) * x[:, column])
        return xp.stack(levels, axis=1)

    @staticmethod
    def sample(rng: np.random.Generator) -> tuple[dict[str, Array], tuple[Array, ...]]:
        return {}, (_draw(rng, rng.integers(1, 5), rng.integers(1, 17)),)


class UnitRows(HandLayer):
    """Rows scaled to length 1, by `np.linalg.norm`."""

    def forward(self, x: Any) -> Any:
        self.length = np.linalg.norm(x, axis=1, keepdims=True)
        self.y = x / self.length
        return self.y.copy()

    def backward(self, dy: Any) -> Any:
        return (dy - self.y * (self.y * dy).sum(axis=1, keepdims=True)) / self.length

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return x / xp.sqrt(xp.sum(x * x, axis=1, keepdims=True))


class SwishHalf(Swish):
    """Fault: the derivative of the product rule's second factor is missing."""

    def backward(self, dy: Any) -> Any:
        return dy * self.s


class LayerNormOutside(LayerNorm):
    """Fault: epsilon beside the root, not under it."""

    def forward(self, x: Any) -> Any:
        self.scale = 1 / (np.sqrt(x.var(axis=1, keepdims=True)) + self.eps)
        self.hat = (x - x.mean(axis=1, keepdims=True)) * self.scale
        return self.params["g"] * self.hat + self.params["b"]


class LayerNormUnbiased(LayerNorm):
    """Fault: the means of the backward pass divide by N - 1."""

    def backward(self, dy: Any) -> Any:
        super().backward(dy)
        d = dy * self.params["g"]
        n = dy.shape[1] - 1
        mean = d.sum(axis=1, keepdims=True) / n
        return self.scale * (d - mean - self.hat * (d * self.hat).sum(axis=1, keepdims=True) / n)


class BatchNormNoMean(BatchNorm):
    """Fault: the term of the mean is missing."""

    def backward(self, dy: Any) -> Any:
        super().backward(dy)
        dx = self.n * dy - self.hat * self.grads["g"]
        return dx * self.params["g"] / (self.n * self.deviation)


class SoftmaxDiagonal(Softmax):
    """Fault: only the diagonal of the Jacobian."""

    def backward(self, dy: Any) -> Any:
        return self.p * (1 - self.p) * dy


class GeluSlope(GeluTanh):
    """Fault: 3 x 0.044715 rounded to 0.1341."""

    slope = 0.1341


class ConvolutionScaled(Convolution):
    """Fault: dW divided by the number of rows plus a thousandth."""

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        self.grads["W"] = self.grads["W"] * 0.999
        return dx


class RunningMeanShort(RunningMean):
    """Fault: backward forgets more than forward does."""

    def backward(self, dy: Any) -> Any:
        self.keep = 0.899
        return super().backward(dy)


CORRECT: Mapping[str, type[HandLayer]] = {
    kind.__name__: kind
    for kind in (
        Swish,
        LayerNorm, BatchNorm, NaiveBatchNorm, Softmax, Affine, GeluErf, GeluTanh, MaxPool, Convolution, RunningMean, UnitRows,
    )
}  # fmt: skip
FAULTY: Mapping[str, type[HandLayer]] = {
    kind.__name__: kind
    for kind in (
        SwishHalf, LayerNormOutside, LayerNormUnbiased, BatchNormNoMean, SoftmaxDiagonal, GeluSlope, ConvolutionScaled,
        RunningMeanShort,
    )
}  # fmt: skip


def _draw(rng: np.random.Generator, rows: Any, columns: Any) -> Array:
    """Return random numbers of a random scale, 0.03 to 30."""
    out: Array = rng.standard_normal((int(rows), int(columns))) * 10 ** rng.uniform(-1.5, 1.5)
    return out


def _draw_affine(rng: np.random.Generator, width: int) -> dict[str, Array]:
    return {"g": rng.standard_normal(width), "b": rng.standard_normal(width)}


def _standardise(xp: Any, x: Any, axis: int) -> Any:
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred * centred, axis=axis, keepdims=True) + 1e-5)
