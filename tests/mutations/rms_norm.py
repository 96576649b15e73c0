"""RMSNorm: rows `x` of shape (N, D) come in, each divided by its root mean square and scaled by `g` goes out.

A layer for tests: it has a root with an epsilon beside it, and a sum over features, which no layer of the reference has.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from reference_layers import BackwardBound, LayerBase, Pair, Rounding
from reference_layers.layer import Array, Params, Place


class RMSNorm(LayerBase):
    """y = g x / (s + eps), with s the root of the mean of x^2 over the features (Zhang and Sennrich, 2019).

    `x` and y have shape (N, D), `g` (D,), both float32 or both float64. With d = s + eps, n = x / d and r = x / s (0
    in a row of zeros): dx = (dy g - r mean(dy g n)) / d, and dg is the sum of dy n over the batch. `eps` is a power
    of 2, exact in every format.

    >>> layer = RMSNorm(np.array([2.0, 2.0]))
    >>> layer.forward(np.array([[3.0, 3.0]])).round(3)
    array([[2., 2.]])
    """

    name = "rms_norm"
    place: ClassVar[Place] = "map"
    eps: ClassVar[float] = 2.0**-16

    def __init__(self, g: Array) -> None:
        super().__init__()
        self.params = {"g": g}

    def forward(self, x: Array) -> Array:
        s = np.sqrt(np.square(x).mean(axis=1, keepdims=True))
        d = s + x.dtype.type(self.eps)
        n = x / d
        self.cache = (n, d, np.divide(x, s, out=np.zeros_like(x), where=s > 0))
        y: Array = n * self.params["g"]
        return y

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Array:
        n, d, r = self._recall(cache)
        pull = dy * self.params["g"]
        self.grads = {"g": (dy * n).sum(axis=0)}
        dx: Array = (pull - r * (pull * n).mean(axis=1, keepdims=True)) / d
        return dx

    @staticmethod
    def formula(xp: Any, params: Params, x: Any) -> Any:
        """The root is taken of 1 in a row of zeros, where its derivative is infinite and y is 0 all the same."""
        v = xp.mean(x**2, axis=1, keepdims=True)
        ones, zeros = xp.ones_like(v), xp.zeros_like(v)
        s = xp.where(v > 0, xp.sqrt(xp.where(v > 0, v, ones)), zeros)
        return params["g"] * (x / (s + RMSNorm.eps))

    @staticmethod
    def forward_bound(r: Rounding, params: Params, x: Pair) -> Array:
        n, in_n, _, _ = _parts(r, x)
        g = np.abs(params["g"])
        out: Array = g * (in_n + 3 * r.u * (np.abs(n) + in_n)) + r.tiny * (1 + g)
        return out

    @staticmethod
    def backward_bound(r: Rounding, params: Params, x: Pair, dy: Pair) -> BackwardBound:
        """The errors of n, r and d, of the mean over D features, of the difference and of the quotient."""
        (n, in_n, d, in_d), (ratio, in_ratio) = _parts(r, x), _ratio(r, x)
        g, (batch, width) = np.abs(params["g"]), x.value.shape
        pull, in_pull = np.abs(dy.value) * g, dy.error * g + 2 * r.u * dy.size * g + r.tiny
        size_n, low = np.abs(n) + in_n, _low(d, in_d)
        means = ((pull + in_pull) * size_n).mean(axis=1, keepdims=True)
        in_mean = (in_pull * size_n + pull * in_n).mean(axis=1, keepdims=True) + r.gamma(2 * width + 20) * means + 2 * r.tiny
        mean = np.abs((dy.value * params["g"] * n).mean(axis=1, keepdims=True))
        sizes = pull + in_pull + (np.abs(ratio) + in_ratio) * (mean + in_mean)
        difference = np.abs(dy.value * params["g"] - ratio * (dy.value * params["g"] * n).mean(axis=1, keepdims=True))
        in_difference = in_pull + in_mean * (np.abs(ratio) + in_ratio) + mean * in_ratio + 12 * r.u * sizes + r.tiny
        dx = in_difference / low + difference * in_d / (d * low) + 3 * r.u * (difference + in_difference) / low
        dg = (dy.error * size_n + np.abs(dy.value) * in_n).sum(axis=0) + r.gamma(batch + 6) * (dy.size * size_n).sum(axis=0)
        flushed = r.tiny * (1 + 1 / low) ** 2
        return BackwardBound((dx + flushed,), {"g": dg + r.tiny * (batch + 1)})

    @staticmethod
    def initial_params(rng: np.random.Generator, n_in: int, n_out: int) -> dict[str, Array]:
        """Return gains from 0.5 to 2."""
        return {"g": rng.uniform(0.5, 2.0, n_in)}

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
        return (rng.standard_normal((batch, width)),)


def _root(r: Rounding, x: Pair) -> tuple[Array, Array]:
    """Return s and how far off the computed one may be: a norm moves by at most the norm of the change."""
    width = x.value.shape[1]
    s, carried = (np.sqrt(np.square(part).mean(axis=1, keepdims=True)) for part in (x.value, x.error))
    rounded = (r.gamma(width + 4) + 2 * r.u) * (s + carried)
    return s, carried + rounded + np.sqrt(2 * r.tiny)


def _low(d: Array, in_d: Array) -> Array:
    """Return the least that the computed denominator can be: eps is in it, whatever the root is."""
    return np.maximum(d - in_d, RMSNorm.eps / 2)


def _parts(r: Rounding, x: Pair) -> tuple[Array, Array, Array, Array]:
    """Return n and d, each followed by its error."""
    s, in_s = _root(r, x)
    d = s + RMSNorm.eps
    in_d = in_s + r.u * (d + in_s)
    low = _low(d, in_d)
    n, in_n = x.value / d, x.error / low + np.abs(x.value) * in_d / (d * low)
    return n, in_n + 2 * r.u * (np.abs(n) + in_n) + r.tiny, d, in_d


def _ratio(r: Rounding, x: Pair) -> tuple[Array, Array]:
    """Return x / s with its error; no entry of a row exceeds the root of D times its root mean square, computed or true."""
    s, in_s = _root(r, x)
    ratio = np.divide(x.value, s, out=np.zeros_like(x.value), where=s > 0)
    low = np.maximum(s - in_s, 0.0)
    worst = np.full_like(ratio, 4 * np.sqrt(x.value.shape[1]))
    moved = np.divide(x.error + np.abs(ratio) * in_s, low, out=worst.copy(), where=low > 0)
    return ratio, np.minimum(moved * (1 + 4 * r.u) + 4 * r.u * np.abs(ratio), worst)
