"""Style 7: pairs `f_forward(*in) -> (out, cache)`, `f_backward(dout, cache)` come in; factories of layers go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory


def from_functions(
    forward: Callable[..., Any], backward: Callable[..., Any], *, params: Mapping[str, Any] | None = None,
    order: Sequence[str] = (), extra: Sequence[Any] = (),
) -> Make:  # fmt: skip
    """Return a factory of layers around a pair of functions that hand a cache from one to the other.

    `params` holds the arrays that are parameters; `order` names the arguments of `forward`, and the gradients that
    `backward` returns, in turn: a name that is no parameter's is an input. Left out, it is the inputs, then `params`.
    `extra` are further arguments, of which each forward pass gets fresh copies; they have no gradient, and are a list of each
    layer's own, `extra`, in which a mode may be switched. Raises BadInput
    where `backward` returns another number of gradients than `order` names.
    """
    own = dict(params or {})
    if missing := sorted(set(own) - set(order)) if order else []:
        raise BadInput(
            f"order: {list(order)} names no {', '.join(missing)}; accepted are all of params, and a name for each input"
        )

    class Functions(Wrapped):
        keeps = ("names", "cache")
        extra: list[Any]

        def forward(self, *inputs: Any) -> Any:
            self.names = list(order) or [*(f" {i}" for i in range(len(inputs))), *own]
            rest = iter(inputs)
            arguments = [self.params[name] if name in own else next(rest) for name in self.names]
            y, self.cache = forward(*arguments, *deepcopy(self.extra))
            return y

        def backward(self, dy: Any) -> Any:
            found = backward(dy, self.cache)
            parts = list(found) if isinstance(found, tuple | list) else [found]
            if len(parts) != len(self.names):
                raise BadInput(
                    f"backward: it returned {len(parts)} gradients; accepted are {len(self.names)}, one for each argument"
                )
            self.grads = {name: part for name, part in zip(self.names, parts, strict=True) if name in own}
            return tuple(part for name, part in zip(self.names, parts, strict=True) if name not in own)

    def build() -> Functions:
        functions = Functions(None, own)
        functions.extra = deepcopy(list(extra))
        return functions

    return name_factory(build, forward)
