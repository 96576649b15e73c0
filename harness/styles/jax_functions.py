"""Style 12: `jax.custom_vjp` and `custom_jvp` functions come in; factories of layers over arrays go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory


def from_jax(
    function: Callable[..., Any], *, params: Mapping[str, Any] | None = None, extra: Sequence[Any] = (),
    before: Sequence[Any] = (), output: int = 0,
) -> Make:  # fmt: skip
    """Return a factory of layers around a function of JAX arrays, called as `function(*before, params, *inputs, *extra)`.

    `params`, a dict of arrays, is handed over only where it is given; `before` and `extra` are arguments that are no arrays
    (`nondiff_argnums`). Where several outputs come, the one at the place `output` is judged. The backward pass is `jax.vjp`
    in the precision of the arrays, with 64-bit numbers switched on for just that long; inputs of integers get None. Raises
    BadInput on anything that cannot be called.
    """
    if not callable(function):
        raise BadInput(f"function: {function!r:.80}; accepted is a function of JAX arrays")

    class Jax(Wrapped):
        follows_dtype = True

        def forward(self, *inputs: Any) -> Any:
            import jax

            self.inputs = [np.array(value) for value in inputs]
            places = [i for i, value in enumerate(self.inputs) if value.dtype.kind == "f"]
            with jax.enable_x64(True):
                self.y, self.pull = jax.vjp(self._bind(places), dict(self.params), [self.inputs[i] for i in places])
            return np.array(self.y)

        def _bind(self, places: Sequence[int]) -> Callable[..., Any]:
            import jax.numpy as jnp

            def call(weights: Any, floats: Any) -> Any:
                given = dict(zip(places, floats, strict=True))
                arguments = [given.get(i, jnp.asarray(value)) for i, value in enumerate(self.inputs)]
                y = function(*before, *([weights] if params is not None else []), *arguments, *extra)
                return y[output] if isinstance(y, tuple | list) else y

            return call

        def backward(self, dy: Any) -> Any:
            import jax

            with jax.enable_x64(True):
                weights, floats = self.pull(np.array(dy))
            self.grads = {name: np.array(value) for name, value in weights.items()}
            rest = iter(floats)
            return tuple(np.array(next(rest)) if value.dtype.kind == "f" else None for value in self.inputs)

    return name_factory(lambda: Jax(None, params or {}), function)
