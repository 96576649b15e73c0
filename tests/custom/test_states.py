"""Layers that keep, change or throw dice come in; that the contract names the cause, and no formula, must hold."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from harness import check_layer
from harness.custom.faults import CAUSES
from tests.custom.layers import (
    Accumulates,
    ChangesInput,
    Clips,
    FailsOnEmpty,
    HandsOutItsOutput,
    IsRandom,
    Linear,
    RemembersTheFirst,
    Swish,
    UsesItsCacheUp,
    linear,
    swish,
)


class SquaresItsCache(Swish):
    def backward(self, dy):
        dx = super().backward(dy)
        self.s *= self.s
        return dx


class WrongAndHandedOut(HandsOutItsOutput):
    def backward(self, dy):
        return -super().backward(dy)


class TakesRoots(Swish):
    def backward(self, dy):
        return super().backward(np.sign(dy) * np.abs(dy) ** 0.7)


class Rounds(Linear):
    """Wrong by a ripple that no fault explains, and rounded besides."""

    def backward(self, dy):
        dx = super().backward(dy)
        ripple = 1 + 0.3 * np.sin(7 * np.arange(dx.size)).reshape(dx.shape)
        return (ripple * dx).astype(ml_dtypes.bfloat16).astype(dx.dtype)


CASES = [
    (Accumulates, linear, "no_stale_state", "accumulated"),
    (RemembersTheFirst, swish, "no_stale_state", "stale-cache"),
    (ChangesInput, swish, "inputs_unchanged", "aliasing/mutation"),
    (IsRandom, swish, "deterministic", "nondeterministic"),
    (HandsOutItsOutput, lambda xp, params, x: xp.exp(x), "no_aliasing", "aliasing/mutation"),
    (SquaresItsCache, swish, "backward_twice", "aliasing/mutation"),
    (UsesItsCacheUp, swish, "backward_twice", "raises"),
    (FailsOnEmpty, swish, "empty_batch", "raises"),
    (Clips, swish, "linear_in_cotangent", "clipped"),
    (Rounds, linear, "linear_in_cotangent", "cast"),
]


class Decays(Swish):
    def backward(self, dy):
        return super().backward(dy) + 0.01 * np.cos(self.x)


@pytest.mark.parametrize(("kind", "words"), [(TakesRoots, "the gradient is not linear"), (Decays, "does not depend on dy")])
def test_where_it_is_not_linear_for_no_known_reason_no_cause_is_named(kind, words):
    report = check(kind, swish)
    told = {result.check: result.diagnosis for result in report.failures}
    assert words in told["linear_in_cotangent"]
    assert told["gradients"] == "see linear_in_cotangent"
    assert not any(result.causes for result in report.failures)


def check(kind, formula):
    return check_layer(kind, formula, inputs=[(8, 5)], against=[], dtypes=["float64"], on_fail="report")


@pytest.mark.parametrize(("kind", "formula", "contract", "cause"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_broken_contract_names_the_cause(kind, formula, contract, cause):
    report = check(kind, formula)
    assert {named for result in report.failures for named in result.causes} == {cause}
    assert contract in {result.check for result in report.failures if result.causes}
    assert cause in CAUSES


def test_a_wrong_gradient_keeps_its_own_cause_beside_an_array_handed_out():
    report = check(WrongAndHandedOut, lambda xp, params, x: xp.exp(x))
    assert {"gradients", "no_aliasing"} <= {result.check for result in report.failures}
    assert {named for result in report.failures for named in result.causes} == {"sign"}


def test_what_a_contract_explains_is_not_sought_in_the_formula():
    report = check(RemembersTheFirst, swish)
    told = {result.check: result.diagnosis for result in report.failures}
    assert told["no_stale_state"] == "what was kept of the pass before is used again"
    assert told.get("gradients", "see no_stale_state") == "see no_stale_state"


def test_right_layers_have_no_cause():
    for kind, formula in ((Swish, swish), (Linear, linear)):
        assert not any(result.causes for result in check(kind, formula).results)
