"""Layers whose second backward pass fails come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


def test_a_cache_that_is_used_up_is_told() -> None:
    assert "AttributeError" in str(ask("backward_twice", draw(layers.UsesItsCacheUp)))


def test_a_cache_that_is_changed_breaks_this_alone_and_what_goes_back_twice() -> None:
    class ChangesCache(layers.Swish):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.s = self.s * dy
            return dx

    assert set(find_broken(draw(ChangesCache))) == {"backward_twice"}


def test_gradients_that_add_up_are_told() -> None:
    said = str(ask("backward_twice", draw(layers.Accumulates, layers.linear)))
    assert "other numbers than the first: dW, db" in said
