"""Style 5: objects that update their weights inside the backward pass come in; factories of layers go out.

The gradient is never handed out: it is caught on its way into the optimizer, or read off the step that was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory, read, write

# A step so large that the weights themselves are lost beside it: what they lose is then the gradient to a few ulps.
LARGE_STEP = 2.0**40


class Catcher:
    """An optimizer that keeps each gradient and takes no step; copies of it share what was caught."""

    def __init__(self) -> None:
        self.caught: list[tuple[Any, Any]] = []

    def update(self, weight: Any, gradient: Any) -> Any:
        """Keep the gradient and return the weight as it is."""
        self.caught.append((weight, np.array(gradient)))
        return weight

    __call__ = step = apply = update

    def __copy__(self) -> Catcher:
        return self

    def __deepcopy__(self, memo: Any) -> Catcher:
        return self


def from_updating(
    make: Make, params: Sequence[str], *, install: Callable[[Any, Catcher], Any] | None = None, learning_rate: str | None = None,
    forward: str = "forward", backward: str = "backward",
) -> Make:  # fmt: skip
    """Return a factory of layers around objects that update the attributes `params` within backward.

    Either `install(object, optimizer)` gives the object an optimizer, whose `update(weight, gradient)` (or `step`, `apply`,
    a plain call) is called for each weight; or `learning_rate` is the attribute of a plain step `W -= learning_rate * dW`.
    Raises BadInput unless just one of the two is given.
    """
    if (install is None) == (learning_rate is None):
        raise BadInput("install, learning_rate: accepted is just one of the two: an optimizer to give, or the step's attribute")

    class Updating(Wrapped):
        def forward(self, *inputs: Any) -> Any:
            for name, value in self.params.items():
                write(self.inner, name, np.array(value))
            return getattr(self.inner, forward)(*inputs)

        def backward(self, dy: Any) -> Any:
            before = {name: read(self.inner, name, "params") for name in params}
            old = {name: np.array(value) for name, value in before.items()}
            if learning_rate is not None:
                write(self.inner, learning_rate, LARGE_STEP)
                dx = getattr(self.inner, backward)(dy)
                self.grads = {
                    name: (old[name] - read(self.inner, name, "params")) / old[name].dtype.type(LARGE_STEP) for name in params
                }
            else:
                dx, self.grads = self._catch(dy, before)
            for name, value in old.items():  # so that a second backward pass starts from the same weights
                write(self.inner, name, value)
            return dx

        def _catch(self, dy: Any, before: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            assert install is not None
            catcher = Catcher()
            install(self.inner, catcher)
            dx = getattr(self.inner, backward)(dy)
            return dx, {name: value for name, own in before.items() for weight, value in catcher.caught if weight is own}

    def build() -> Updating:
        inner = make()
        return Updating(inner, {name: read(inner, name, "params") for name in params})

    return name_factory(build, make)
