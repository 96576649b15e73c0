"""Layers with worked values come in, right and wrong ones; whether formula and passes meet them is told, and how far off."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core import DTYPES
from harness.discovery import find_layers
from harness.judge.worked import judge_formula, judge_worked, lose_worked, meets_worked
from reference_layers import Affine, ReLU, Sigmoid

LAYERS = find_layers()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LAYERS.values(), ids=lambda kind: kind.name)
def test_every_layer_meets_its_own_in_every_dtype(kind, dtype):
    rows = judge_worked({kind.name: kind}, (dtype,))
    assert [row for row in rows if row.fails] == []
    assert {row.variant for row in rows} == {"layer", "formula"}
    assert {row.quantity for row in rows} >= {"y"}
    assert any(row.quantity.startswith("d") for row in rows)
    assert all(row.n_compared for row in rows)
    assert not any(row.decides for row in rows)
    assert all(row.error_in_bounds <= 1 for row in rows)


@pytest.mark.parametrize("kind", LAYERS.values(), ids=lambda kind: kind.name)
def test_what_was_worked_out_is_worth_something(kind):
    """Each example covers every gradient, and none of it is 0 throughout, which a layer that gives nothing would meet."""
    for worked in kind.worked:
        assert len(worked.inputs) == len(worked.dx) == len(kind.differentiable)
        assert [value is not None for value in worked.dx] == list(kind.differentiable)
        for value in (worked.y, *(value for value in worked.dx if value is not None), *worked.dparams.values()):
            assert np.any(np.asarray(value, float))
        assert worked.dparams.keys() == worked.params.keys()
        assert worked.source


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_error_of_a_hundred_roundings_is_far_off(dtype):
    class Off(Sigmoid):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            return dx * dx.dtype.type(1 + 100 * np.finfo(dtype).eps)

    failing = [row for row in judge_worked({"sigmoid": Off}, (dtype,)) if row.fails]
    assert {(row.variant, row.quantity, row.verdict) for row in failing} == {("layer", "dx", "mismatch")}
    assert {row.culprit for row in failing} == {"your layer"}
    assert failing[0].message.startswith("sigmoid.dx: the hand-written layer gives dx[0]")
    assert "by hand" in failing[0].message


def test_a_formula_that_is_off_is_not_the_layers_fault():
    class Off(ReLU):
        @staticmethod
        def formula(xp, params, x, decisions=None):
            return ReLU.formula(xp, params, x, decisions) * (1 + 2.0**-40)

    rows = judge_worked({"relu": Off}, ("float64",))
    assert {(row.variant, row.culprit) for row in rows if row.fails} == {("formula", "formula")}
    assert {row.quantity for row in judge_formula(Off, Off.worked[0], "bfloat16") if row.fails} == {"y", "dx"}
    assert meets_worked(Off) is False


def test_what_a_layer_raises_is_a_row():
    class Raises(Affine):
        def backward(self, dy, cache=None):
            raise ValueError("no such shape")

    (row,) = [row for row in judge_worked({"affine": Raises}, ("float32",)) if row.fails]
    assert (row.verdict, row.culprit, row.quantity) == ("error", "your layer", "all")
    assert "ValueError: no such shape" in row.message


def test_a_gradient_that_does_not_come_back_is_missing():
    class Forgets(Affine):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            self.grads = {"W": self.grads["W"]}
            return dx

    failing = [row for row in judge_worked({"affine": Forgets}, ("float64",)) if row.fails]
    assert {(row.quantity, row.verdict) for row in failing} == {("db", "missing")}


def test_a_layer_without_any_has_nothing_to_meet():
    bare = type("Bare", (Sigmoid,), {"worked": ()})
    assert judge_worked({"sigmoid": bare}) == []
    assert meets_worked(bare) is None


def test_a_layer_that_never_came_back_fails():
    row = lose_worked("sigmoid", "float64", "timeout", "no answer within 3 s")
    assert row.fails
    assert (row.layer, row.verdict, row.culprit) == ("sigmoid", "timeout", "your layer")
