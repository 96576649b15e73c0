"""Formulas come in; that the backward programs written for them give the true gradients must hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.custom.expressions import Expression
from harness.custom.faults.programs import write_program
from harness.custom.forms import Form
from tests.custom import formulas as f

CASES = [
    (f.softmax, [(6, 4)], {}),
    (f.log_softmax, [(6, 4)], {}),
    (f.layer_norm, [(6, 4)], f.GAINS),
    (f.batch_norm, [(6, 4)], {}),
    (f.rms_norm, [(6, 4)], {"g": f.GAINS["g"]}),
    (f.cross_entropy, f.draw_labels, {}),
    (f.squares, [(6, 4), (6, 4)], {}),
    (f.huber, [(6, 4), (6, 4)], {}),
    (f.hinge, f.draw_signs, {}),
    (f.class_hinge, f.draw_labels, {}),
    (f.attention, [(5, 4), (3, 4)], {}),
    (f.recurrent, [(5, 3, 4)], {**f.SQUARES, "b": f.GAINS["b"]}),
    (f.gated, [(6, 4)], f.GAINS),
    (f.stacked, [(6, 4)], {}),
]


@pytest.mark.parametrize(("formula", "inputs", "params"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_program_gives_the_gradient_of_every_quantity(formula, inputs, params):
    spec = f.make_spec(formula, inputs, params)
    first = "dx0" if callable(inputs) is False and len(inputs) > 1 else "dx"
    first = "dx0" if formula is f.hinge else first
    for quantity in f.make_scene(spec, first).true:
        scene = f.make_scene(spec, quantity)
        root = write_program(scene)
        assert root is not None
        assert Form("", scene, Expression(root)).is_true, f"{quantity}: {root}"


def test_a_sigmoid_and_a_softmax_are_gone_back_through_as_one():
    gated = write_program(f.make_scene(f.make_spec(f.gated, [(6, 4)], f.GAINS), "dg"))
    assert "(1 - 1 / (" in str(Expression(gated).root.write(200)).replace("...", "")
    soft = write_program(f.make_scene(f.make_spec(f.softmax, [(6, 4)]), "dx"))
    assert "sum(dy * " in soft.write(200)


def test_without_a_formula_there_is_no_program():
    scene = f.make_scene(f.make_spec(f.softmax, [(6, 4)]), "dx")
    trial = replace(scene.trial, declared=replace_formula(scene.trial.declared))
    assert write_program(scene) is not None
    assert write_program(replace(scene, trial=trial)) is None


def replace_formula(kind):
    return type("Bare", (kind,), {"formula": None})
