"""Add: two arrays of one shape come in, their sum goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from reference_layers.layer import Array, BackwardBound, LayerBase, Pair, Params, Place, Rounding, Worked


class Add(LayerBase):
    """The addition node y = a + b, which hands dy on to both its inputs.

    Raises ValueError when the shapes differ: a broadcast input would need its gradient summed.

    >>> layer = Add()
    >>> layer.forward(np.array([1.0]), np.array([2.0]))
    array([3.])
    >>> layer.backward(np.array([5.0]))
    (array([5.]), array([5.]))
    """

    name = "add"
    place: ClassVar[Place] = "merge"
    differentiable = (True, True)

    def forward(self, a: Array, b: Array) -> Array:
        if a.shape != b.shape:
            raise ValueError(f"Add takes two arrays of one shape; got {list(a.shape)} and {list(b.shape)}")
        self.cache = (True,)
        y: Array = a + b
        return y

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> tuple[Array, Array]:
        self._recall(cache)
        return dy.copy(), dy.copy()

    @staticmethod
    def formula(xp: Any, params: Params, a: Any, b: Any) -> Any:
        return a + b

    @staticmethod
    def forward_bound(r: Rounding, params: Params, a: Pair, b: Pair) -> Array:
        error = a.error + b.error
        y: Array = error + r.u * (np.abs(a.value + b.value) + error) + r.tiny
        return y

    @staticmethod
    def backward_bound(r: Rounding, params: Params, a: Pair, b: Pair, dy: Pair) -> BackwardBound:
        """Exact: dy is copied."""
        return BackwardBound((dy.error, dy.error))

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
        return rng.standard_normal((batch, width)), rng.standard_normal((batch, width))

    native: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "torch": lambda torch, params, a, b: torch.add(a, b),
        "jax": lambda jax, params, a, b: jax.numpy.add(a, b),
    }
    worked = (
        Worked(
            inputs=(((1.0, 2.0),), ((3.0, -5.0),)),
            dy=((7.0, 11.0),),
            y=((4.0, -3.0),),
            dx=(((7.0, 11.0),), ((7.0, 11.0),)),
            source="by hand: 1 + 3, 2 - 5; an addition hands dy on to both",
        ),
    )
