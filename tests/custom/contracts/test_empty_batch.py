"""Layers that take no empty batch come in; that they are told, and that others are not asked, must hold."""

from __future__ import annotations

import pytest

from harness.custom.contracts.contract import NotApplicable
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


def test_a_layer_that_fails_on_no_rows_breaks_this_contract_alone() -> None:
    broken = find_broken(draw(layers.FailsOnEmpty))
    assert set(broken) == {"empty_batch"}
    assert "ValueError" in broken["empty_batch"]


def test_it_is_not_asked_of_layers_without_a_batch_nor_of_means() -> None:
    with pytest.raises(NotApplicable, match="share no first axis"):
        ask("empty_batch", draw(layers.Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (3,)]))
    with pytest.raises(NotApplicable, match="gives no number for an empty batch"):
        ask("empty_batch", draw(layers.Swish, lambda xp, params, x: xp.mean(x)))
