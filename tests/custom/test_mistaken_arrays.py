"""Gradients made of the wrong arrays come in; that the mistake is found and told must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness.custom.expressions import Node, apply, number
from harness.custom.mistaken_arrays import cast, mistake_matrices, mistake_rows, mistake_variables
from tests.custom import formulas as f


def slope(dy, x, y):
    return dy * (number(1) - y * y) * 2


def back(dy, x, y, W):
    return Node("@", (dy, apply("T", W)))


def bend_by(change):
    return f.write_form(f.bend, slope, lambda scene: change(scene.dy, scene.inputs[0], scene.y))


def project_by(change):
    return f.write_form(f.project, back, lambda scene: change(scene.dy, scene.params["W"]), {"W": f.SQUARES["W"]})


CASES = [
    (bend_by(lambda dy, x, y: 2 * dy * (1 - x * x)), mistake_variables, "at-input", "x stands for y throughout y * y"),
    (bend_by(lambda dy, x, y: 2 * dy * (1 - x * y)), mistake_variables, "at-input", "x stands for y in y * y"),
    (bend_by(lambda dy, x, y: 2 * y * (1 - y * y)), mistake_variables, "at-output", "y stands for dy"),
    (bend_by(lambda dy, x, y: 2 * dy * (1 - (y * y)[:1])), mistake_rows, "order", "the first row of y stands for all"),
    (project_by(lambda dy, W: dy @ W), mistake_matrices, "transposed", "W.T is transposed"),
    (project_by(lambda dy, W: dy), mistake_matrices, "missing-factor", "the factor W.T is missing"),
    (project_by(lambda dy, W: -dy @ W.T), mistake_matrices, "sign", "W.T is multiplied by -1"),
    (project_by(lambda dy, W: 0.3 * dy @ W.T), mistake_matrices, "factor", "W.T is multiplied by 0.3"),
]


@pytest.mark.parametrize(("form", "family", "cause", "words"), CASES, ids=[case[-1] for case in CASES])
def test_another_array_is_found_and_told(form, family, cause, words):
    found = f.find_fitting(family(form), form)
    assert any(fault.cause == cause and words in fault.words for fault in found), [fault.words for fault in found]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_held_in_a_narrower_dtype_is_told(dtype):
    form = bend_by(lambda dy, x, y: 2 * dy * (1 - (y * y).astype(dtype).astype(y.dtype)))
    found = [fault for fault in cast(form) if np.allclose(fault.gradient, form.scene.got, rtol=1e-14, atol=0)]
    assert {fault.cause for fault in found} == {"cast"}
    assert any(f"y * y is cast to {dtype}" in fault.words for fault in found)


def test_where_nothing_is_mistaken_no_changed_array_gives_the_gradient():
    form = bend_by(lambda dy, x, y: 2 * dy * (1 - y * y))
    assert form.is_true
    assert not f.find_fitting([*mistake_variables(form), *mistake_rows(form)], form)
