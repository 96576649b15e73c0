"""Scaled and single wrong entries: the very numbers that a faulty layer returns are held."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mutations.mutation import find_mutation
from reference_layers import Affine, Multiply, ReLU, SoftmaxCrossEntropy
from tests.mutations.one_pass import give, run_once

TARGETS = {"dW": "W", "db": "b", "dx": 0}


def _both(name, kind, size=0.0, seed=1, dtype="float64", **settings):
    given = give(kind, dtype, **settings)
    return run_once(kind, given).gradients, run_once(find_mutation(name).plant(kind, size, seed), given).gradients


@pytest.mark.parametrize("size", [1e-3, 0.5, 10.0])
@pytest.mark.parametrize("target", TARGETS)
def test_a_scaled_gradient_is_one_and_e_times_the_right_one(target, size):
    right, wrong = _both(f"{target} scaled by 1 + e", Affine, size)
    assert wrong[TARGETS[target]] == pytest.approx((1 + size) * right[TARGETS[target]], rel=1e-14)


@pytest.mark.parametrize("target", TARGETS)
def test_one_entry_is_scaled_and_no_other(target):
    right, wrong = _both(f"one entry of {target} scaled by 1 + e", Affine, 1e-3)
    ratios = (wrong[TARGETS[target]] / right[TARGETS[target]]).ravel()
    assert sorted(ratios) == pytest.approx([1.0] * (ratios.size - 1) + [1.001], rel=1e-14)


def test_a_size_below_the_dtype_acts_where_the_dtype_can_hold_it():
    """1 + 1e-18 is 1 in float64, and in longdouble too; an entry plus 1e-18 of it can still be another number."""
    given = give(Affine)
    given.params = {key: value.astype(np.longdouble) for key, value in given.params.items()}
    given.inputs, given.dy = (given.inputs[0].astype(np.longdouble),), given.dy.astype(np.longdouble)
    mutation = find_mutation("dW scaled by 1 + e")
    right, wrong = run_once(Affine, given).gradients["W"], run_once(mutation.plant(Affine, 1e-18), given).gradients["W"]
    assert wrong.dtype == np.longdouble
    if np.finfo(np.longdouble).eps < 1e-18:
        assert (wrong != right).any()
    larger = run_once(mutation.plant(Affine, 1e-17), given).gradients["W"]
    if np.finfo(np.longdouble).eps < 1e-17:
        assert np.abs(larger / right - 1).max() == pytest.approx(1e-17, rel=0.2)


def test_dy_scaled_scales_every_gradient():
    right, wrong = _both("dy scaled by 1 + e", Affine, 0.25)
    assert all(wrong[key] == pytest.approx(1.25 * value) for key, value in right.items())


def test_y_scaled_leaves_the_gradients():
    given = give(SoftmaxCrossEntropy)
    faulty = find_mutation("y scaled by 1 + e").plant(SoftmaxCrossEntropy, 0.25)
    right, wrong = run_once(SoftmaxCrossEntropy, given), run_once(faulty, given)
    assert wrong.y == pytest.approx(1.25 * right.y)
    assert (wrong.gradients[0] == right.gradients[0]).all()


def test_a_gradient_grows_with_the_input():
    given = give(ReLU)
    right = run_once(ReLU, given).gradients[0]
    wrong = run_once(find_mutation("dx scaled by 1 + e |x|").plant(ReLU, 0.1), given).gradients[0]
    assert wrong == pytest.approx(right * (1 + 0.1 * np.abs(given.inputs[0])))


@pytest.mark.parametrize(
    ("name", "is_wrong"),
    [
        ("one entry NaN", lambda right, wrong: np.isnan(wrong)),
        ("one entry infinite", lambda right, wrong: np.isinf(wrong)),
        ("one entry 0", lambda right, wrong: (wrong == 0) & (right != 0)),
        ("one entry of the other sign", lambda right, wrong: wrong == -right),
    ],
)
def test_one_entry_among_all_is_wrong(name, is_wrong):
    right, wrong = _both(name, Affine)
    counts = [int(np.count_nonzero(is_wrong(value, wrong[key]))) for key, value in right.items()]
    assert sorted(counts) == [0, 0, 1]
    assert sum(np.count_nonzero(wrong[key] != value) for key, value in right.items()) == 1


def test_two_entries_are_swapped():
    right, wrong = _both("two entries swapped", Multiply)
    (key,) = [key for key, value in right.items() if (wrong[key] != value).any()]
    assert np.count_nonzero(wrong[key] != right[key]) == 2
    assert sorted(wrong[key].ravel()) == sorted(right[key].ravel())


def test_all_signs_are_turned():
    right, wrong = _both("gradients of the other sign", Multiply)
    assert all((wrong[key] == -value).all() for key, value in right.items())
