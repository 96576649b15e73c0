"""Functions of torch and JAX come in; that second derivatives that are not the formula's are told must hold."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch

from harness.core import BadInput
from harness.custom.contracts.contract import NotApplicable, Note
from harness.styles import from_jax, from_torch
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken


class Cube(torch.autograd.Function):
    """It saves its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * dy


class CubeOfSquare(Cube):
    """It saves what it made on the way, of which nothing leads back to the input."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.square = x * x
        return x**3

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return 3 * ctx.square * dy


class CubeOnce(CubeOfSquare):
    """And says so."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Any) -> Any:
        return 3 * ctx.square * dy


def cube(xp: Any, params: Any, x: Any) -> Any:
    return x * x * x


@jax.custom_vjp
def jax_cube(x: Any) -> Any:
    return x**3


jax_cube.defvjp(lambda x: (x**3, x), lambda x, dy: (3 * x * x * dy,))


@jax.custom_vjp
def jax_cube_stopped(x: Any) -> Any:
    return x**3


jax_cube_stopped.defvjp(lambda x: (x**3, x), lambda x, dy: (3 * jax.lax.stop_gradient(x * x) * dy,))


@pytest.mark.parametrize(("make", "right"), [(from_torch(Cube), True), (from_torch(CubeOfSquare), False)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_second_derivatives_of_torch(make: Any, right: bool, dtype: str) -> None:
    broken = find_broken(draw(make, cube, dtype=dtype, second_order=True))
    assert set(broken) == (set() if right else {"second_order"})
    assert right or "its second derivative is not the formula's" in broken["second_order"]


@pytest.mark.parametrize(("function", "right"), [(jax_cube, True), (jax_cube_stopped, False)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_second_derivatives_of_jax(function: Any, right: bool, dtype: str) -> None:
    said = ask("second_order", draw(from_jax(function), cube, dtype=dtype, second_order=True))
    assert isinstance(said, str)
    assert (said == "") is right


def test_functions_with_targets_are_asked_for_the_inputs_that_are_differentiated() -> None:
    formula = lambda xp, params, x, t: xp.sum((x - t) ** 2, axis=1)  # noqa: E731  # reason: it is short
    for make in (from_torch(lambda x, t: ((x - t) ** 2).sum(dim=1)), from_jax(lambda x, t: jnp.sum((x - t) ** 2, axis=1))):
        assert ask("second_order", draw(make, formula, [(4, 3), (4, 3)], constants=(1,))) == ""


def test_what_refuses_to_be_differentiated_twice_is_not_asked() -> None:
    with pytest.raises(NotApplicable, match="it offers no second derivative: RuntimeError"):
        ask("second_order", draw(from_torch(CubeOnce), cube))


def test_where_it_was_said_to_be_offered_a_refusal_is_told() -> None:
    assert "it raises RuntimeError" in str(ask("second_order", draw(from_torch(CubeOnce), cube, second_order=True)))


def test_where_nobody_said_that_it_is_offered_it_is_noted() -> None:
    said = ask("second_order", draw(from_torch(CubeOfSquare), cube))
    assert isinstance(said, Note)
    assert "its second derivative is not the formula's" in said.text


def test_whether_it_is_offered_is_yes_or_no() -> None:
    with pytest.raises(BadInput, match="second_order: 2; accepted are True and False"):
        draw(from_torch(Cube), cube, second_order=2)


def test_layers_of_arrays_are_not_asked() -> None:
    with pytest.raises(NotApplicable, match="only torch and JAX"):
        ask("second_order", draw(layers.Swish))
