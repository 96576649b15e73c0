"""Layers that swallow NaN or keep it come in; that they are told, and that comparisons are noted, must hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.custom.contracts.contract import Note
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken
from tests.custom.contracts.right_layers import Rectifier, rectify


class Swallows(layers.Linear):
    def forward(self, x: Any) -> Any:
        return super().forward(np.nan_to_num(x, posinf=np.inf, neginf=-np.inf))


class SwallowsCotangent(layers.Swish):
    def backward(self, dy: Any) -> Any:
        return super().backward(np.nan_to_num(dy))


class ClearsByZero(layers.Swish):
    """Its buffer is cleared by a product with 0, which leaves NaN where it is."""

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        if getattr(self, "out", y[:0]).shape != y.shape:
            self.out = np.zeros_like(y)
        self.out *= 0
        self.out += y
        return self.out.copy()


def test_nan_that_is_swallowed_is_told_by_this_contract_alone() -> None:
    broken = find_broken(draw(Swallows, layers.linear))
    assert set(broken) == {"nonfinite_inputs"}
    assert "for an input of nan it gives y[3][0] = " in broken["nonfinite_inputs"]
    assert "where the formula gives nan, in 3 of 18 entries" in broken["nonfinite_inputs"]


def test_a_swallowed_cotangent_is_told_by_this_contract_alone() -> None:
    broken = find_broken(draw(SwallowsCotangent))
    assert broken == {"nonfinite_inputs": "for a cotangent of NaN dx0 is finite in all entries"}


def test_nan_that_stays_is_told() -> None:
    assert "a pass over an input of nan changes the pass after it: y" in str(ask("nonfinite_inputs", draw(ClearsByZero)))


def test_a_comparison_that_takes_nan_for_one_side_is_noted() -> None:
    said = ask("nonfinite_inputs", draw(Rectifier, rectify))
    assert isinstance(said, Note)
    assert said.text == "for an input of nan it gives y[3][0] = 0 where the formula gives nan, in 1 of 30 entries"


def test_what_is_raised_is_noted() -> None:
    class Refuses(layers.Swish):
        def forward(self, x: Any) -> Any:
            if not np.isfinite(x).all():
                raise ValueError("not finite")
            return super().forward(x)

    said = ask("nonfinite_inputs", draw(Refuses))
    assert isinstance(said, Note)
    assert "an input of nan raises ValueError: not finite" in said.text
