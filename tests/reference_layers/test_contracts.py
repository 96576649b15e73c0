"""Every layer comes in by discovery; that it keeps what a layer must keep besides its values is asserted."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import reference_layers
from harness.discovery import find_layers

LAYERS = find_layers()
DTYPES = ("float64", "float32")
SHAPES = ((0, 4), (1, 4), (5, 1), (6, 4))
every_layer = pytest.mark.parametrize("name", LAYERS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def _make(name, dtype, batch=6, width=4, seed=0):
    """Return a layer, its inputs and an upstream gradient."""
    kind, rng = LAYERS[name], np.random.default_rng(seed)
    layer = kind(**{key: value.astype(dtype) for key, value in kind.initial_params(rng, width, 3).items()})
    inputs = tuple(_cast(value, dtype) for value in kind.sample_inputs(rng, batch, width))
    dy = rng.uniform(0.5, 2.0, np.shape(layer.forward(*inputs))).astype(dtype)
    return layer, inputs, dy


def _cast(value, dtype):
    return value.astype(dtype) if value.dtype.kind == "f" else value


def _run(layer, inputs, dy):
    """Return output, input gradients and parameter gradients as one list."""
    y = layer.forward(*inputs)
    dx = layer.backward(dy)
    return [y, *(dx if isinstance(dx, tuple) else (dx,)), *layer.grads.values()]


@every_layer
@every_dtype
@pytest.mark.parametrize(("batch", "width"), SHAPES)
def test_dtype_and_shape_are_kept(name, dtype, batch, width):
    layer, inputs, dy = _make(name, dtype, batch, width)
    found = _run(layer, inputs, dy)
    variable = [value for value, varies in zip(inputs, type(layer).differentiable, strict=True) if varies]
    assert {value.dtype for value in found} == {np.dtype(dtype)}
    assert [value.shape for value in found[1 : 1 + len(variable)]] == [value.shape for value in variable]
    assert {key: value.shape for key, value in layer.grads.items()} == {key: value.shape for key, value in layer.params.items()}


@every_layer
@every_dtype
def test_an_empty_batch_gives_empty_gradients_and_exact_zeros(name, dtype):
    layer, inputs, dy = _make(name, dtype, batch=0)
    y, *gradients = _run(layer, inputs, dy)
    empty = gradients[: len(gradients) - len(layer.grads)]
    assert all(value.size == 0 for value in empty)
    assert all(not value.any() for value in layer.grads.values())
    assert np.isnan(y) if LAYERS[name].place == "loss" else y.size == 0


@every_layer
@every_dtype
def test_nothing_that_was_given_is_changed(name, dtype):
    layer, inputs, dy = _make(name, dtype)
    given = [*inputs, dy, *layer.params.values()]
    before = [value.copy() for value in given]
    for value in given:
        value.setflags(write=False)
    _run(layer, inputs, dy)
    assert all(np.array_equal(now, then) for now, then in zip(given, before, strict=True))


@every_layer
@every_dtype
def test_what_is_returned_shares_no_memory_with_what_was_given_or_kept(name, dtype):
    layer, inputs, dy = _make(name, dtype)
    found = _run(layer, inputs, dy)
    held = [*inputs, dy, *layer.params.values(), *(value for value in layer.cache if isinstance(value, np.ndarray))]
    assert not any(np.shares_memory(value, other) for value in found for other in held)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(found) for b in found[:i])


@every_layer
@every_dtype
@pytest.mark.parametrize("storage", ["fortran", "strided"])
def test_storage_does_not_matter_beyond_the_rounding_bound(name, dtype, storage):
    layer, inputs, dy = _make(name, dtype)
    plain = _run(layer, inputs, dy)
    moved = _run(layer, tuple(_restore(value, storage) for value in inputs), _restore(dy, storage))
    unit = np.finfo(dtype).eps / 2
    for a, b in zip(plain, moved, strict=True):
        sums = 4 * (1 + max(value.size for value in inputs)) * unit  # no sum here is longer than its input
        largest = np.abs(a).max(initial=0) + max(np.abs(value).max() for value in inputs) * np.abs(dy).max()
        assert np.abs(a - b).max(initial=0) <= sums * largest


def _restore(value, storage):
    if storage == "fortran" or not value.ndim:
        return np.asfortranarray(value)
    spaced = np.zeros([2 * size for size in value.shape], value.dtype)
    view = spaced[(slice(None, None, 2),) * value.ndim]
    view[...] = value
    return view


@every_layer
def test_backward_goes_back_to_any_forward_pass(name):
    layer, first, dy = _make(name, "float64", seed=1)
    expected = _run(layer, first, dy)
    kept = layer.cache
    _, second, _ = _make(name, "float64", seed=2)
    layer.forward(*second)
    layer.backward(dy)
    dx = layer.backward(dy, kept)
    again = [*(dx if isinstance(dx, tuple) else (dx,)), *layer.grads.values()]
    assert all(np.array_equal(a, b) for a, b in zip(expected[1:], again, strict=True))


@every_layer
def test_backward_is_linear_in_the_upstream_gradient(name):
    layer, inputs, dy = _make(name, "float64")
    once, twice, nothing = (_run(layer, inputs, factor * dy)[1:] for factor in (1.0, 2.0, 0.0))
    assert all(np.array_equal(2 * a, b) for a, b in zip(once, twice, strict=True))
    assert not any(value.any() for value in nothing)
    assert any(value.any() for value in once)


@every_layer
def test_backward_before_forward_says_what_is_missing(name):
    layer, _, dy = _make(name, "float64")
    layer.cache = ()
    with pytest.raises(RuntimeError, match="needs a forward pass"):
        layer.backward(dy)


@every_layer
def test_backpropagation_equals_complex_step_differentiation(name):
    """The seed of it all: the gradient by the chain rule is the gradient by differences, here without truncation."""
    layer, inputs, dy = _make(name, "float64", seed=3)
    kind = LAYERS[name]
    _, *gradients = _run(layer, inputs, dy)
    leaves = [value for value, varies in zip(inputs, kind.differentiable, strict=True) if varies]
    step = 1e-200
    rng = np.random.default_rng(4)
    for position, leaf in enumerate([*leaves, *layer.params.values()]):
        direction = rng.standard_normal(leaf.shape)
        arguments, params = list(inputs), {key: value.astype(complex) for key, value in layer.params.items()}
        if position < len(leaves):
            arguments[position] = leaf + 1j * step * direction
        else:
            key = list(params)[position - len(leaves)]
            params[key] = params[key] + 1j * step * direction
        slope = np.sum(dy * kind.formula(_Complex, params, *arguments).imag) / step
        terms = gradients[position] * direction
        roundings = 64 + terms.size + dy.size  # of exp, sums and products in both; every term counts once
        assert abs(terms.sum() - slope) <= roundings * np.finfo(np.float64).eps * (np.abs(terms).sum() + np.abs(dy).sum())


class _Complex:
    """NumPy, but for `max`, which takes the number with the largest real part."""

    where, exp, log, sum, arange, zeros_like = np.where, np.exp, np.log, np.sum, np.arange, np.zeros_like

    @staticmethod
    def max(x, axis, keepdims):
        assert keepdims
        return np.take_along_axis(x, x.real.argmax(axis=axis, keepdims=True), axis=axis)


def test_the_package_imports_numpy_alone():
    allowed = {"numpy", "reference_layers", "__future__", "collections", "dataclasses", "typing", "graphlib", "heapq", "re"}
    found = set()
    for path in Path(reference_layers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.split(".")[0] for name in names}
    assert "numpy" in found
    assert found <= allowed
