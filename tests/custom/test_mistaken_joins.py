"""Gradients with a term that joins behind a factor come in; that it is found and told must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness.custom.expressions import apply, number
from harness.custom.mistaken_joins import mistake_joins
from tests.custom import formulas as f


def twice_bent(dy, x, y):
    """Two steps, dy with a third of it and through one slope, and that with a third of dy and through it again."""
    slope = number(1) - y * y
    inner = (dy + apply("neg", dy / 3)) * slope
    return (inner + dy / 3) * slope


def write(change):
    return f.write_form(f.bend, twice_bent, lambda scene: change(scene.dy, 1 - scene.y**2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda dy, s: (dy - dy / 3) * s * s + dy / 3, "dy / 3 joins behind the factor 1 - y * y, not before it, in ("),
        (lambda dy, s: (dy - dy / 3) * s + dy / 3 * s, "(dy + -(dy / 3)) * (1 - y * y) joins behind the factor 1 - y * y"),
        (lambda dy, s: (dy * s - dy / 3) * s + dy / 3 * s, "-(dy / 3) joins behind the factor 1 - y * y"),
        (lambda dy, s: (dy * s - dy / 3) * s + dy / 3, "in 2 products"),
    ],
)
def test_a_term_that_joins_late_is_found_and_told(change, words):
    form = write(change)
    found = f.find_fitting(mistake_joins(form), form)
    assert {fault.cause for fault in found} == {"missing-factor"}
    assert any(words in fault.words for fault in found), [fault.words for fault in found]


def test_where_nothing_joins_late_none_gives_the_gradient():
    form = write(lambda dy, s: ((dy - dy / 3) * s + dy / 3) * s)
    tried = list(mistake_joins(form))
    assert len(tried) > 3
    assert not f.find_fitting(tried, form)


def test_what_does_not_flow_back_joins_nothing():
    form = f.write_form(f.bend, lambda dy, x, y: dy * (y + number(1)), lambda scene: scene.dy * scene.y)
    assert not list(mistake_joins(form))


def test_the_graph_itself_stays_as_it_was():
    form = write(lambda dy, s: dy)
    before = form.run()
    list(mistake_joins(form))
    np.testing.assert_array_equal(form.run(), before)
