"""Functions made of others come in; in every engine their values and gradients are those of JAX's functions of these names."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness import check_layer
from harness.array_api import OFFERED, SUBSET, make_autograd_namespace, make_numpy_namespace
from harness.backends.autograd_hips import differentiate
from harness.backends.jax_grad import namespace as make_jax_namespace
from harness.backends.jax_grad import wide_types
from harness.backends.torch_autograd import namespace as make_torch_namespace
from harness.composed import COMPOSED, CONSTANTS
from harness.judge.double_double import widen
from harness.judge.wide_formula import differentiate_wide
from harness.judge.wide_operations import make_wide_namespace

Example = Callable[[Any, Any], Any]
X = np.array([[0.25, -1.5, 0.75], [2.25, 0.5, -1.25]])

# An example or more for every name, of X alone: none at a kink, where several gradients are right.
EXAMPLES: dict[str, tuple[Example, ...]] = {
    "add": (lambda xp, x: xp.add(x, 2 * x),),
    "clip": (
        lambda xp, x: xp.clip(x, -1.0, 0.6),
        lambda xp, x: xp.clip(x, min=0.0),
        lambda xp, x: xp.clip(x, max=x * x),
    ),
    "cosh": (lambda xp, x: xp.cosh(x),),
    "cumulative_prod": (
        lambda xp, x: xp.cumulative_prod(x, axis=1),
        lambda xp, x: xp.cumulative_prod(x[0], include_initial=True),
        lambda xp, x: xp.cumulative_prod(x - x[0, 0], axis=-1),
    ),
    "cumulative_sum": (
        lambda xp, x: xp.cumulative_sum(x, axis=0),
        lambda xp, x: xp.cumulative_sum(x[1]),
        lambda xp, x: xp.cumulative_sum(x, axis=-1, include_initial=True),
    ),
    "divide": (lambda xp, x: xp.divide(x, 3 + x),),
    "equal": (lambda xp, x: xp.where(xp.equal(x, 0.5), x, 2 * x),),
    "flip": (lambda xp, x: xp.flip(x), lambda xp, x: xp.flip(x, axis=-1), lambda xp, x: xp.flip(x, axis=(0,))),
    "full_like": (lambda xp, x: x * xp.full_like(x, 3.0),),
    "greater": (lambda xp, x: xp.where(xp.greater(x, 0.5), x, 2 * x),),
    "greater_equal": (lambda xp, x: xp.where(xp.greater_equal(x, 0.5), x, 2 * x),),
    "hypot": (lambda xp, x: xp.hypot(x, 1 + x),),
    "less": (lambda xp, x: xp.where(xp.less(x, 0.5), x, 2 * x),),
    "less_equal": (lambda xp, x: xp.where(xp.less_equal(x, 0.5), x, 2 * x),),
    "log10": (lambda xp, x: xp.log10(x * x),),
    "log2": (lambda xp, x: xp.log2(x * x),),
    "logaddexp": (lambda xp, x: xp.logaddexp(x, 3 * x), lambda xp, x: xp.logaddexp(x, xp.flip(x, axis=1))),
    "logical_and": (lambda xp, x: xp.where(xp.logical_and(x > 0, x < 1), x, 2 * x),),
    "logical_not": (lambda xp, x: xp.where(xp.logical_not(x > 0), x, 2 * x),),
    "logical_or": (lambda xp, x: xp.where(xp.logical_or(x < 0, x > 1), x, 2 * x),),
    "matrix_transpose": (lambda xp, x: xp.matrix_transpose(xp.stack([x, x * x], axis=0)),),
    "moveaxis": (
        lambda xp, x: xp.moveaxis(xp.stack([x, x * x], axis=0), 0, -1),
        lambda xp, x: xp.moveaxis(xp.stack([x, x * x], axis=0), (0, 2), (-1, 0)),
    ),
    "multiply": (lambda xp, x: xp.multiply(x, 2 + x),),
    "negative": (lambda xp, x: xp.negative(x),),
    "not_equal": (lambda xp, x: xp.where(xp.not_equal(x, 0.5), x, 2 * x),),
    "positive": (lambda xp, x: xp.positive(x),),
    "prod": (
        lambda xp, x: xp.prod(x),
        lambda xp, x: xp.prod(x, axis=0),
        lambda xp, x: xp.prod(x, axis=-1, keepdims=True),
        lambda xp, x: xp.prod(x, keepdims=True),
        lambda xp, x: xp.prod(xp.stack([x, 2 - x], axis=0), axis=(0, -1)),
    ),
    "reciprocal": (lambda xp, x: xp.reciprocal(x),),
    "roll": (
        lambda xp, x: xp.roll(x, 1, axis=1),
        lambda xp, x: xp.roll(x, -2),
        lambda xp, x: xp.roll(x, (1, 4), axis=(0, 1)),
        lambda xp, x: xp.roll(x, np.int64(1), axis=(0, 1)),
    ),
    "sinh": (lambda xp, x: xp.sinh(x),),
    "squeeze": (lambda xp, x: xp.squeeze(x[:, None, :], axis=1), lambda xp, x: xp.squeeze(x[None, :, :, None], axis=(0, -1))),
    "std": (lambda xp, x: xp.std(x, axis=1), lambda xp, x: xp.std(x, axis=-1, correction=1, keepdims=True)),
    "subtract": (lambda xp, x: xp.subtract(x, 3 * x),),
    "take": (lambda xp, x: xp.take(x, np.array([2, 0, 2]), axis=1), lambda xp, x: xp.take(x[0], np.array([1]))),
    "tan": (lambda xp, x: xp.tan(x),),
    "tril": (lambda xp, x: xp.tril(x), lambda xp, x: xp.tril(x[None], k=1)),
    "triu": (lambda xp, x: xp.triu(x), lambda xp, x: xp.triu(x, k=1)),
    "unstack": (lambda xp, x: xp.unstack(x, axis=1)[2] * xp.unstack(x, axis=-1)[0],),
    "var": (
        lambda xp, x: xp.var(x),
        lambda xp, x: xp.var(x, axis=0, correction=1),
        lambda xp, x: xp.var(x, axis=1, keepdims=True),
        lambda xp, x: xp.var(xp.stack([x, x * x], axis=0), axis=(0, -1)),
    ),
    "vecdot": (lambda xp, x: xp.vecdot(x, x + 1), lambda xp, x: xp.vecdot(x, x * x, axis=0)),
}
PLACES = [(name, i) for name, examples in EXAMPLES.items() for i in range(len(examples))]
CLOSE = 1e-13


def _weigh(shape: tuple[int, ...]) -> Any:
    return 1.0 + np.arange(np.prod(shape, dtype=int)).reshape(shape)


@cache
def _ask_jax(is_its_own: bool) -> dict[tuple[str, int], tuple[Any, Any]]:
    """Return values and gradients of all examples by JAX's own functions or by ours, compiled at once."""
    jax = import_module("jax")
    xp = jax.numpy if is_its_own else make_jax_namespace()

    def differentiate_all(x: Any) -> Any:
        found = {}
        for name, i in PLACES:
            y, pull = jax.vjp(lambda leaf, name=name, i=i: EXAMPLES[name][i](xp, leaf), x)
            found[f"{name} {i}"] = (y, pull(jax.numpy.asarray(_weigh(y.shape), y.dtype))[0])
        return found

    with wide_types(True):
        found = jax.jit(differentiate_all)(X)
        return {(name, i): tuple(np.asarray(part) for part in found[f"{name} {i}"]) for name, i in PLACES}


def _ask_torch(name: str, i: int) -> tuple[Any, Any]:
    torch = import_module("torch")
    leaf = torch.tensor(X, requires_grad=True)
    y = EXAMPLES[name][i](make_torch_namespace(), leaf)
    return y.detach().numpy(), torch.autograd.grad(y, leaf, torch.tensor(_weigh(tuple(y.shape))))[0].numpy()


def _ask_hips(name: str, i: int) -> tuple[Any, Any]:
    weights = _weigh(EXAMPLES[name][i](make_numpy_namespace(), X).shape)
    return differentiate(lambda leaf: EXAMPLES[name][i](make_autograd_namespace(), leaf), X, weights)


def _ask_wide(name: str, i: int) -> tuple[Any, Any]:
    weights = _weigh(EXAMPLES[name][i](make_numpy_namespace(), X).shape)
    y, (dx,) = differentiate_wide(lambda leaves: EXAMPLES[name][i](make_wide_namespace(), leaves[0]), (widen(X),), weights)
    return y.hi, dx.hi


ENGINES = {"torch": _ask_torch, "jax": lambda name, i: _ask_jax(False)[name, i], "autograd": _ask_hips, "wide": _ask_wide}


def test_there_is_an_example_for_every_name():
    assert sorted(EXAMPLES) == sorted(COMPOSED)
    assert not set(COMPOSED) & set(SUBSET)
    assert sorted({*SUBSET, *COMPOSED, *CONSTANTS}) == OFFERED


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "i"), PLACES)
def test_value_and_gradient_are_those_of_jaxs_own_function(name, i, engine):
    y, dx = ENGINES[engine](name, i)
    expected, gradient = _ask_jax(True)[name, i]
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=CLOSE, atol=CLOSE)
    np.testing.assert_allclose(dx, gradient, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("make", [make_numpy_namespace, make_torch_namespace, make_jax_namespace])
@pytest.mark.parametrize(("name", "i"), PLACES)
def test_float32_stays_float32(name, i, make):
    given = import_module("torch").tensor(X, dtype=import_module("torch").float32) if make is make_torch_namespace else None
    given = import_module("jax").numpy.asarray(X, "float32") if make is make_jax_namespace else given
    y = EXAMPLES[name][i](make(), X.astype(np.float32) if given is None else given)
    assert str(y.dtype).removeprefix("torch.") == "float32"


def test_a_number_of_numpys_does_not_widen_float32():
    x, xp = X.astype(np.float32), make_numpy_namespace()
    found = [xp.clip(x, np.float64(0.0), np.float64(1.0)), xp.full_like(x, np.float64(2)), xp.var(x, correction=np.float64(1))]
    assert [one.dtype for one in found] == [np.float32] * 3


NUMPYS = {
    "cumulative_prod": np.cumulative_prod,
    "cumulative_sum": np.cumulative_sum,
    "flip": np.flip,
    "prod": np.prod,
    "roll": lambda x, axis: np.roll(x, 3, axis=axis),
    "std": np.std,
    "sum": np.sum,
    "var": np.var,
}
NUMBERS = arrays(np.float64, array_shapes(min_side=0, max_dims=3, max_side=9), elements=st.floats(-2, 2, width=16))


@given(x=NUMBERS, axis=st.integers(-4, 3), name=st.sampled_from(sorted(NUMPYS)))
def test_along_any_axis_of_any_shape_values_are_numpys_and_no_other_axis_is_taken(x, axis, name):
    xp, options = make_numpy_namespace(), {"shift": 3} if name == "roll" else {}
    if not -x.ndim <= axis < x.ndim:
        with pytest.raises(ValueError, match="out of bounds"):
            getattr(xp, name)(x, axis=axis, **options)
        return
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):  # NumPy warns of means of nothing
        found, expected = getattr(xp, name)(x, axis=axis, **options), NUMPYS[name](x, axis=axis)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@given(x=NUMBERS, axes=st.sets(st.integers(0, 2)), name=st.sampled_from(["flip", "prod", "squeeze", "std", "var"]))
def test_along_several_axes_values_are_numpys(x, axes, name):
    some = tuple(axis for axis in axes if axis < x.ndim)
    x = x.sum(axis=some, keepdims=True) if name == "squeeze" else x
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        found, expected = getattr(make_numpy_namespace(), name)(x, axis=some), getattr(np, name)(x, axis=some)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("x", "y"), [(-np.inf, -np.inf), (np.inf, np.inf), (-np.inf, 1.0), (1.0, np.inf), (2.0, 2.0)])
def test_the_sum_of_exponentials_is_numpys_at_infinity_too(x, y):
    assert make_numpy_namespace().logaddexp(np.array([x]), np.array([y])) == pytest.approx(np.logaddexp(x, y), rel=1e-15)


def test_at_a_tie_the_sum_of_exponentials_has_one_gradient():
    y, (dx, dy) = differentiate(lambda leaves: make_autograd_namespace().logaddexp(*leaves), (X, X), np.ones_like(X))
    assert dx.tolist() == dy.tolist() == np.full_like(X, 0.5).tolist()
    np.testing.assert_allclose(y, X + np.log(2), rtol=1e-15)


def test_an_infinity_is_added_to_what_comes_after_it_alone():
    x = np.array([1.0, np.inf, 2.0, np.nan, 1.0])
    np.testing.assert_array_equal(make_numpy_namespace().cumulative_sum(x), np.cumsum(x))


def test_constants_are_numpys():
    xp = make_numpy_namespace()
    assert (xp.pi, xp.e, xp.inf, xp.newaxis) == (np.pi, np.e, np.inf, None)
    assert np.isnan(xp.nan)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda xp: xp.squeeze(X, axis=1), "axis 1 is 3 long; accepted are axes of length 1"),
        (lambda xp: xp.cumulative_sum(X), "axis: None for an array of 2 axes; accepted is one of them"),
        (lambda xp: xp.take(X, np.array([0])), "axis: None for an array of 2 axes; accepted is one of them"),
        (lambda xp: xp.moveaxis(X, 3, 0), "out of bounds"),
    ],
)
def test_what_has_no_meaning_is_refused(ask, said):
    with pytest.raises(ValueError, match=said):
        ask(make_numpy_namespace())


class CumulativeSum:
    """The sums of the first entries of each row; the gradient of an entry is the sum of those that hold it."""

    def forward(self, x):
        return np.cumsum(x, axis=1)

    def backward(self, dy):
        return np.flip(np.cumsum(np.flip(dy, axis=1), axis=1), axis=1).copy()


class Backwards(CumulativeSum):
    """Its gradient adds from the wrong end."""

    def backward(self, dy):
        return np.cumsum(dy, axis=1)


def test_a_formula_of_such_a_function_judges_a_layer():
    def formula(xp, params, x):
        return xp.cumulative_sum(x, axis=1)

    assert check_layer(CumulativeSum, formula, inputs=[(4, 5)]).passed
    report = check_layer(Backwards, formula, inputs=[(4, 5)], against=[], on_fail="report")
    assert "gradients" in {one.check for one in report.failures}
