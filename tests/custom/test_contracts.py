"""Layers that break one contract each come in; that this contract, and for right layers none, is found broken must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts import CONTRACTS, NotApplicable, look
from harness.custom.spec import LayerSpec
from harness.custom.trials import Trial, draw_trial
from tests.custom import layers

BY_NAME = {contract.name: contract for contract in CONTRACTS}
BROKEN = [
    ("inputs_unchanged", layers.ChangesInput, "forward changed input 0"),
    ("inputs_unchanged", layers.ChangesCotangent, "backward changed the cotangent dy"),
    ("inputs_unchanged", layers.ChangesParameter, "a pass changed the parameter W"),
    ("deterministic", layers.IsRandom, "different numbers: dx0"),
    ("no_aliasing", layers.HandsOutItsOutput, "output that forward returned"),
    ("linear_in_cotangent", layers.IgnoresCotangent, "the cotangent 0 does not give 0: dx0"),
    ("linear_in_cotangent", layers.Clips, "twice what dy gives: dx0"),
    ("backward_twice", layers.UsesItsCacheUp, "AttributeError"),
    ("backward_twice", layers.Accumulates, "other numbers than the first: dW, db"),
    ("no_stale_state", layers.RemembersTheFirst, "before it changes the result: dx0"),
    ("layouts", layers.ReadsRawMemory, "Fortran-ordered arrays give other numbers: dx0"),
    ("empty_batch", layers.FailsOnEmpty, "ValueError"),
]


def draw(kind: Any, dtype: str = "float64") -> Trial:
    formula = layers.linear if issubclass(kind, layers.Linear) else layers.swish
    return draw_trial(LayerSpec(kind, formula, [(6, 5)]), dtype, seed=3, index=0)


@pytest.mark.parametrize(("name", "kind", "words"), BROKEN, ids=[f"{name}-{kind.__name__}" for name, kind, _ in BROKEN])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_fault_breaks_its_contract(name: str, kind: Any, words: str, dtype: str) -> None:
    assert words in look(BY_NAME[name], draw(kind, dtype))


def test_every_contract_has_a_layer_that_breaks_it() -> None:
    assert {name for name, _, _ in BROKEN} == set(BY_NAME)


@pytest.mark.parametrize("name", list(BY_NAME))
@pytest.mark.parametrize("kind", [layers.Swish, layers.Linear])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_layers_keep_every_contract(name: str, kind: Any, dtype: str) -> None:
    assert look(BY_NAME[name], draw(kind, dtype)) == ""


def test_what_is_raised_is_told_with_its_place() -> None:
    class Raises(layers.Swish):
        def backward(self, dy: Any) -> Any:
            raise KeyError("gone")

    said = look(BY_NAME["deterministic"], draw(Raises))
    assert "KeyError: 'gone'" in said
    assert "test_contracts.py, in backward" in said


def test_an_empty_batch_is_not_asked_of_layers_without_a_batch() -> None:
    spec = LayerSpec(layers.Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (3,)])
    with pytest.raises(NotApplicable, match="share no first axis"):
        look(BY_NAME["empty_batch"], draw_trial(spec, "float64", 0, 0))


def test_linearity_is_not_asked_where_gradients_are_infinite() -> None:
    spec = LayerSpec(layers.Swish, layers.swish, [np.full((2, 2), np.inf)])
    with pytest.raises(NotApplicable, match="not finite"):
        look(BY_NAME["linear_in_cotangent"], draw_trial(spec, "float64", 0, 0))
