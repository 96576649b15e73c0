"""Lower precisions and noise: what a faulty layer returns is held against the casts and the bounds written out."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from harness.core import Arithmetic
from harness.judge.propagate import exact
from harness.judge.rounding import make_rounding
from harness.mutations.arithmetic import MULTIPLES, round_to
from harness.mutations.mutation import find_mutation, find_mutations
from reference_layers import Add, Affine, ReLU, Sigmoid
from tests.mutations.one_pass import LAYERS, give, run_once

BIT_EXACT = (Add, ReLU)
LOWER = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def _both(name, kind, size=0.0, seed=1, dtype="float64", rounding=None):
    given = give(kind, dtype)
    return given, run_once(kind, given), run_once(find_mutation(name).plant(kind, size, seed, rounding), given)


@pytest.mark.parametrize("lower", LOWER)
def test_results_rounded_down_and_up(lower):
    _, right, wrong = _both(f"gradients rounded to {lower}", Affine)
    for key, value in right.gradients.items():
        assert (wrong.gradients[key] == value.astype(LOWER[lower]).astype(value.dtype)).all()
    _, right, wrong = _both(f"y rounded to {lower}", Affine)
    assert (wrong.y == right.y.astype(LOWER[lower]).astype(right.y.dtype)).all()


@pytest.mark.parametrize("lower", LOWER)
def test_a_product_of_rounded_operands(lower):
    given, right, wrong = _both(f"dW of {lower} operands", Affine)
    x, dy = (value.astype(LOWER[lower]).astype(np.float64) for value in (given.inputs[0], given.dy))
    assert (wrong.gradients["W"] == x.T @ dy).all()
    assert all((wrong.gradients[key] == right.gradients[key]).all() for key in ("b", 0))


@pytest.mark.parametrize("lower", LOWER)
def test_rounded_operands_forward_and_upstream(lower):
    given, _, wrong = _both(f"inputs rounded to {lower}", Sigmoid)
    given.inputs = (given.inputs[0].astype(LOWER[lower]).astype(np.float64),)
    assert (wrong.gradients[0] == run_once(Sigmoid, given).gradients[0]).all()
    given, _, wrong = _both(f"dy rounded to {lower}", Sigmoid)
    given.dy = given.dy.astype(LOWER[lower]).astype(np.float64)
    assert (wrong.gradients[0] == run_once(Sigmoid, given).gradients[0]).all()


@pytest.mark.parametrize("lower", LOWER)
def test_a_sum_kept_in_a_lower_precision(lower):
    given, _, wrong = _both(f"sums over the batch kept in {lower}", Affine)
    first, second = (part.sum(axis=0).astype(LOWER[lower]).astype(np.float64) for part in (given.dy[:2], given.dy[2:]))
    assert (wrong.gradients["b"] == (first + second).astype(LOWER[lower])).all()


@pytest.mark.parametrize(("lower", "error"), [("float32", 3e-8), ("bfloat16", 2e-3), ("float16", 2.5e-4)])
def test_a_constant_of_a_lower_precision(lower, error):
    _, right, wrong = _both(f"a constant kept in {lower}", ReLU)
    hit = right.gradients[0] != 0
    apart = np.abs(wrong.gradients[0][hit] / right.gradients[0][hit] - 1)
    assert apart == pytest.approx(np.full(apart.shape, abs(3 * float(LOWER[lower](1 / 3)) - 1)), rel=1e-6)
    assert apart.max() == pytest.approx(error, rel=0.2)


def test_what_is_no_float_stays():
    labels = np.array([3, 1])
    assert round_to(labels, "float16") is labels


def test_a_cast_to_float32_is_nothing_to_float32():
    casts = [mutation for mutation in find_mutations() if "float32" in mutation.name]
    assert len(casts) == 9
    for mutation in casts:
        assert mutation.dtypes == ("float64",)
    for name in (f"{what} rounded to float32" for what in ("gradients", "inputs", "dy", "y")):
        _, right, wrong = _both(name, Sigmoid, dtype="float32")
        assert (wrong.y == right.y).all()
        assert (wrong.gradients[0] == right.gradients[0]).all()


def test_what_is_small_is_flushed():
    _, right, wrong = _both("gradients below e of the largest flushed", ReLU, 0.5)
    small = np.abs(right.gradients[0]) < 0.5 * np.abs(right.gradients[0]).max()
    assert (wrong.gradients[0] == np.where(small, 0, right.gradients[0])).all()
    assert (small & (right.gradients[0] != 0)).any()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("multiple", [MULTIPLES[0], MULTIPLES[-1]])
@pytest.mark.parametrize("kind", [kind for kind in LAYERS.values() if kind not in BIT_EXACT], ids=lambda kind: kind.name)
def test_every_entry_moves_by_a_multiple_of_its_bound(kind, multiple, dtype):
    given, right, wrong = _both("every entry moved by r bounds", kind, multiple, dtype=dtype)
    rounding = make_rounding(dtype, Arithmetic(flushes=False), "layer")
    params = {key: value.astype(np.float64) for key, value in given.params.items()}
    bound = kind.backward_bound(rounding, params, *map(exact, given.inputs), exact(np.asarray(given.dy)))
    bounds = {**dict(enumerate(bound.dx)), **bound.dparams}
    (key,) = [key for key, value in right.gradients.items() if (wrong.gradients[key] != value).any()]
    moved = np.abs(wrong.gradients[key].astype(np.longdouble) - right.gradients[key])
    rounded = np.finfo(dtype).eps * np.abs(right.gradients[key])
    assert (moved <= multiple * bounds[key] + rounded).all()
    assert (moved >= multiple * bounds[key] * 0.999 - rounded).all()


def test_the_bound_is_counted_in_the_arithmetic_that_is_asked_for():
    coarse = make_rounding("bfloat16", Arithmetic(flushes=False), "layer")
    _, right, fine = _both("every entry moved by r bounds", Sigmoid, 2.0, dtype="float32")
    _, _, wrong = _both("every entry moved by r bounds", Sigmoid, 2.0, dtype="float32", rounding=coarse)
    in_fine, in_coarse = (np.abs(seen.gradients[0] - right.gradients[0]).max() for seen in (fine, wrong))
    assert in_coarse > 1000 * in_fine > 0


@pytest.mark.parametrize("kind", BIT_EXACT)
def test_a_bit_exact_layer_does_not_move(kind):
    _, right, wrong = _both("every entry moved by r bounds", kind, 4096.0)
    assert (wrong.gradients[0] == right.gradients[0]).all()
