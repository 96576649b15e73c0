"""Layers that go on using what they handed out come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


def test_an_output_that_is_used_again_is_told() -> None:
    subject = draw(layers.HandsOutItsOutput, lambda xp, params, x: xp.exp(x))
    assert set(find_broken(subject)) == {"no_aliasing"}
    assert "writes to the output that forward returned changes what backward gives: dx0" in str(ask("no_aliasing", subject))


def test_a_gradient_that_is_used_again_is_told() -> None:
    class AddsToOneBuffer(layers.Swish):
        """Its buffer is cleared where it was read, not where the caller wrote."""

        def backward(self, dy: Any) -> Any:
            first = not hasattr(self, "out")
            if first:
                self.out, self.before = np.zeros_like(dy), np.zeros_like(dy)
            self.out -= self.before
            self.before = super().backward(dy)
            self.out += self.before
            return self.out

    said = str(ask("no_aliasing", draw(AddsToOneBuffer)))
    assert "writes to the gradient that backward returned changes the pass after it: dx0" in said
