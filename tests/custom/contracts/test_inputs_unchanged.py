"""Layers that write to what is not theirs come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class ChangesOutput(layers.Swish):
    def forward(self, x: Any) -> Any:
        self.y = np.exp(x)
        return self.y

    def backward(self, dy: Any) -> Any:
        dx = dy * self.y
        self.y *= 0
        return dx


@pytest.mark.parametrize(
    ("kind", "formula", "words"),
    [
        (layers.ChangesInput, layers.swish, "forward changed input 0"),
        (layers.ChangesCotangent, layers.swish, "backward changed the cotangent dy"),
        (layers.ChangesParameter, layers.linear, "a pass changed the parameter W"),
        (ChangesOutput, lambda xp, params, x: xp.exp(x), "backward changed the output that forward had returned"),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_a_layer_changes_is_named(kind: Any, formula: Any, words: str, dtype: str) -> None:
    assert words in str(ask("inputs_unchanged", draw(kind, formula, dtype=dtype)))


def test_a_layer_that_writes_to_its_inputs_breaks_nothing_that_gives_it_arrays_of_its_own() -> None:
    assert set(find_broken(draw(layers.ChangesInput))) == {"inputs_unchanged", "layouts"}  # it raises on read-only arrays
