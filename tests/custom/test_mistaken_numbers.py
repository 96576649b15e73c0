"""Gradients with a wrong number, weight or scale in them come in; that it is found and told must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness.custom.expressions import apply, number
from harness.custom.mistaken_numbers import mistake_numbers, mistake_scales, mistake_weights, search
from tests.custom import formulas as f


def slope(dy, x, y):
    return dy * (number(1) - y * y) * 2


def bend_by(change):
    return f.write_form(f.bend, slope, lambda scene: change(scene.dy, scene.y))


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        (lambda dy, y: 7 * dy * (1 - y * y), "factor", "7 instead of 2"),
        (lambda dy, y: -2 * dy * (1 - y * y), "sign", "-2 instead of 2"),
        (lambda dy, y: 2 * dy * (1.5 - y * y), "constant", "1.5 instead of 1"),
        (lambda dy, y: 12 * dy * (1 - y * y), "size-factor", "6"),
    ],
)
def test_another_number_is_found_and_told(change, cause, words):
    form = bend_by(change)
    found = f.find_fitting(mistake_numbers(form), form)
    assert (found[0].cause, words in found[0].words) == (cause, True), found[0].words


def test_the_number_is_searched_where_the_form_does_not_depend_on_it_in_a_line():
    form = f.write_form(
        f.wave, lambda dy, x, y: dy * apply("cos", x * number(1.0)), lambda scene: scene.dy * np.cos(1.25 * scene.inputs[0])
    )
    found = search(form, [(form.root, 1)], 1.0, lambda value, old: np.cos(value * form.scene.inputs[0]))
    assert found == pytest.approx(1.25, rel=1e-9)


def test_where_the_number_is_right_none_is_found():
    form = bend_by(lambda dy, y: 2 * dy * (1 - y * y))
    assert search(form, [(form.root, 1)], 2.0) is None


def test_another_weight_of_a_term_is_told():
    form = bend_by(lambda dy, y: 2 * dy * (1 - 0.4 * y * y))
    (found,) = f.find_fitting(mistake_weights(form), form)
    assert found.cause == "factor"
    assert "the term y * y is 0.4 times what it should be" in found.words


@pytest.mark.parametrize(("scale", "cause"), [(1.5, "constant"), (0.4, "factor"), (-1.0, "sign")])
def test_another_scale_of_an_argument_is_told(scale, cause):
    form = f.write_form(f.bump, lambda dy, x, y: dy * apply("exp", x), lambda scene: scene.dy * np.exp(scale * scene.inputs[0]))
    (found,) = f.find_fitting(mistake_scales(form), form)
    assert (found.cause, f"multiplied by {scale:g}" in found.words) == (cause, True), found.words
