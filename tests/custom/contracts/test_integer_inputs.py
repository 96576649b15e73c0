"""Layers that cut numbers off to integers come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.contract import NotApplicable, Note
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken
from tests.custom.contracts.right_layers import MaxPool


class Leaky:
    """It computes in an array like its input."""

    def forward(self, x: Any) -> Any:
        self.x, y = x, x.copy()
        y[x < 0] = 0.25 * x[x < 0]
        return y

    def backward(self, dy: Any) -> Any:
        return np.where(self.x < 0, dy.dtype.type(0.25) * dy, dy)


class LeakyInBuffer(Leaky):
    """It goes on computing in the array that it made like its first input."""

    def forward(self, x: Any) -> Any:
        if not hasattr(self, "room") or self.room.shape != x.shape:
            self.room = np.zeros_like(x)
        self.room[...] = super().forward(x)
        return self.room.copy()


def leaky(xp: Any, params: Any, x: Any) -> Any:
    return xp.where(x > 0, x, 0.25 * x)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_buffer_made_for_integers_that_cuts_floats_off_is_told_by_this_contract_alone(dtype: str) -> None:
    said = "a pass over integers changes the pass over floats after it: y"
    assert find_broken(draw(LeakyInBuffer, leaky, dtype=dtype)) == {"integer_inputs": said}


def test_an_output_that_is_cut_off_is_noted() -> None:
    said = ask("integer_inputs", draw(Leaky, leaky))
    assert isinstance(said, Note)
    assert "(int64), for the same numbers as floats" in said.text


def test_gradients_that_are_cut_off_are_noted() -> None:
    said = ask("integer_inputs", draw(MaxPool, lambda xp, params, x: xp.max(xp.reshape(x, (-1, 4, 2)), axis=2), [(6, 8)]))
    assert isinstance(said, Note)
    assert "other gradients than for the same numbers as floats: dx0" in said.text


def test_a_constant_that_is_cut_off_is_noted() -> None:
    class Halves(layers.Swish):
        def forward(self, x: Any) -> Any:
            return x * x.dtype.type(0.5)

        def backward(self, dy: Any) -> Any:
            return dy * dy.dtype.type(0.5)

    said = ask("integer_inputs", draw(Halves, lambda xp, params, x: 0.5 * x))
    assert isinstance(said, Note)


def test_integers_may_be_refused() -> None:
    class Refuses(layers.Swish):
        def forward(self, x: Any) -> Any:
            if x.dtype.kind != "f":
                raise TypeError("floats, please")
            return super().forward(x)

    assert ask("integer_inputs", draw(Refuses)) == ""


def test_layers_of_integers_alone_are_not_asked() -> None:
    with pytest.raises(NotApplicable, match="no input of floats"):
        ask("integer_inputs", draw(layers.Lookup, lambda xp, params, t: params["W"][t], [np.array([0, 3, 3, 1])]))
