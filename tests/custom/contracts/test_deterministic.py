"""Layers that draw numbers of their own come in; that they are told must hold."""

from __future__ import annotations

from tests.custom import layers
from tests.custom.contracts.asking import ask, draw


def test_random_gradients_are_told() -> None:
    assert "gave different numbers: dx0" in str(ask("deterministic", draw(layers.IsRandom)))
    assert ask("deterministic", draw(layers.Swish)) == ""
