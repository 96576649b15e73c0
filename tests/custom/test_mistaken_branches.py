"""Gradients that choose the wrong branch come in; that the mistake is found and told must hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.custom.expressions import Expression, Node, number
from harness.custom.mistaken_branches import mistake_branches
from tests.custom import formulas as f


def parted(dy, x, y):
    return Node("where", (Node(">", (x, number(0.3))), dy, dy * 0.25))


def leak_by(change):
    return f.write_form(f.leak, parted, lambda scene: change(scene.dy, scene.inputs[0]))


CASES = [
    (lambda dy, x: np.where(x > 0.3, 0.25 * dy, dy), "the wrong way round"),
    (lambda dy, x: dy, "x > 0.3 is always taken for met"),
    (lambda dy, x: 0.25 * dy, "x > 0.3 is never taken for met"),
    (lambda dy, x: np.where(x > -0.3, dy, 0.25 * dy), "x > 0.3 has -0.3 for 0.3"),
    (lambda dy, x: np.where(x > 0, dy, 0.25 * dy), "x > 0.3 has 0 for 0.3"),
    (lambda dy, x: np.where(np.abs(x) >= 0.7, dy, 0.25 * dy), "part where the size of x is above about"),
    (lambda dy, x: np.where(dy >= 0.1, dy, 0.25 * dy), "part where dy is above about"),
]


@pytest.mark.parametrize(("change", "words"), CASES, ids=[case[1] for case in CASES])
def test_another_choice_is_found_and_told(change, words):
    form = leak_by(change)
    found = f.find_fitting(mistake_branches(form), form)
    assert any(words in fault.words for fault in found), [fault.words for fault in found]
    assert {fault.cause for fault in found} == {"mask"}


def test_strictness_is_another_choice_at_the_limit_alone():
    form = leak_by(lambda dy, x: dy)
    (strict,) = [fault for fault in mistake_branches(form) if fault.words.startswith("x > 0.3 has >= for >,")]
    assert np.array_equal(strict.gradient, form.run())  # no entry lies at the limit
    at = Node("x", value=np.where(form.scene.inputs[0] > 0.3, form.scene.inputs[0], 0.3))
    moved = replace(form, expression=Expression(parted(Node("dy", value=form.scene.dy), at, None)))
    (strict,) = [fault for fault in mistake_branches(moved) if fault.words.startswith("x > 0.3 has >= for >,")]
    assert np.array_equal(strict.gradient, form.scene.dy)
    assert not np.array_equal(moved.run(), form.scene.dy)
