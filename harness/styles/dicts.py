"""Style 3: objects with dicts of parameters and gradients come in; factories of layers go out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.styles.wrapped import Make, Wrapped, name_factory, read


def from_dicts(
    make: Make, params: str = "params", grads: str = "grads", *, reset: Callable[[Any], Any] | None = None,
    first: Sequence[Any] = (), accumulates: bool = False,
) -> Make:  # fmt: skip
    """Return a factory of layers around objects that keep parameters and gradients in two dicts of the same keys.

    `reset` is called with the object before each backward pass, where gradients add up until they are reset;
    `accumulates` sets the arrays of gradients to 0 instead. `first` are inputs for one forward pass, where the parameters
    are made lazily by it.
    """

    class Dicts(Wrapped):
        def forward(self, *inputs: Any) -> Any:
            getattr(self.inner, params).update(self.params)
            return self.inner.forward(*inputs)

        def backward(self, dy: Any) -> Any:
            if reset is not None:
                reset(self.inner)
            if accumulates:
                _clear(getattr(self.inner, grads), self.params)
            dx = self.inner.backward(dy)
            self.grads = {name: np.array(value) for name, value in getattr(self.inner, grads).items() if name in self.params}
            return dx

    def build() -> Dicts:
        inner = make()
        if first:
            inner.forward(*first)
        return Dicts(inner, read(inner, params, "params"))

    return name_factory(build, make)


def _clear(grads: dict[str, Any], params: dict[str, Any]) -> None:
    for name, value in params.items():
        if grads.get(name) is not None:
            grads[name] = np.zeros_like(value)
