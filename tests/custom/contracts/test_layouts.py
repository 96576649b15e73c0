"""Layers that depend on how arrays lie in memory come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class ReadsStrides(layers.Swish):
    """It takes an array without steps for one of zeros."""

    def backward(self, dy: Any) -> Any:
        return super().backward(dy) if any(np.asarray(dy).strides) else np.zeros_like(self.x)


class ReadsStridesOfInputs(layers.Swish):
    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        return y if 0 not in np.asarray(x).strides else y * 2


class SetsShape(layers.Swish):
    def forward(self, x: Any) -> Any:
        flat = x.view()
        flat.shape = (-1,)
        return super().forward(flat).reshape(x.shape)

    def backward(self, dy: Any) -> Any:
        return super().backward(dy.ravel()).reshape(dy.shape)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (layers.ReadsRawMemory, "Fortran-ordered arrays: it gives other numbers: dx0"),
        (layers.ChangesCotangent, "read-only arrays: it raises ValueError"),
        (ReadsStrides, "a broadcast cotangent: it gives other numbers: dx0"),
        (ReadsStridesOfInputs, "broadcast inputs: it gives other numbers: y"),
        (SetsShape, "strided arrays: it raises AttributeError"),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_layout_is_named(kind: Any, words: str, dtype: str) -> None:
    assert words in str(ask("layouts", draw(kind, dtype=dtype)))


@pytest.mark.parametrize("kind", [layers.ReadsRawMemory, ReadsStrides, SetsShape])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # NumPy's own, of setting a shape, which is the fault
def test_nothing_else_is_broken(kind: Any) -> None:
    assert set(find_broken(draw(kind))) == {"layouts"}
