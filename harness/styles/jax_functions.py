"""Style 12: `jax.custom_vjp` and `custom_jvp` functions come in; factories of layers over arrays go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory

MOST_WRAPPED = 32


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
    call = JaxCall(function, params is not None, tuple(before), tuple(extra), output)
    return name_factory(lambda: JaxLayer(call, params or {}), function)


@dataclass(frozen=True, eq=False)
class JaxCall:
    """A function of JAX arrays, what it is called with beside its inputs, and which of its outputs is judged."""

    function: Callable[..., Any]
    takes_params: bool
    before: tuple[Any, ...]
    extra: tuple[Any, ...]
    output: int

    def run(self, weights: Any, inputs: Sequence[Any]) -> Any:
        """Return the output that is judged."""
        y = self.function(*self.before, *([weights] if self.takes_params else []), *inputs, *self.extra)
        return y[self.output] if isinstance(y, tuple | list) else y


class JaxLayer(Wrapped):
    """A layer of arrays whose forward pass is the call, and whose backward pass is its `jax.vjp`."""

    follows_dtype = True
    keeps = ("inputs", "y", "pull")

    def __init__(self, call: JaxCall, params: Mapping[str, Any]) -> None:
        super().__init__(None, params)
        self.call = call

    def forward(self, *inputs: Any) -> Any:
        """Return y."""
        import jax

        self.inputs = [np.array(value) for value in inputs]
        places = _find_floats(self.inputs)
        with jax.enable_x64(True):
            weights = {name: jax.numpy.asarray(value) for name, value in self.params.items()}
            floats = [jax.numpy.asarray(self.inputs[i]) for i in places]
            self.y, self.pull = jax.vjp(self._bind(places), weights, floats)
        return np.array(self.y)

    def backward(self, dy: Any) -> Any:
        """Return dx, None for each input of integers."""
        import jax

        with jax.enable_x64(True):
            weights, floats = self.pull(jax.numpy.asarray(np.array(dy)))
        self.grads = {name: np.array(value) for name, value in weights.items()}
        rest = iter(floats)
        return tuple(np.array(next(rest)) if value.dtype.kind == "f" else None for value in self.inputs)

    def evaluate(self, *inputs: Any) -> Any:
        """Return y by running the function alone."""
        import jax
        import jax.numpy as jnp

        with jax.enable_x64(True):
            return np.array(self.call.run(jax.tree.map(jnp.asarray, dict(self.params)), [jnp.asarray(value) for value in inputs]))

    def differentiate_forward(self, dy: Any, *inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return dx and the parameters' gradients of the function beneath its own rule; None where it has none."""
        plain = find_undecorated(self.call.function)
        if plain is None:
            return None
        alone = JaxLayer(replace(self.call, function=plain), self.params)
        alone.forward(*inputs)
        return alone.backward(dy), alone.grads

    @property
    def is_autodiff(self) -> bool:
        """Whether nothing that the function calls has a rule of its own."""
        return not _holds_custom(self._bind(range(len(self.inputs))), dict(self.params), self.inputs)

    def pull_twice(self, inputs: Sequence[Any], dy: Any, weights: Sequence[Any]) -> tuple[Any, ...]:
        """Return the gradients, by the inputs of floats and by dy, of the sum of dx times the weights."""
        self.inputs = [np.array(value) for value in inputs]
        places = _find_floats(self.inputs)
        call = self._bind(places)
        return _differentiate_pull(partial(call, dict(self.params)), [self.inputs[i] for i in places], dy, weights)

    def _bind(self, places: Sequence[int]) -> Callable[..., Any]:
        """Return the call as a function of the parameters and of those inputs that are floats."""
        import jax.numpy as jnp

        def run(weights: Any, floats: Any) -> Any:
            given = dict(zip(places, floats, strict=True))
            return self.call.run(weights, [given.get(i, jnp.asarray(value)) for i, value in enumerate(self.inputs)])

        return run


def _holds_custom(call: Callable[..., Any], params: Any, inputs: Any) -> bool:
    """Whether what a call does holds a derivative rule of somebody's own."""
    import jax

    with jax.enable_x64(True):
        return "custom_" in str(jax.make_jaxpr(call)(params, inputs))


def _find_floats(values: Sequence[Any]) -> list[int]:
    return [i for i, value in enumerate(values) if value.dtype.kind == "f"]


def _differentiate_pull(call: Callable[..., Any], floats: Sequence[Any], dy: Any, weights: Sequence[Any]) -> tuple[Any, ...]:
    """Return the gradients, by the inputs and by dy, of the sum of dx times the weights."""
    import jax

    def weigh(given: Any, upstream: Any) -> Any:
        _, pull = jax.vjp(call, given)
        return sum((part * weight).sum() for part, weight in zip(pull(upstream)[0], weights, strict=True))

    with jax.enable_x64(True):
        by_floats, by_dy = jax.grad(weigh, argnums=(0, 1))(list(floats), np.array(dy))
    return (*(np.array(part) for part in by_floats), np.array(by_dy))


def find_undecorated(function: Any) -> Callable[..., Any] | None:
    """Return the function beneath `custom_vjp` or `custom_jvp`, with nothing but its own code; None where it is neither."""
    import jax

    seen = 0
    while function is not None and seen < MOST_WRAPPED:
        if isinstance(function, jax.custom_vjp | jax.custom_jvp):
            plain: Callable[..., Any] = function.fun
            return plain
        function, seen = getattr(function, "__wrapped__", None), seen + 1
    return None
