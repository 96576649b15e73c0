"""Gradients written out come in; what they give with a place changed, and how a mistake in them is told, goes out."""

from __future__ import annotations

import numpy as np

from harness.custom.expressions import label, number
from harness.custom.forms import FACTORS_FIRST, Form, always
from tests.custom import formulas as f


def slope(dy, x, y):
    return dy * (number(1) - y * y) * 2


def test_the_gradient_written_out_is_true_and_another_is_not():
    assert f.write_form(f.bend, slope).is_true
    assert not f.write_form(f.bend, lambda dy, x, y: dy * (number(1) - y)).is_true


def test_what_gives_no_numbers_is_not_true():
    assert not f.write_form(f.bend, lambda dy, x, y: dy / (y - y)).is_true


def test_a_place_is_changed_and_what_does_not_fit_is_nan():
    form = f.write_form(f.bend, slope)
    assert np.array_equal(form.run((form.root, 1), change=always(3.0)), 1.5 * form.run())
    assert np.isnan(form.run((form.root, 1), change=always(np.ones(7)))).all()


def test_what_is_scaled_is_scaled_whatever_is_changed():
    form = f.write_form(f.bend, slope)
    scaled = Form("scaled", form.scene, form.expression, scale=10.0)
    assert np.allclose(scaled.run((form.root, 1), change=np.copy), 10 * form.run(), rtol=1e-15)


def test_a_factor_that_only_gave_the_signs_is_a_sign():
    form = f.write_form(f.bend, lambda dy, x, y: dy * (number(1) - y * y) * -2, lambda scene: scene.truth)
    minus = form.tell("missing-factor", "it is gone", (form.root, 1), always(2.0))
    less = form.tell("missing-factor", "it is gone", (form.root, 1), always(1.0))
    assert (minus.cause, less.cause) == ("sign", "missing-factor")


def test_the_words_hold_the_derivative_and_what_its_names_stand_for():
    form = f.write_form(f.bend, lambda dy, x, y: dy * label(number(1) - y * y, "s") * 2)
    told = form.tell("sign", "2 has the wrong sign", (form.root, 1), np.negative)
    assert told.words == "2 has the wrong sign, in the derivative dy * s * 2 with s = 1 - y * y"
    assert "in 2 places of the derivative" in form.tell_all("sign", "it", [form.root, (form.root, 1)], np.negative).words


def test_mistakes_are_thought_of_in_the_order_of_the_form():
    form = f.write_form(f.bend, slope)
    first = Form("first", form.scene, form.expression, order=FACTORS_FIRST)
    assert form.rank("missing-term") < form.rank("missing-factor")
    assert first.rank("missing-factor") < first.rank("missing-term")
    assert form.rank("mask") == 0
