"""Formulas and values come in; gradients that another differentiator in 60 digits confirms go out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest

from harness.core import BadInput
from harness.discovery import find_layers
from harness.judge import oracle
from harness.judge.oracle import HIGHER, OracleFault, check_precision, find_truth, lift
from reference_layers import LayerBase

LONG = np.dtype(np.longdouble)
DIGITS, STEP = 60, mpmath.mpf(10) ** -20
has_longdouble = pytest.mark.skipif(np.finfo(LONG).eps >= np.finfo(np.float64).eps, reason="longdouble is float64 here")
SAMPLES = [(name, {"labels": labels}) for name in find_layers() for labels in ("integer", "soft", "one_hot")]
DTYPES = [pytest.param("float64", marks=has_longdouble), "float32"]


def _high(value: np.ndarray) -> np.ndarray:
    """Return floats as mpmath's numbers, exactly, and integers as they are."""
    if value.dtype.kind != "f":
        return value
    return np.vectorize(lambda number: mpmath.mpf(float(number)), otypes=[object])(value)


def _to_high(value: Any) -> Any:
    """Return a longdouble number in mpmath's precision, exactly."""
    head = float(value)
    return mpmath.mpf(head) + mpmath.mpf(float(value - np.longdouble(head)))


def _inputs(problem: Any) -> tuple[Any, ...]:
    """Return the inputs of a lone node in its order."""
    return tuple(problem.inputs[name] for name in problem.case.network.nodes[0].inputs)


EXACT = SimpleNamespace(
    exp=np.frompyfunc(mpmath.exp, 1, 1), log=np.frompyfunc(mpmath.log, 1, 1), max=np.max, sum=np.sum, where=np.where,
    arange=np.arange, zeros_like=np.zeros_like, square=np.square, abs=np.abs,
)  # fmt: skip


def _differentiate_exactly(kind: Any, params: Any, inputs: list[Any], dy: Any, array: np.ndarray) -> np.ndarray:
    """Return the derivative of sum(dy * formula) by each entry of one of the arrays, by differences in 60 digits."""
    slopes = np.empty(array.shape, object)
    with mpmath.workdps(DIGITS):
        for index in np.ndindex(array.shape):
            sums, kept = [], array[index]
            for step in (STEP, -STEP):
                array[index] = kept + step
                sums.append(np.sum(dy * kind.formula(EXACT, params, *inputs)))
            array[index] = kept
            slopes[index] = (sums[0] - sums[1]) / (2 * STEP)
    return slopes


def _compare(found: np.ndarray, exact: np.ndarray, digits: float) -> None:
    """Assert that each entry is as exact as a number of that many digits, relative to the largest."""
    with mpmath.workdps(DIGITS):
        most = max([abs(value) for value in np.ravel(exact)], default=mpmath.mpf(0))
        for value, true in zip(np.ravel(found), np.ravel(exact), strict=True):
            assert abs(_to_high(value) - true) <= most * mpmath.mpf(10) ** -digits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "settings"), SAMPLES, ids=lambda value: value if isinstance(value, str) else value["labels"])
def test_output_and_gradients_agree_with_differences_in_sixty_digits(name, settings, dtype, layers, make_lone):
    problem = make_lone(name, dtype, batch=2, width=3, **settings)
    kind, params = layers[name], problem.params["node"]
    inputs = _inputs(problem)
    truth = find_truth(kind, params, inputs, problem.dy, HIGHER[dtype])
    digits = 17.5 if dtype == "float64" else 14.5
    exact_params, exact_inputs, dy = (
        {key: _high(value) for key, value in params.items()},
        [_high(x) for x in inputs],
        _high(problem.dy),
    )
    with mpmath.workdps(DIGITS):
        _compare(truth.y, kind.formula(EXACT, exact_params, *exact_inputs), digits)
    for array, found in zip(exact_inputs, truth.dx, strict=True):
        if found is not None:
            _compare(found, _differentiate_exactly(kind, exact_params, exact_inputs, dy, array), digits)
    for key, found in truth.dparams.items():
        _compare(found, _differentiate_exactly(kind, exact_params, exact_inputs, dy, exact_params[key]), digits)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", find_layers())
def test_everything_is_in_the_higher_precision(name, dtype, layers, make_lone):
    problem = make_lone(name, dtype)
    truth = find_truth(layers[name], problem.params["node"], _inputs(problem), problem.dy, HIGHER[dtype])
    assert {value.dtype for value in (truth.y, *truth.dparams.values(), *truth.dx) if value is not None} == {HIGHER[dtype]}
    assert [value is not None for value in truth.dx] == list(layers[name].differentiable)
    assert truth.unconfirmed == ""


@has_longdouble
def test_a_longdouble_truth_is_no_float64_in_disguise(layers, make_lone):
    problem = make_lone("sigmoid", batch=8)
    truth = find_truth(layers["sigmoid"], {}, (problem.inputs["x"],), problem.dy, LONG)
    assert (truth.dx[0] != truth.dx[0].astype(np.float64)).mean() > 0.9


def test_arrays_that_were_given_stay_as_they_were(layers, make_lone):
    problem = make_lone("affine")
    before = problem.inputs["x"].copy(), problem.params["node"]["W"].copy()
    find_truth(layers["affine"], problem.params["node"], (problem.inputs["x"],), problem.dy, LONG)
    assert np.array_equal(problem.inputs["x"], before[0])
    assert np.array_equal(problem.params["node"]["W"], before[1])


def test_branches_are_replayed(layers):
    x, dy = np.array([-1.0, 2.0]), np.array([3.0, 5.0])
    own = find_truth(layers["relu"], {}, (x,), dy, LONG, np.array([False, True]))
    other = find_truth(layers["relu"], {}, (x,), dy, LONG, np.array([True, False]))
    assert (own.y.tolist(), own.dx[0].tolist()) == ([0, 2], [0, 5])
    assert (other.y.tolist(), other.dx[0].tolist()) == ([-1, 0], [3, 0])


def test_floats_are_lifted_and_integers_left():
    assert lift(np.ones(2, np.float32), LONG).dtype == LONG
    labels = np.array([1, 2])
    assert lift(labels, LONG) is labels


@pytest.mark.parametrize("dtype", DTYPES)
def test_there_is_precision_to_spare(dtype):
    check_precision(dtype)
    assert np.finfo(HIGHER[dtype]).eps <= np.finfo(dtype).eps / 2000


def test_too_little_precision_is_bad_input_that_says_what_there_is(monkeypatch):
    monkeypatch.setitem(oracle.HIGHER, "float64", np.dtype(np.float64))
    with pytest.raises(BadInput, match="--dtypes float64: this machine's longdouble is no more precise; accepted are float32"):
        check_precision("float64")


class Toy(LayerBase):
    """A layer of a formula alone."""

    name = "toy"
    place = "map"

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return x

    @staticmethod
    def sample_inputs(rng: Any, batch: int, width: int) -> tuple[Any, ...]:
        return (rng.uniform(0.5, 2, (batch, width)),)


def _formula(function: Any) -> Any:
    """Return a toy layer of the formula `function(xp, x)`."""
    return type("Toy", (Toy,), {"formula": staticmethod(lambda xp, params, x: function(xp, x))})


@pytest.mark.parametrize(
    "function", [lambda xp, x: x * np.float64(2) * np.ones(1, LONG), lambda xp, x: (x * 1).astype(np.float32)]
)
def test_a_formula_that_changes_the_precision_is_a_fault(function):
    with pytest.raises(OracleFault, match=r"the formula of toy computes in float(32|128|96), not in float64"):
        find_truth(_formula(function), {}, (np.ones((2, 2), np.float32),), np.ones((2, 2), np.float32), np.dtype(np.float64))


def _swish(xp: Any, x: Any) -> Any:
    return x / (1 + xp.exp(-x))


NONFINITE = {
    "NaN derivative, finite function": (_swish, -800.0, "dx"),
    "overflow on the way": (lambda xp, x: x * x / x, 1e200, "y"),
    "infinite slope": (lambda xp, x: xp.sqrt(x), 0.0, ""),
    "logarithm below zero": (lambda xp, x: xp.log(x), -1.0, ""),
    "true overflow": (lambda xp, x: xp.exp(x), 20000.0, ""),
    "finite": (lambda xp, x: x * x, 3.0, ""),
}


@pytest.mark.parametrize("case", NONFINITE)
def test_what_a_second_evaluation_does_not_confirm_is_no_truth(case):
    function, at, unconfirmed = NONFINITE[case]
    x = np.full((2, 2), at)
    truth = find_truth(_formula(function), {}, (x,), np.ones((2, 2)), np.dtype(np.float64))
    assert truth.unconfirmed == unconfirmed


def test_an_empty_batch_is_nothing_to_doubt(layers, make_lone):
    problem = make_lone("mean_squared_error", batch=0)
    truth = find_truth(layers["mean_squared_error"], {}, _inputs(problem), problem.dy, LONG)
    assert np.isnan(truth.y)
    assert truth.unconfirmed == ""
    assert truth.dx[0].shape == (0, 4)
