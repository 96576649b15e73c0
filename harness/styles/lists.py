"""Style 2: objects with the lists `params` and `grads` come in; factories of layers go out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory, read


def from_lists(make: Make, names: Sequence[str] = (), params: str = "params", grads: str = "grads") -> Make:
    """Return a factory of layers around objects that keep parameters and gradients in two lists of the same order.

    `names` names the entries; `params` and `grads` are the attributes that hold the lists. Gradients may be overwritten in
    place: they are copied. Raises BadInput where the number of names is not that of the parameters.
    """

    class Lists(Wrapped):
        def forward(self, *inputs: Any) -> Any:
            own, kept = getattr(self.inner, params), getattr(self.inner, grads)
            own[:] = self.params.values()
            # A gradient that is written in place takes the dtype of the array that was prepared for it.
            kept[:] = [_prepare(old, new) for old, new in zip(kept, self.params.values(), strict=False)]
            return self.inner.forward(*inputs)

        def backward(self, dy: Any) -> Any:
            dx = self.inner.backward(dy)
            self.grads = {name: np.array(value) for name, value in zip(names, getattr(self.inner, grads), strict=True)}
            return dx

    def build() -> Lists:
        inner = make()
        held = list(read(inner, params, "params"))
        if len(held) != len(names):
            raise BadInput(f"names: {list(names)}; accepted are {len(held)} of them, one for each entry of {params}")
        return Lists(inner, dict(zip(names, held, strict=True)))

    return name_factory(build, make)


def _prepare(old: Any, new: Any) -> Any:
    return old.astype(new.dtype) if isinstance(old, np.ndarray) and old.shape == np.shape(new) else old
