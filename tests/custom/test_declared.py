"""Layers whose backward pass is on purpose no derivative of the forward pass come in; what they are judged against goes out."""

from __future__ import annotations

import numpy as np
import pytest

from harness import LayerSpec, check_layer
from harness.core import BadInput


class Step:
    """1 above 0, else 0, with a straight-through gradient."""

    factor = 1.0

    def forward(self, x):
        return np.where(x > 0, np.ones_like(x), np.zeros_like(x))

    def backward(self, dy):
        return dy * x_type(dy, self.factor)


class HalfStep(Step):
    factor = 0.5


class Reversed:
    """x, with a gradient of the other sign."""

    def forward(self, x):
        return x.copy()

    def backward(self, dy):
        return -dy


def x_type(dy, value):
    return dy.dtype.type(value)


def step(xp, params, x):
    return xp.where(x > 0, xp.ones_like(x), xp.zeros_like(x))


def through(xp, params, x):
    return x


def turned(xp, params, x):
    return -x


@pytest.mark.parametrize(("kind", "formula", "gradient"), [(Step, step, through), (Reversed, through, turned)])
def test_a_declared_gradient_is_right_and_the_forward_pass_is_judged_by_its_own_formula(kind, formula, gradient):
    report = check_layer(kind, formula, inputs=[(6, 4)], gradient=gradient)
    assert report.passed
    assert {row.quantity for row in report.comparisons if row.backend == "numpy"} >= {"y", "dx"}


def test_an_undeclared_one_is_wrong():
    report = check_layer(Reversed, through, inputs=[(6, 4)], against=[], on_fail="report")
    assert [one.diagnosis for one in report.failures] == ["dx: its sign is wrong"] * 2


def test_a_fault_in_a_declared_gradient_is_found_and_named():
    report = check_layer(HalfStep, step, inputs=[(6, 4)], gradient=through, against=[], on_fail="report")
    assert {one.check for one in report.failures} == {"gradients"}
    assert "dx: it is half the truth" in report.describe()


def test_a_fault_in_the_forward_pass_is_found_beside_a_declared_gradient():
    report = check_layer(Step, through, inputs=[(6, 4)], gradient=through, against=[], on_fail="report")
    assert {one.check for one in report.failures} == {"forward"}


def test_a_declared_gradient_is_a_function():
    with pytest.raises(BadInput, match=r"gradient: 3; accepted is a function"):
        LayerSpec(Step, step, [(6, 4)], gradient=3)
