"""Formulas come in; that their word is taken where they have one, and nothing asked where they have none, must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.contract import NotApplicable
from harness.custom.contracts.truth import compare_with_formula, differentiate, evaluate, list_suspects
from harness.isolation import quiet
from tests.custom import layers
from tests.custom.contracts.asking import draw, find_broken


def test_gradients_are_the_formulas_or_those_that_are_declared() -> None:
    subject = draw(layers.Linear, layers.linear, dtype="float32")
    found = differentiate(subject, subject.inputs, subject.dy)
    np.testing.assert_allclose(found.dx[0], subject.alone.dx[0], rtol=1e-5)
    np.testing.assert_allclose(found.grads["W"], subject.alone.grads["W"], rtol=1e-5)


class Step:
    def forward(self, x: Any) -> Any:
        return np.where(x > 0, np.ones_like(x), np.zeros_like(x))

    def backward(self, dy: Any) -> Any:
        return dy * 1


def test_a_declared_gradient_keeps_the_contracts() -> None:
    subject = draw(
        Step, lambda xp, params, x: xp.where(x > 0, xp.ones_like(x), xp.zeros_like(x)), gradient=lambda xp, params, x: x
    )
    assert find_broken(subject) == {}
    assert np.array_equal(differentiate(subject, subject.inputs, subject.dy).dx[0], subject.dy)


def test_where_a_formula_fails_or_is_not_finite_nothing_is_asked() -> None:
    subject = draw(layers.Linear, layers.linear)
    for call in (evaluate, compare_with_formula):
        with pytest.raises(NotApplicable, match="takes no such inputs"):
            call(subject, (np.ones((2, 3)),))
    with quiet(), pytest.raises(NotApplicable, match="no finite numbers"):
        compare_with_formula(draw(layers.Swish, lambda xp, params, x: xp.log(x)), (np.zeros((2, 3)),))


class Halves(layers.Linear):
    """Wrong from two rows on in dx, and always in db."""

    def backward(self, dy: Any) -> Any:
        dx = super().backward(dy)
        self.grads["b"] = self.grads["b"] * 1.001
        return dx / 2 if len(dy) == 2 else dx


def test_what_is_wrong_everywhere_is_not_told_again_at_another_size() -> None:
    subject = draw(Halves, layers.linear)
    assert list_suspects(subject) == {"db"}
    assert compare_with_formula(subject, (np.ones((2, 5)),)) == "dx0"
    assert compare_with_formula(subject, (np.ones((3, 5)),)) == ""
    assert find_broken(subject) == {"small_batches": "a batch of 2: far from the formula: dx0"}


def test_a_layer_that_is_wrong_in_all_is_not_asked() -> None:
    with pytest.raises(NotApplicable, match="see forward and gradients"):
        compare_with_formula(draw(layers.Swish, lambda xp, params, x: xp.tanh(2 * x)), (np.ones((2, 3)),))
