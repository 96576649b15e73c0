"""Layers and pairs of functions whose passes get mixed up come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import LayerSpec
from harness.styles import adjust, from_activation, from_functions
from reference_layers import ReLU
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class Queues(layers.Swish):
    """It goes back through the oldest forward pass that has not been gone back through."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.last: Any = None

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        self.waiting.append((self.x, self.s))
        return y

    def backward(self, dy: Any) -> Any:
        self.last = self.waiting.pop(0) if self.waiting else self.last
        self.x, self.s = self.last
        return super().backward(dy)


def test_a_queue_of_passes_is_told() -> None:
    said = find_broken(draw(Queues))
    assert set(said) == {"interleaved_passes"}
    assert "with no backward pass of its own, changes the next pass: dx0" in said["interleaved_passes"]


class Shares(ReLU):
    """Its backward takes a cache, and reads the newest all the same."""

    def backward(self, dy: Any, cache: Any = None) -> Any:
        return super().backward(dy, None)


@pytest.mark.parametrize(("kind", "broken"), [(ReLU, False), (Shares, True)])
def test_a_layer_that_takes_its_cache_back_answers_for_every_pass(kind: Any, broken: bool) -> None:
    said = str(ask("interleaved_passes", draw(kind, ReLU.formula)))
    assert ("once another forward pass has run: dx0" in said) is broken


BUFFER = np.zeros((6, 5))


def forward(x: Any) -> Any:
    s = 1 / (1 + np.exp(-x))
    return x * s, (x, s)


def forward_to_one_buffer(x: Any) -> Any:
    if x.shape != BUFFER.shape:
        return forward(x)
    y, (_, s) = forward(x)
    BUFFER[...] = s
    return y, (x, BUFFER)


def backward(dy: Any, cache: Any) -> Any:
    x, s = cache
    return dy * (s + x * s * (1 - s))


@pytest.mark.parametrize("wrap", [lambda make: make, lambda make: adjust(make, before=lambda layer: None)])
def test_functions_whose_caches_are_one_array_are_told_by_this_contract(wrap: Any) -> None:
    assert find_broken(draw(wrap(from_functions(forward, backward)))) == {}
    said = find_broken(draw(wrap(from_functions(forward_to_one_buffer, backward))))
    assert "once another forward pass has run: dx0" in said["interleaved_passes"]
    assert set(said) == {"interleaved_passes", "shared_cotangent"}  # the buffer is that of every layer


def test_an_adapter_around_a_stranger_with_one_cache_is_asked_for_the_last_pass_alone() -> None:
    assert ask("interleaved_passes", draw(LayerSpec(adjust(layers.Swish, before=lambda one: None), layers.swish, [(6, 5)]))) == ""


def test_an_activation_answers_for_every_pass() -> None:
    subject = draw(from_activation(np.tanh, lambda y: 1 - y * y, at="output"), lambda xp, params, x: xp.tanh(x))
    assert find_broken(subject) == {}
