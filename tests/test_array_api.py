"""Every framework's namespace comes in; its values are NumPy's, its gradients the derivatives, and other names are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from harness.array_api import (
    SUBSET,
    Namespace,
    Unsupported,
    make_autograd_namespace,
    make_complex_namespace,
    make_numpy_namespace,
    take_from,
)
from harness.backends.autograd_hips import differentiate
from harness.backends.jax_grad import wide_types

Example = Callable[[Any, Any], Any]
X = np.array([[0.25, 1.5, 0.75], [2.25, 0.5, 1.25]])
WEIGHTS = np.array([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])

# An example for every name, a function of X with a result shaped like X, and the derivative entry by entry. Reductions,
# which have none, are differentiated in a test of their own.
EXAMPLES: dict[str, tuple[Example, Callable[[Any], Any] | None]] = {
    "abs": (lambda xp, x: xp.abs(x - 1), lambda x: np.sign(x - 1)),
    "arange": (lambda xp, x: xp.where(xp.arange(3) == 1, x, 2 * x), lambda x: np.array([[2.0, 1.0, 2.0]] * 2)),
    "concat": (lambda xp, x: xp.concat([x[:1], 2 * x[1:]], axis=0), lambda x: np.array([[1.0] * 3, [2.0] * 3])),
    "cos": (lambda xp, x: xp.cos(x), lambda x: -np.sin(x)),
    "erf": (lambda xp, x: xp.erf(x), lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "exp": (lambda xp, x: xp.exp(x), np.exp),
    "expand_dims": (lambda xp, x: xp.expand_dims(x, axis=0)[0], np.ones_like),
    "expm1": (lambda xp, x: xp.expm1(x), np.exp),
    "log": (lambda xp, x: xp.log(x), lambda x: 1 / x),
    "log1p": (lambda xp, x: xp.log1p(x), lambda x: 1 / (1 + x)),
    "matmul": (lambda xp, x: xp.matmul(x, xp.ones_like(x).T) @ xp.ones_like(x), None),
    "max": (lambda xp, x: x - xp.max(x, axis=1, keepdims=True), None),
    "maximum": (lambda xp, x: xp.maximum(x, xp.ones_like(x)), lambda x: 1.0 * (x > 1)),
    "mean": (lambda xp, x: x * 0 + xp.mean(x, axis=0, keepdims=True), None),
    "min": (lambda xp, x: x - xp.min(x, axis=1, keepdims=True), None),
    "minimum": (lambda xp, x: xp.minimum(x, xp.ones_like(x)), lambda x: 1.0 * (x < 1)),
    "ones_like": (lambda xp, x: x * xp.ones_like(x), np.ones_like),
    "permute_dims": (lambda xp, x: xp.permute_dims(xp.permute_dims(x, (1, 0)), (1, 0)), np.ones_like),
    "pow": (lambda xp, x: xp.pow(x, 3), lambda x: 3 * x * x),
    "reshape": (lambda xp, x: xp.reshape(xp.reshape(x, (6,)), (2, 3)), np.ones_like),
    "sign": (lambda xp, x: x + xp.sign(x - 1), np.ones_like),
    "sin": (lambda xp, x: xp.sin(x), np.cos),
    "sqrt": (lambda xp, x: xp.sqrt(x), lambda x: 0.5 / np.sqrt(x)),
    "square": (lambda xp, x: xp.square(x), lambda x: 2 * x),
    "stack": (lambda xp, x: xp.stack([x[0], 3 * x[1]], axis=0), lambda x: np.array([[1.0] * 3, [3.0] * 3])),
    "sum": (lambda xp, x: x * 0 + xp.sum(x, axis=1, keepdims=True), None),
    "tanh": (lambda xp, x: xp.tanh(x / 4), lambda x: 0.25 / np.cosh(x / 4) ** 2),
    "where": (lambda xp, x: xp.where(x > 1, 2 * x, x), lambda x: np.where(x > 1, 2.0, 1.0)),
    "zeros_like": (lambda xp, x: x + xp.zeros_like(x), np.ones_like),
}
# Functions of one entry that libraries compute with an error of a few units in the last place; all else is one rounding.
ULPS = 4


def _torch_gradient(name: str, x: Any) -> tuple[Any, Any]:
    from harness.backends.torch_autograd import namespace

    torch = import_module("torch")
    leaf = torch.tensor(x, requires_grad=True)
    y = EXAMPLES[name][0](namespace(), leaf)
    (gradient,) = torch.autograd.grad(y, leaf, torch.tensor(WEIGHTS.astype(x.dtype)))
    return y.detach().numpy(), gradient.numpy()


def _jax_gradient(name: str, x: Any) -> tuple[Any, Any]:
    return _jax_gradients(x.dtype.name)[name]


@cache
def _jax_gradients(dtype: str) -> dict[str, tuple[Any, Any]]:
    """Differentiate all examples in one program: compiling them one by one takes a quarter of a minute."""
    from harness.backends.jax_grad import namespace

    jax = import_module("jax")

    def differentiate_all(x: Any, weights: Any) -> Any:
        pairs = {
            name: jax.vjp(lambda leaf, example=example: example(namespace(), leaf), x) for name, (example, _) in EXAMPLES.items()
        }
        return {name: (y, backward(weights)[0]) for name, (y, backward) in pairs.items()}

    with wide_types(dtype == "float64"):
        found = jax.jit(differentiate_all)(X.astype(dtype), WEIGHTS.astype(dtype))
        return {name: (np.asarray(y), np.asarray(gradient)) for name, (y, gradient) in found.items()}


def _hips_gradient(name: str, x: Any) -> tuple[Any, Any]:
    y, gradient = differentiate(lambda leaf: EXAMPLES[name][0](make_autograd_namespace(), leaf), x, WEIGHTS)
    # Behind a comparison autograd goes on in float64; a backend's gradients are cast where they are summed into a leaf.
    return y, gradient.astype(x.dtype)


FRAMEWORKS = {"torch": _torch_gradient, "jax": _jax_gradient, "autograd": _hips_gradient}


def test_there_is_an_example_for_every_name_of_the_subset():
    assert sorted(EXAMPLES) == sorted(SUBSET)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", SUBSET)
def test_value_is_numpys_and_gradient_is_the_derivative(name, framework, dtype):
    example, derivative = EXAMPLES[name]
    x = X.astype(dtype)
    expected = example(make_numpy_namespace(), x)
    y, gradient = FRAMEWORKS[framework](name, x)
    assert y.dtype == gradient.dtype == expected.dtype == np.dtype(dtype)
    np.testing.assert_array_max_ulp(y, expected, ULPS)
    if derivative is not None:
        np.testing.assert_array_max_ulp(gradient, (derivative(X) * WEIGHTS).astype(dtype), 4 * ULPS)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("matmul", 2 * WEIGHTS.sum(axis=1, keepdims=True) * np.ones((2, 3))),
        ("max", WEIGHTS - WEIGHTS.sum(axis=1, keepdims=True) * (X.max(axis=1, keepdims=True) == X)),
        ("mean", np.ones((2, 3)) * WEIGHTS.sum(axis=0) / 2),
        ("min", WEIGHTS - WEIGHTS.sum(axis=1, keepdims=True) * (X.min(axis=1, keepdims=True) == X)),
        ("sum", np.ones((2, 3)) * WEIGHTS.sum(axis=1, keepdims=True)),
    ],
)
def test_gradient_of_a_reduction_reaches_every_entry_that_it_reduces(name, expected, framework):
    _, gradient = FRAMEWORKS[framework](name, X)
    # The weights are whole numbers, so that sums of them and halves are exact.
    assert gradient.tolist() == expected.tolist()


@pytest.mark.parametrize(("place", "expected"), [(1, [[-3.0], [5.0]]), (2, [[5.0], [-10.0]])])
def test_the_gradient_of_what_where_broadcasts_is_summed_back_to_its_shape(place, expected):
    """A formula of an embedding picks rows of its table so."""
    where, chosen = make_autograd_namespace().where, np.array([[True, True, False], [False, True, False]])
    weights = np.array([[-1.0, -2.0, 5.0], [-4.0, 5.0, -6.0]])
    column = np.array([[1.0], [2.0]])
    y, gradient = differentiate(lambda x: where(chosen, *((x, 0.0) if place == 1 else (0.0, x))), column, weights)
    assert y.tolist() == np.where(chosen, *((column, 0.0) if place == 1 else (0.0, column))).tolist()
    assert gradient.tolist() == expected


def test_numpy_functions_keep_longdouble_and_erf_has_its_precision():
    import mpmath

    x = np.longdouble("0.3")
    ours = make_numpy_namespace().erf(np.array([x]))
    assert ours.dtype == np.longdouble
    with mpmath.workprec(120):
        high = mpmath.mpf(float(x))
        exact = mpmath.erf(high + mpmath.mpf(float(x - np.longdouble(float(x)))))
        error = abs(mpmath.mpf(mpmath.nstr(exact, 30)) - mpmath.mpf(str(ours[0])))
    assert error <= 4 * float(np.finfo(np.longdouble).eps)


def test_autograd_differentiates_erf_in_longdouble():
    x = np.array([0.0], np.longdouble)
    _, gradient = differentiate(make_autograd_namespace().erf, x, np.ones(1, np.longdouble))
    assert gradient.dtype == np.longdouble
    two_over_root_pi = np.longdouble("1.128379167095512573896158903121545172")
    assert abs(gradient[0] - two_over_root_pi) <= 4 * np.finfo(np.longdouble).eps


@pytest.mark.parametrize("name", ["abs", "sign", "erf"])
def test_complex_step_refuses_what_is_not_analytic(name):
    with pytest.raises(Unsupported, match=rf"xp\.{name} is not analytic"):
        getattr(make_complex_namespace(), name)(np.ones(2))


def test_complex_comparisons_go_by_the_real_part():
    xp = make_complex_namespace()
    x = np.array([-1.0 + 5j, 2.0 - 5j, 3.0 + 1e-20j])
    assert xp.where(x > 0, x, xp.zeros_like(x)).tolist() == [0, 2 - 5j, 3 + 1e-20j]
    assert xp.max(x) == 3.0 + 1e-20j


def _all_namespaces() -> dict[str, Namespace]:
    from harness.backends import jax_grad, torch_autograd

    return {
        "numpy": make_numpy_namespace(),
        "complex": make_complex_namespace(),
        "autograd": make_autograd_namespace(),
        "torch": torch_autograd.namespace(),
        "jax": jax_grad.namespace(),
    }


@pytest.mark.parametrize("framework", ["numpy", "complex", "autograd", "torch", "jax"])
def test_a_name_outside_the_subset_is_refused_and_the_accepted_ones_are_named(framework):
    xp = _all_namespaces()[framework]
    with pytest.raises(
        Unsupported, match=r"xp\.einsum is outside the supported subset; accepted are abs, add, arange, .*zeros_like"
    ):
        _ = xp.einsum


@pytest.mark.parametrize("framework", ["numpy", "complex", "autograd", "torch", "jax"])
def test_a_namespace_holds_the_subset_and_nothing_else(framework):
    assert sorted(vars(_all_namespaces()[framework])) == sorted(SUBSET)


def test_a_module_that_lacks_a_function_is_no_namespace():
    with pytest.raises(AttributeError, match="erf"):
        take_from(np)
