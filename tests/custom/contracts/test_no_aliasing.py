"""Layers that go on using what they handed out come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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


class OneBuffer(layers.Swish):
    """Computes into the array that it returned before; `at` says which pass does."""

    at = "backward"
    buffer = None

    def forward(self, x: Any) -> Any:
        return self.keep("forward", super().forward(x))

    def backward(self, dy: Any) -> Any:
        return self.keep("backward", super().backward(dy))

    def keep(self, name: str, value: Any) -> Any:
        if name != self.at:
            return value
        if self.buffer is None or self.buffer.shape != value.shape:
            self.buffer = np.empty_like(value)
        self.buffer[...] = value
        return self.buffer


class OneBufferForward(OneBuffer):
    at = "forward"


@pytest.mark.parametrize(
    ("kind", "words"),
    [(OneBuffer, "dx0, which backward returned"), (OneBufferForward, "the output that forward returned")],
)
def test_what_a_later_pass_writes_to_is_told(kind: Any, words: str) -> None:
    subject = draw(kind)
    assert set(find_broken(subject)) == {"no_aliasing"}
    assert f"a later pass writes to {words}; return a copy" in str(ask("no_aliasing", subject))


def test_what_takes_no_other_numbers_is_not_told() -> None:
    class OfRising(layers.Swish):
        def forward(self, x: Any) -> Any:
            if (np.diff(x[:, 0]) < 0).any():
                raise ValueError("the first column must rise")
            return super().forward(x)

    rising = draw(OfRising, None, lambda rng: [np.cumsum(rng.uniform(0.1, 1, (5, 4)), axis=0)])
    assert ask("no_aliasing", rising) == ""
