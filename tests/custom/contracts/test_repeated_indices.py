"""Lookups that count an index once come in; that they are told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.contract import NotApplicable
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class Assigns(layers.Lookup):
    def backward(self, dy: Any) -> None:
        self.grads = {"W": np.zeros_like(self.params["W"])}
        self.grads["W"][self.t] += dy


def look_up(xp: Any, params: Any, t: Any) -> Any:
    return params["W"][t]


def test_an_assignment_instead_of_a_sum_is_told_where_indices_had_been_distinct() -> None:
    broken = find_broken(draw(Assigns, look_up, [np.array([0, 3, 2, 1])]))
    assert broken["repeated_indices"] == "where indices come more than once it is far from the formula: dW"
    assert find_broken(draw(layers.Lookup, look_up, [np.array([0, 3, 2, 1])])) == {}


def test_layers_without_integers_are_not_asked() -> None:
    with pytest.raises(NotApplicable, match="no input holds several integers"):
        ask("repeated_indices", draw(layers.Swish))
