"""Style 8: an activation and its derivative, two functions of an array, come in; a factory of layers goes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory


def from_activation(
    function: Callable[[Any], Any], derivative: Callable[[Any], Any], at: Literal["input", "output"] = "input"
) -> Make:
    """Return a factory of layers y = function(x), dx = dy * derivative(x), or derivative(y) where `at` is "output".

    >>> import numpy as np
    >>> layer = from_activation(np.tanh, lambda y: 1 - y * y, at="output")()
    >>> float(layer.forward(np.zeros(1))[0]), float(layer.backward(np.ones(1))[0])
    (0.0, 1.0)
    """
    if at not in ("input", "output"):
        raise BadInput(f"at: {at!r}; accepted are input, output: where the derivative is taken")

    class Activation(Wrapped):
        keeps = ("x", "y")

        def forward(self, x: Any) -> Any:
            self.x, self.y = x, function(x)
            return np.array(self.y)  # the caller's own: whether he writes to it is not the function's matter

        def backward(self, dy: Any) -> Any:
            return dy * derivative(self.x if at == "input" else self.y)

    return name_factory(lambda: Activation(None, {}), function)
