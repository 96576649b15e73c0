"""Multiply: two arrays of one shape come in, their elementwise product goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from reference_layers.layer import Array, BackwardBound, LayerBase, Pair, Params, Place, Rounding, Worked


class Multiply(LayerBase):
    """The multiplication node y = a b, which hands dy on times the other input: da = dy b, db = dy a.

    Raises ValueError when the shapes differ: a broadcast input would need its gradient summed.

    >>> layer = Multiply()
    >>> layer.forward(np.array([2.0]), np.array([3.0]))
    array([6.])
    >>> layer.backward(np.array([10.0]))
    (array([30.]), array([20.]))
    """

    name = "multiply"
    place: ClassVar[Place] = "merge"
    differentiable = (True, True)

    def forward(self, a: Array, b: Array) -> Array:
        if a.shape != b.shape:
            raise ValueError(f"Multiply takes two arrays of one shape; got {list(a.shape)} and {list(b.shape)}")
        self.cache = (a, b)
        y: Array = a * b
        return y

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> tuple[Array, Array]:
        a, b = self._recall(cache)
        return dy * b, dy * a

    @staticmethod
    def formula(xp: Any, params: Params, a: Any, b: Any) -> Any:
        return a * b

    @staticmethod
    def forward_bound(r: Rounding, params: Params, a: Pair, b: Pair) -> Array:
        return _product_bound(r, a, b)

    @staticmethod
    def backward_bound(r: Rounding, params: Params, a: Pair, b: Pair, dy: Pair) -> BackwardBound:
        return BackwardBound((_product_bound(r, dy, b), _product_bound(r, dy, a)))

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
        return rng.standard_normal((batch, width)), rng.standard_normal((batch, width))

    native: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "torch": lambda torch, params, a, b: torch.mul(a, b),
        "jax": lambda jax, params, a, b: jax.numpy.multiply(a, b),
    }
    worked = (
        Worked(
            inputs=(((2.0, -3.0),), ((5.0, 7.0),)),
            dy=((1.0, 2.0),),
            y=((10.0, -21.0),),
            dx=(((5.0, 14.0),), ((2.0, -6.0),)),
            source="by hand: 2*5, -3*7; da = dy b = (1*5, 2*7), db = dy a = (1*2, 2*-3)",
        ),
    )


def _product_bound(r: Rounding, a: Pair, b: Pair) -> Array:
    """|a| E_b + |b| E_a + E_a E_b, one rounding, and what flushing to zero may take."""
    carried: Array = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    out: Array = carried + r.u * (np.abs(a.value * b.value) + carried) + r.tiny * (1 + a.size + b.size)
    return out
