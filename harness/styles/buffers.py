"""Style 6: objects that take and give everything through attributes come in; factories of layers go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.styles.wrapped import Make, Wrapped, name_factory, read, write


def from_buffers(
    make: Make, *, inputs: Sequence[str] = ("x",), output: str = "y", upstream: str = "dy", gradients: Sequence[str] = ("dx",),
    params: Mapping[str, str] | None = None, forward: str = "forward", backward: str = "backward",
) -> Make:  # fmt: skip
    """Return a factory of layers around objects whose passes take no arguments and return nothing.

    The attributes (dotted paths) `inputs` are set and `output` is read; then `upstream` is set to dy, the buffers
    `gradients` are set to 0, for objects that add into them, and read after backward. `params` gives the attribute of the
    gradient for each parameter's attribute.
    """
    pairs = dict(params or {})

    class Buffers(Wrapped):
        def forward(self, *given: Any) -> Any:
            self.given = given
            for place, value in [*self.params.items(), *zip(inputs, given, strict=True)]:
                write(self.inner, place, value)
            getattr(self.inner, forward)()
            return np.array(read(self.inner, output, "output"))  # the buffer stays the object's own

        def backward(self, dy: Any) -> Any:
            write(self.inner, upstream, dy)
            buffers = [*zip(gradients, self.given, strict=True), *((place, self.params[name]) for name, place in pairs.items())]
            for place, like in buffers:
                write(self.inner, place, np.zeros_like(like))
            getattr(self.inner, backward)()
            self.grads = {name: np.array(read(self.inner, place, "params")) for name, place in pairs.items()}
            return tuple(np.array(read(self.inner, place, "gradients")) for place in gradients)

    def build() -> Buffers:
        inner = make()
        return Buffers(inner, {name: read(inner, name, "params") for name in pairs})

    return name_factory(build, make)
