"""Formulas of the usual layers come in; that a textbook's way to write their gradients is among the guesses must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness.custom.expressions import Expression
from harness.custom.forms import Form
from harness.custom.textbook import list_textbook
from tests.custom import formulas as f

KNOWN = {
    "softmax": (f.make_spec(f.softmax, [(6, 4)]), "dx", "y * (dy - sum(dy * y, axis=-1))"),
    "log_softmax": (f.make_spec(f.log_softmax, [(6, 4)]), "dx", "dy - exp(y) * sum(dy, axis=1)"),
    "layer_norm": (f.make_spec(f.layer_norm, [(6, 4)], f.GAINS), "dx", "dy * g - mean(dy * g, axis=-1)"),
    "layer_norm dg": (f.make_spec(f.layer_norm, [(6, 4)], f.GAINS), "dg", "sum(dy * h, axis=0)"),
    "layer_norm db": (f.make_spec(f.layer_norm, [(6, 4)], f.GAINS), "db", "sum(dy, axis=0)"),
    "batch_norm": (f.make_spec(f.batch_norm, [(6, 4)]), "dx", "dvar"),
    "rms_norm": (f.make_spec(f.rms_norm, [(6, 4)], f.GAINS), "dx", "h * mean(dy * g * h, axis=-1)"),
    "unit_length": (f.make_spec(f.unit_length, [(6, 4)]), "dx", "h * sum(dy * h, axis=1)"),
    "cross_entropy": (f.make_spec(f.cross_entropy, f.draw_labels), "dx", "(softmax - labels) * dy / 6"),
    "smoothed": (f.make_spec(f.smoothed, f.draw_labels), "dx", "labels * (1 - 0.1) + 0.1 / 4"),
    "squares": (f.make_spec(f.squares, [(6, 4), (6, 4)]), "dx0", "2 * (x0 - x1) * dy / 24"),
    "huber": (f.make_spec(f.huber, [(6, 4), (6, 4)]), "dx0", "where(abs(x0 - x1) <= 0.7, x0 - x1, 0.7 * sign(x0 - x1))"),
    "hinge": (f.make_spec(f.hinge, f.draw_signs, constants=(1,)), "dx", "-x1 * (x1 * x0 < 1) * dy / 24"),
    "class_hinge": (f.make_spec(f.class_hinge, f.draw_labels), "dx", "labels * sum("),
    "logistic": (f.make_spec(f.logistic, [(6, 4), (6, 4)], constants=(1,)), "dx", "(sigmoid - x1) * dy / 24"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_usual_way_to_write_it_is_among_those_that_are_right(name):
    spec, quantity, words = KNOWN[name]
    scene = f.make_scene(spec, quantity)
    right = [form for root in list_textbook(scene) if (form := Form("", scene, Expression(root))).is_true]
    assert any(words in form.text for form in right), [form.text for form in right]


def test_of_another_formula_no_textbook_form_is_right():
    scene = f.make_scene(f.make_spec(lambda xp, params, x: xp.sin(x) * xp.sum(x * x, axis=1, keepdims=True), [(6, 4)]), "dx")
    guesses = [Form("", scene, Expression(root)) for root in list_textbook(scene)]
    assert len(guesses) > 3
    assert not any(form.is_true for form in guesses)


def test_a_form_of_values_that_do_not_fit_together_is_not_true():
    scene = f.make_scene(f.make_spec(f.softmax, [(6, 4)]), "dx")
    root = next(iter(list_textbook(scene)))
    form = Form("", scene, Expression(root))
    assert form.is_true
    assert np.isnan(form.run(root, change=lambda value: value[:, :3])).all()
