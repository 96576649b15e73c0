"""Options of every style: a factory of layers and what is peculiar about them come in, a factory without it goes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.styles.wrapped import Make, Wrapped, name_factory


def adjust(
    make: Make, *, before: Callable[[Any], Any] | None = None, gradient_scale: float | Callable[..., Any] | None = None,
    input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None, join: bool = False,
) -> Make:  # fmt: skip
    """Return a factory of the same layers with their peculiarities taken out.

    `before` is called with the stranger's object before every forward pass: to seed what is random, to choose training or
    evaluation (an argument, an attribute or a global, as it may be). `gradient_scale` is what the parameters' gradients are
    multiplied by on purpose, a number or a function of the inputs (1 / batch), and is divided out. `input_axes` is the
    order of axes in which the layer takes its first input, where the formula takes another: (0, 2, 3, 1) for a layer of
    channels last; `output_axes` brings its output back. `join` judges all outputs of a tuple: as one row, one behind the
    other; the formula joins a tuple in the same way.
    """
    peculiar = Peculiar(before, gradient_scale, input_axes, output_axes, join)
    return name_factory(lambda: Adjusted(make(), peculiar), make)


@dataclass(frozen=True, eq=False)
class Peculiar:
    """What is peculiar about a layer: the arguments of `adjust`."""

    before: Callable[[Any], Any] | None
    gradient_scale: float | Callable[..., Any] | None
    input_axes: Sequence[int] | None
    output_axes: Sequence[int] | None
    join: bool


class Adjusted(Wrapped):
    """A layer, `inner`, with its peculiarities taken out."""

    keeps, wraps_layer = ("inputs", "shapes"), True

    def __init__(self, inner: Any, peculiar: Peculiar) -> None:
        super().__init__(inner, getattr(inner, "params", None) or {})
        self.peculiar = peculiar
        self.follows_dtype = getattr(inner, "follows_dtype", False)

    def forward(self, *inputs: Any) -> Any:
        """Return y as the formula has it."""
        own = self.peculiar
        if own.before is not None:
            own.before(getattr(self.inner, "inner", None) or self.inner)
        if self.params:
            self.inner.params.update(self.params)
        self.inputs = inputs
        y = self.inner.forward(_turn(inputs[0], own.input_axes), *inputs[1:])
        if own.join:
            self.shapes = [np.shape(part) for part in y]
            return np.concatenate([np.ravel(part) for part in y])
        return _turn(y, own.output_axes)

    def backward(self, dy: Any) -> Any:
        """Return dx as the formula has it, and keep the parameters' gradients so."""
        own = self.peculiar
        dx = self.inner.backward(self._hand_down(dy))
        scale = own.gradient_scale(*self.inputs) if callable(own.gradient_scale) else own.gradient_scale
        grads = getattr(self.inner, "grads", None) or {}
        self.grads = {name: value / scale if scale is not None else value for name, value in grads.items()}
        return (_turn_back(dx[0], own.input_axes), *dx[1:]) if isinstance(dx, tuple) else _turn_back(dx, own.input_axes)

    def _hand_down(self, dy: Any) -> Any:
        if not self.peculiar.join:
            return _turn_back(dy, self.peculiar.output_axes)
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        return tuple(part.reshape(shape) for part, shape in zip(np.split(dy, ends), self.shapes, strict=True))


def _turn(value: Any, axes: Sequence[int] | None) -> Any:
    return value if axes is None else np.transpose(value, axes)


def _turn_back(value: Any, axes: Sequence[int] | None) -> Any:
    return value if axes is None else np.transpose(value, np.argsort(axes))
