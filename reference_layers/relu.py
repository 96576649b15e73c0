"""ReLU: an array of any shape comes in, the same array with its negative entries set to 0 goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from reference_layers.layer import Array, BackwardBound, Hazard, LayerBase, Pair, Params, Place, Rounding, Worked


class ReLU(LayerBase):
    """The rectifier y = max(x, 0): the gate is open where x > 0 and closed elsewhere.

    dx is dy where the gate is open and 0 where it is closed. At x = 0 every number from 0 to 1 is a
    subgradient; this layer takes 0, as torch.relu and jax.nn.relu do.

    >>> layer = ReLU()
    >>> layer.forward(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    >>> layer.backward(np.array([5.0, 5.0, 5.0]))
    array([0., 0., 5.])
    """

    name = "relu"
    place: ClassVar[Place] = "map"

    def forward(self, x: Array) -> Array:
        self.cache = (x > 0,)
        y: Array = np.maximum(x, 0)
        return y

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Array:
        (is_open,) = self._recall(cache)
        return _gated(dy, is_open)

    @staticmethod
    def decisions(xp: Any, params: Params, x: Any) -> Any:
        """Return which gates are open: the branch taken at each entry."""
        return x > 0

    @staticmethod
    def undecided(params: Params, x: Pair) -> Array:
        """Return where rounding alone may open or close the gate: where 0 is within the error of x."""
        out: Array = np.abs(x.value) <= x.error
        return out

    @staticmethod
    def formula(xp: Any, params: Params, x: Any, decisions: Any = None) -> Any:
        return xp.where(x > 0 if decisions is None else decisions, x, xp.zeros_like(x))

    @staticmethod
    def forward_bound(r: Rounding, params: Params, x: Pair, decisions: Array) -> Array:
        """Bit exact: an open gate hands on the error it received."""
        out: Array = x.error if x.is_exact else np.where(decisions, x.error, 0.0)
        return out

    @staticmethod
    def backward_bound(r: Rounding, params: Params, x: Pair, dy: Pair, decisions: Array) -> BackwardBound:
        """Bit exact: an open gate hands on the error it received."""
        return BackwardBound((dy.error if dy.is_exact else np.where(decisions, dy.error, 0.0),))

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
        return (rng.standard_normal((batch, width)),)

    native: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "torch": lambda torch, params, x: torch.nn.functional.relu(x),
        "jax": lambda jax, params, x: jax.nn.relu(x),
    }
    hazards = (
        Hazard(
            "relu-zeros",
            "at an exact zero x > 0, x >= 0 and sign(x) part, and random numbers never hit it",
            lambda rng, columns: _with_zeros(rng, columns),
        ),
    )
    worked = (
        Worked(
            inputs=(((-2.0, 0.0, 3.0, 100.0),),),
            dy=((5.0, 7.0, 11.0, 13.0),),
            y=((0.0, 0.0, 3.0, 100.0),),
            dx=(((0.0, 0.0, 11.0, 13.0),),),
            source="by hand: max(x, 0); the gate is open where x > 0, and closed at 0 by the convention of this layer",
        ),
    )


def _gated(dy: Array, is_open: Array) -> Array:
    """Return dy where the gate is open and 0 elsewhere: the bits of dy and all ones, or and none.

    np.where does the same with a branch an entry, ten times slower on gates at random, and a product
    with the gate would turn an infinite dy behind a closed gate into NaN.
    """
    if dy.dtype not in (np.float32, np.float64):
        return np.where(is_open, dy, 0)
    bits = dy.view(f"i{dy.itemsize}") & -is_open.view(np.int8)
    out: Array = bits.view(dy.dtype)
    return out


def _with_zeros(rng: np.random.Generator, columns: Array) -> Array:
    """Return a copy in which about a third of the columns are exactly 0, positive or negative; the first survives."""
    planted = columns.copy()
    chosen = np.less(rng.random(columns.shape[1]), 1 / 3)
    chosen[:1] = columns.shape[1] == 1
    chosen[1:2] = True
    planted[:, chosen] = np.where(rng.random(int(chosen.sum())) < 0.5, 0.0, -0.0)
    return planted
