"""Style 4: objects whose backward returns `(dX, [dW, db])` come in; factories of layers go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, copy_array, name_factory, read, write


def from_returned(make: Make, params: Sequence[str], forward: str = "forward", backward: str = "backward") -> Make:
    """Return a factory of layers around objects whose backward returns the parameters' gradients behind dx.

    `params` are the attributes that hold the parameters, in the order of the gradients, which follow dx one by one, or in
    one list, tuple or dict. Raises BadInput where backward returns another number of gradients.
    """

    class Returned(Wrapped):
        def forward(self, *inputs: Any) -> Any:
            for name, value in self.params.items():
                write(self.inner, name, value)
            return getattr(self.inner, forward)(*inputs)

        def backward(self, dy: Any) -> Any:
            dx, *rest = getattr(self.inner, backward)(dy)
            self.grads = _name(rest[0] if len(rest) == 1 and isinstance(rest[0], list | tuple | Mapping) else rest, params)
            return dx

    def build() -> Returned:
        inner = make()
        return Returned(inner, {name: read(inner, name, "params") for name in params})

    return name_factory(build, make)


def _name(found: Any, names: Sequence[str]) -> dict[str, Any]:
    if isinstance(found, Mapping):
        return {name: copy_array(value) for name, value in found.items()}
    if len(found) != len(names):
        raise BadInput(f"backward: it returned {len(found)} gradients behind dx; accepted are {len(names)}: {', '.join(names)}")
    return {name: copy_array(value) for name, value in zip(names, found, strict=True)}
