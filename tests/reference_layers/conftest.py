"""Layer classes come in; layers with random parameters and inputs, their gradients, and numerical derivatives go out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from reference_layers import Rounding

Array = np.ndarray[Any, Any]
STEP = 2.0**-9


@dataclass(frozen=True, eq=False)
class Sample:
    """A layer with inputs for its forward pass and a cotangent, bounded away from zero, for its backward pass."""

    layer: Any
    inputs: tuple[Array, ...]
    dy: Any

    def forward(self) -> Any:
        """Return the output."""
        return self.layer.forward(*self.inputs)

    def backward(self, cache: Any = None) -> dict[str, Array]:
        """Return the gradients of the differentiable inputs (dx0, dx1 ...) and of the parameters (dW, db ...)."""
        return collect(self.layer, self.layer.backward(self.dy, cache))

    def gradients(self) -> dict[str, Array]:
        """Return the gradients after a forward pass."""
        self.forward()
        return self.backward()


def collect(layer: Any, returned: Any) -> dict[str, Array]:
    """Return what a backward pass gave, by name."""
    dx = returned if isinstance(returned, tuple) else (returned,)
    return {f"dx{i}": value for i, value in enumerate(dx)} | {f"d{key}": value for key, value in layer.grads.items()}


@pytest.fixture(scope="session")
def draw() -> Callable[..., Sample]:
    """Return a function that makes a sample of a layer class."""

    def make(kind: Any, dtype: str = "float64", batch: int = 5, width: int = 4, seed: int = 0) -> Sample:
        rng = np.random.default_rng(seed)
        layer = kind(**{name: value.astype(dtype) for name, value in kind.initial_params(rng, width, width + 1).items()})
        inputs = tuple(_as(value, dtype) for value in kind.sample_inputs(rng, batch, width))
        y = np.asarray(kind(**layer.params).forward(*inputs))
        dy = (rng.uniform(0.5, 2.0, y.shape) * rng.choice([-1.0, 1.0], y.shape)).astype(dtype)
        return Sample(layer, inputs, dy if y.ndim else dy[()])

    return make


@pytest.fixture(scope="session")
def rounding() -> Callable[[str], Rounding]:
    """Return a function that gives the arithmetic of a dtype in which the layers themselves compute."""
    return lambda dtype: Rounding(*[float(np.finfo(dtype).eps) / 2] * 2, tiny=float(np.finfo(dtype).tiny))


@pytest.fixture(scope="session")
def differentiate() -> Callable[..., tuple[Array, float]]:
    """Return a function that differentiates a scalar function of one array numerically and estimates its own error.

    Central differences D(h) and D(h/2) give (4 D(h/2) - D(h)) / 3, whose truncation is of the order h^4. The
    estimate takes that of D(h/2) instead, of the order h^2, and adds what `noise`, the error of one evaluation,
    does to three quotients: (4 * 2 noise / h + 2 noise / 2h) / 3 = 3 noise / h. The entries of x should be
    multiples of a power of two, so that x + h and x - h are exact.
    """

    def run(function: Callable[[Array], float], x: Array, noise: float) -> tuple[Array, float]:
        far, near = _central(function, x, STEP), _central(function, x, STEP / 2)
        derivative = (4 * near - far) / 3
        return derivative, float(np.abs(derivative - near).max()) + 3 * noise / STEP

    return run


def _central(function: Callable[[Array], float], x: Array, h: float) -> Array:
    derivative = np.empty_like(x)
    for index in np.ndindex(x.shape):
        values = []
        for step in (h, -h):
            moved = x.copy()
            moved[index] += step
            values.append(function(moved))
        derivative[index] = (values[0] - values[1]) / (2 * h)
    return derivative


def _as(value: Array, dtype: str) -> Array:
    return value.astype(dtype) if value.dtype.kind == "f" else value
