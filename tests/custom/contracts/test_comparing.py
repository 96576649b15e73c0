"""Passes come in; that rounding is told from another number must hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.custom.contracts.comparing import are_close, list_apart, list_parted
from harness.custom.contracts.subject import Pass
from tests.custom import layers
from tests.custom.contracts.asking import draw


def test_any_bit_parts_passes_and_minus_0_is_0() -> None:
    one = Pass(np.zeros(2), (np.ones(2), None), {"W": np.ones(3)})
    assert list_parted(one, Pass(-np.zeros(2), (np.ones(2), None), {"W": np.ones(3)})) == ""
    assert list_parted(one, Pass(np.zeros(2), (np.ones(2), None), {"W": np.ones(3) + 1e-15})) == "dW"
    assert list_parted(one, Pass(np.zeros(2), (np.ones(2, np.float32), np.ones(1)), {})) == "dx0, dx1, dW"


def test_close_is_a_thousandth_of_the_largest_entry_and_noise() -> None:
    value = np.array([1.0, 1000.0])
    assert are_close(value + 0.9, value)
    assert not are_close(value + 1.1, value)
    assert are_close(value + 1.1, value, noise=0.1)
    assert not are_close(value[:1], value)
    assert not are_close(np.array([np.nan, 1000]), value)
    assert are_close(np.array([np.nan, 1]), np.array([np.nan, 1]))


def test_what_cancels_is_excused_by_what_a_few_units_of_rounding_make_of_it() -> None:
    class Wild(layers.Swish):
        def forward(self, x: Any) -> Any:
            super().forward(x)
            return np.sin(1e14 * x)

    subject, other = draw(Wild), draw(layers.Swish)
    off = Pass(subject.alone.y + 0.1, subject.alone.dx, subject.alone.grads)
    assert list_apart(subject, subject.alone, off, subject.inputs, subject.dy) == ""
    off = Pass(other.alone.y + 0.1, other.alone.dx, other.alone.grads)
    assert list_apart(other, other.alone, off, other.inputs, other.dy) == "y"
