"""Sigmoid: an array of any shape comes in, 1 / (1 + exp(-x)) of each entry goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from reference_layers.layer import Array, BackwardBound, Hazard, LayerBase, Pair, Params, Place, Rounding, Worked


class Sigmoid(LayerBase):
    """The logistic function y = 1 / (1 + exp(-x)), whose derivative is y (1 - y).

    exp is only ever taken of negative numbers, so that no input overflows.

    >>> layer = Sigmoid()
    >>> layer.forward(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    >>> layer.backward(np.array([1.0, 1.0, 1.0]))
    array([0.  , 0.25, 0.  ])
    """

    name = "sigmoid"
    place: ClassVar[Place] = "map"

    def forward(self, x: Array) -> Array:
        y: Array = np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
        self.cache = (y,)
        return y.copy()

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Array:
        (y,) = self._recall(cache)
        dx: Array = dy * (y * (1 - y))
        return dx

    @staticmethod
    def formula(xp: Any, params: Params, x: Any) -> Any:
        """1 / (1 + exp(-x)) and exp(x) / (1 + exp(x)), each on the side where its exp is at most 1.

        Each inner `where` keeps the branch that is not taken finite, or its derivative would be NaN.
        """
        zeros = xp.zeros_like(x)
        falling = xp.exp(-xp.where(x >= 0, x, zeros))
        rising = xp.exp(xp.where(x >= 0, zeros, x))
        return xp.where(x >= 0, 1 / (1 + falling), rising / (1 + rising))

    @staticmethod
    def forward_bound(r: Rounding, params: Params, x: Pair) -> Array:
        """One exp, one sum and one quotient, and the slope times what x brings with it."""
        y, slope = _values(x.value)
        moved = np.minimum(x.error / 4, slope * np.exp(np.minimum(x.error, 50.0)) * x.error)
        largest, rest = y + moved, np.exp(-np.logaddexp(0.0, x.value)) + moved
        out: Array = np.minimum(moved, 1.0) + r.u * largest * (2 + r.elementary * rest) + _saturated(r)
        return out

    @staticmethod
    def backward_bound(r: Rounding, params: Params, x: Pair, dy: Pair) -> BackwardBound:
        """|1 - 2y| times the error of y, and the roundings of dy * y * (1 - y) (differentiated, the formula has more)."""
        y, slope = _values(x.value)
        grown = np.exp(np.minimum(x.error, 50.0))
        bend = np.minimum(slope * grown * x.error, 0.25)
        slopes = slope + bend
        if r.rule == "formula":
            relative = r.elementary * np.abs(1 - 2 * y) + 20
            rounded = r.u * slopes * relative
        else:
            in_y = r.u * np.minimum(y * grown, 1.0) * (2 + r.elementary * np.minimum((1 - y) * grown, 1.0)) + _saturated(r)
            rounded = (np.abs(1 - 2 * y) + 2 * bend) * in_y + in_y**2 + 3 * r.u * slopes
        dx = dy.error * slopes + np.abs(dy.value) * bend + dy.size * rounded + r.tiny * (1 + dy.size)
        return BackwardBound((dx,))

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
        return (3 * rng.standard_normal((batch, width)),)

    native: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "torch": lambda torch, params, x: torch.sigmoid(x),
        "jax": lambda jax, params, x: jax.nn.sigmoid(x),
    }
    hazards = (
        Hazard(
            "sigmoid-saturated",
            "exp(-x) overflows and y (1 - y) vanishes while the function stays finite, here up to |x| = 1e3",
            lambda rng, columns: _grown(rng, columns),
            reach=1e3,
        ),
    )
    worked = (
        Worked(
            inputs=(((1.0986122886681098, -1.0986122886681098, 0.0, 1.9459101490553132),),),
            dy=((1.0, 2.0, 8.0, 4.0),),
            y=((0.75, 0.25, 0.5, 0.875),),
            dx=(((0.1875, 0.375, 2.0, 0.4375),),),
            source="by hand: 1 / (1 + exp(-ln 3)) = 3/4, of -ln 3 it is 1/4, of 0 it is 1/2, of ln 7 it is 7/8; "
            "dy y (1 - y) = 3/16, 2 * 3/16, 8/4, 4 * 7/64",
        ),
    )


def _saturated(r: Rounding) -> float:
    """Return what is lost where exp(-x) overflows and y becomes 0, or where y is flushed to 0."""
    return r.tiny + 4 / r.largest


def _values(x: Array) -> tuple[Array, Array]:
    """Return the sigmoid of x and its derivative, both without cancellation."""
    log_y, log_rest = -np.logaddexp(0.0, -x), -np.logaddexp(0.0, x)
    return np.exp(log_y), np.exp(log_y + log_rest)


def _grown(rng: np.random.Generator, columns: Array) -> Array:
    """Return a copy whose columns are scaled by up to 1e3, about half of them not at all."""
    grow = np.where(rng.random(columns.shape[1]) < 0.5, 1.0, 10 ** rng.uniform(1, 3, columns.shape[1]))
    out: Array = columns * grow
    return out
