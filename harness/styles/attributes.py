"""Style 1: objects whose parameters and gradients are attributes, `W` and `dW`, come in; factories of layers go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.styles.wrapped import Make, Wrapped, copy_array, name_factory, read, write


def from_attributes(
    make: Make, params: Sequence[str] = (), grads: str | Mapping[str, str] = "d{}", *, forward: str = "forward",
    backward: str = "backward",
) -> Make:  # fmt: skip
    """Return a factory of layers around objects that keep parameters and gradients as attributes.

    `make` makes a fresh object; `params` are its attributes; `grads` gives the attribute of each gradient, by the
    parameter's name or as a pattern. Dotted paths are allowed. Raises BadInput where an attribute is missing.

    >>> from types import SimpleNamespace
    >>> make = from_attributes(lambda: SimpleNamespace(W=3.0, forward=None, backward=None), params=["W"])
    >>> sorted(make().params)
    ['W']
    """
    places = {name: grads.format(name) if isinstance(grads, str) else grads[name] for name in params}

    class Attributes(Wrapped):
        def forward(self, *inputs: Any) -> Any:
            for name, value in self.params.items():
                write(self.inner, name, value)
            return getattr(self.inner, forward)(*inputs)

        def backward(self, dy: Any) -> Any:
            dx = getattr(self.inner, backward)(dy)
            self.grads = {name: copy_array(read(self.inner, place, "grads")) for name, place in places.items()}
            return dx

    def build() -> Attributes:
        inner = make()
        return Attributes(inner, {name: read(inner, name, "params") for name in params})

    return name_factory(build, make)
