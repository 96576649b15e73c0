"""Dropped, rolled, swapped and transposed gradients: what a faulty layer returns is held against NumPy written out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mutations.mutation import find_mutation
from reference_layers import Affine, Multiply
from tests.mutations.one_pass import give, run_once

GIVEN = give(Affine)
X, DY = GIVEN.inputs[0], GIVEN.dy
RIGHT = run_once(Affine, GIVEN).gradients


def _wrong(name, size=0.0, kind=Affine, given=GIVEN):
    return run_once(find_mutation(name).plant(kind, size, 1), given).gradients


@pytest.mark.parametrize(
    ("name", "key", "axis"), [("one row of dW 0", "W", 1), ("one column of dW 0", "W", 0), ("one sample of dx 0", 0, 1)]
)
def test_one_row_or_column_is_0(name, key, axis):
    gone = (_wrong(name)[key] == 0).all(axis=axis)
    assert np.count_nonzero(gone) == 1
    assert (np.compress(~gone, _wrong(name)[key], axis=1 - axis) == np.compress(~gone, RIGHT[key], axis=1 - axis)).all()


@pytest.mark.parametrize(
    ("name", "key", "axis"), [("one column of dW scaled by 1 + e", "W", 0), ("one sample of dx scaled by 1 + e", 0, 1)]
)
def test_one_row_or_column_is_scaled(name, key, axis):
    ratios = np.moveaxis(_wrong(name, 0.5)[key] / RIGHT[key], axis, 0)
    assert sorted(ratios[0]) == pytest.approx([1.0] * (len(ratios[0]) - 1) + [1.5])
    assert ratios == pytest.approx(np.broadcast_to(ratios[0], ratios.shape))


def test_one_sample_is_left_out_of_every_sum():
    wrong = _wrong("one sample left out of the sums")
    fits = [i for i in range(len(X)) if np.allclose(wrong["W"], np.delete(X, i, 0).T @ np.delete(DY, i, 0))]
    assert len(fits) == 1
    assert wrong["b"] == pytest.approx(np.delete(DY, fits[0], 0).sum(axis=0))
    assert (wrong[0] == RIGHT[0]).all()


def test_the_last_sample_stands_for_the_sum():
    wrong = _wrong("last sample instead of the sum")
    assert wrong["b"] == pytest.approx(DY[-1])
    assert wrong["W"] == pytest.approx(np.outer(X[-1], DY[-1]))


def test_a_sum_over_one_axis_too_many():
    wrong = _wrong("summed over one axis too many")
    (key,) = [key for key in ("W", "b") if (wrong[key] != RIGHT[key]).any()]
    assert wrong[key] == pytest.approx(np.broadcast_to(RIGHT[key].sum(axis=0), RIGHT[key].shape))


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("dW transposed where square", "W", np.transpose),
        ("dx with its features rolled by one", 0, lambda dx: np.roll(dx, 1, axis=1)),
        ("dx of the next sample", 0, lambda dx: np.roll(dx, 1, axis=0)),
        ("dW with its rows rolled by one", "W", lambda dW: np.roll(dW, 1, axis=0)),
    ],
)
def test_a_gradient_out_of_place(name, key, change):
    assert (_wrong(name)[key] == change(RIGHT[key])).all()


def test_gradients_of_two_inputs_change_places():
    given = give(Multiply)
    right = run_once(Multiply, given).gradients
    wrong = _wrong("gradients of two inputs swapped", kind=Multiply, given=given)
    assert (wrong[0] == right[1]).all()
    assert (wrong[1] == right[0]).all()


def test_what_is_left_out_is_missing_and_the_rest_is_there():
    assert _wrong("gradient of an input left out")[0] is None
    assert _wrong("gradient of a parameter left out").keys() == {0, "W"}
    swapped = _wrong("gradients of two parameters under each other's names")
    assert (swapped["W"] == RIGHT["b"]).all()


def test_another_shape_and_another_dtype():
    shapes = {key: np.shape(value) for key, value in _wrong("one axis too many").items()}
    assert sorted(value for key, value in shapes.items() if value != RIGHT[key].shape)[0][0] == 1
    assert sum(value.dtype == np.float32 for value in _wrong("another dtype").values()) == 1
