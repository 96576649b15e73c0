"""Layers that remember earlier passes come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class KeepsItsBuffer(layers.Linear):
    """It makes room for the first batch, and for no larger one."""

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        self.rows = getattr(self, "rows", len(x))
        return y

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        out = np.zeros_like(dx)
        out[: self.rows] = dx[: self.rows]
        return out


def test_numbers_of_another_batch_are_told() -> None:
    said = str(ask("no_stale_state", draw(layers.RemembersTheFirst)))
    assert "a pass over other numbers before it changes the result: y" in said or "before it changes the result: dx0" in said


def test_a_size_of_another_batch_is_told_by_this_contract_alone() -> None:
    subject = draw(KeepsItsBuffer, layers.linear)
    assert find_broken(subject) == {"no_stale_state": "a pass over fewer rows before it changes the result: dx0"}
