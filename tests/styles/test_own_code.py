"""Functions of torch and JAX with backward passes of their own come in; their forward code alone must be differentiated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.styles import from_jax, from_torch
from harness.styles.jax_functions import find_undecorated

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

X = np.random.default_rng(12).standard_normal((3, 4))
DY = np.random.default_rng(13).uniform(0.5, 2, (3, 4))
Function: Any = torch.autograd.Function


class Wrong(Function):
    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        raise AssertionError("the backward pass under test was asked for the reference")


class Saves(Wrong):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        ctx.power = 3
        return x**ctx.power if ctx.needs_input_grad[0] else x * 0


class Sets(Wrong):
    @staticmethod
    def forward(x: Any) -> Any:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)


class InPlace(Wrong):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.mark_dirty(x)
        return x.pow_(3)


class Second(Wrong):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        index = x.argmax(dim=-1)
        ctx.mark_non_differentiable(index)
        return index, x**3


@pytest.mark.parametrize(("function", "settings"), [(Saves, {}), (Sets, {}), (InPlace, {}), (Second, {"output": 1})])
def test_the_forward_code_of_a_function_is_differentiated_without_its_backward(function: Any, settings: Any) -> None:
    layer = from_torch(function, **settings)()
    (dx,), grads = layer.differentiate_forward(DY, X)
    assert dx == pytest.approx(3 * X * X * DY)
    assert not grads
    assert layer.evaluate(X) == pytest.approx(X**3)


def test_arguments_that_are_no_floats_get_none() -> None:
    class Chooses(Wrong):
        @staticmethod
        def forward(ctx: Any, x: Any, index: Any, factor: Any) -> Any:
            return factor * x[index]

    index = np.array([2, 0, 2])
    dx, nothing = from_torch(Chooses, extra=[2.0])().differentiate_forward(DY, X, index)[0]
    assert nothing is None
    assert dx[2] == pytest.approx(2 * (DY[0] + DY[2]))
    assert not dx[1].any()


def test_what_leaves_torch_cannot_be_differentiated() -> None:
    class Leaves(Wrong):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return torch.from_numpy(x.detach().numpy() ** 3)

    with pytest.raises(RuntimeError, match="does not require grad"):
        from_torch(Leaves)().differentiate_forward(DY, X)


def test_a_module_is_known_for_autodiff_unless_it_holds_a_function_of_its_own() -> None:
    class Holds(torch.nn.Module):  # type: ignore[misc, name-defined]  # reason: torch has no types where it is asked for by a test
        def forward(self, x: Any) -> Any:
            return Saves.apply(x) + 1

    for module, plain in ((torch.nn.Tanh(), True), (Holds(), False), (lambda x: Saves.apply(x) * 2, False)):
        layer = from_torch(module)()
        assert layer.differentiate_forward(DY, X) is None
        layer.forward(X)
        assert layer.is_autodiff is plain


def make_custom() -> tuple[Any, Any]:
    @jax.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (x**3, None), lambda kept, dy: (dy * jax.numpy.nan,))

    @jax.custom_jvp
    def forward_mode(x: Any) -> Any:
        return x**3

    forward_mode.defjvp(lambda primals, tangents: (primals[0] ** 3, tangents[0] * jax.numpy.nan))
    return cube, forward_mode


def test_what_custom_rules_decorate_is_differentiated_without_them() -> None:
    cube, forward_mode = make_custom()
    before = jax.config.jax_enable_x64
    for function in (cube, forward_mode, jax.jit(cube)):
        layer = from_jax(function)()
        (dx,), grads = layer.differentiate_forward(DY, X)
        assert dx == pytest.approx(3 * X * X * DY, rel=1e-14)
        assert not grads
        assert layer.evaluate(X) == pytest.approx(X**3, rel=1e-14)
        assert layer.evaluate(X).dtype == np.float64
        layer.forward(X)
        assert not layer.is_autodiff
        assert np.isnan(layer.backward(DY)[0]).all()
    assert jax.config.jax_enable_x64 == before


def test_parameters_and_arguments_that_are_no_arrays_are_handed_on() -> None:
    from functools import partial

    @partial(jax.custom_vjp, nondiff_argnums=(2,))
    def scale(weights: Any, x: Any, power: int) -> Any:
        return weights["w"] * x**power

    scale.defvjp(lambda weights, x, power: (weights["w"] * x**power, None), lambda power, kept, dy: ({"w": dy.sum() * 0}, dy * 0))
    w = np.array([0.5, 1.0, -2.0, 3.0])
    layer = from_jax(scale, params={"w": w}, extra=[3])()
    (dx,), grads = layer.differentiate_forward(DY, X)
    assert dx == pytest.approx(3 * w * X * X * DY)
    assert grads["w"] == pytest.approx((X**3 * DY).sum(axis=0))


def test_plain_functions_have_nothing_to_undress() -> None:
    assert find_undecorated(jax.numpy.tanh) is None
    layer = from_jax(jax.numpy.tanh)()
    assert layer.differentiate_forward(DY, X) is None
    layer.forward(X)
    assert layer.is_autodiff
