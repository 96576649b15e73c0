"""Options of every style: a factory of layers and what is peculiar about them come in, a factory without it goes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    back_in = np.argsort(input_axes) if input_axes is not None else None
    back_out = np.argsort(output_axes) if output_axes is not None else None

    class Adjusted(Wrapped):
        keeps, wraps_layer = ("inputs", "shapes"), True

        def forward(self, *inputs: Any) -> Any:
            if before is not None:
                before(getattr(self.inner, "inner", None) or self.inner)
            if self.params:
                self.inner.params.update(self.params)
            self.inputs = inputs
            first = np.transpose(inputs[0], input_axes) if input_axes is not None else inputs[0]
            y = self.inner.forward(first, *inputs[1:])
            if join:
                self.shapes = [np.shape(part) for part in y]
                return np.concatenate([np.ravel(part) for part in y])
            return np.transpose(y, output_axes) if output_axes is not None else y

        def backward(self, dy: Any) -> Any:
            dx = self.inner.backward(self._hand_down(dy))
            scale = gradient_scale(*self.inputs) if callable(gradient_scale) else gradient_scale
            grads = getattr(self.inner, "grads", None) or {}
            self.grads = {name: value / scale if scale is not None else value for name, value in grads.items()}
            if back_in is None:
                return dx
            return (np.transpose(dx[0], back_in), *dx[1:]) if isinstance(dx, tuple) else np.transpose(dx, back_in)

        def _hand_down(self, dy: Any) -> Any:
            if join:
                ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
                return tuple(part.reshape(shape) for part, shape in zip(np.split(dy, ends), self.shapes, strict=True))
            return np.transpose(dy, back_out) if back_out is not None else dy

    def build() -> Adjusted:
        inner = make()
        adjusted = Adjusted(inner, getattr(inner, "params", None) or {})
        adjusted.follows_dtype = getattr(inner, "follows_dtype", False)
        return adjusted

    return name_factory(build, make)
