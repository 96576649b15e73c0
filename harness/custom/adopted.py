"""Adoption: the specification of anybody's layer comes in, a class that the harness runs and judges like its own goes out."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.core import Array
from harness.custom.hearing import heed
from harness.strangers import find, show
from harness.styles.wrapped import Wrapped
from reference_layers.layer import Place

if TYPE_CHECKING:
    from harness.custom.spec import LayerSpec


@lru_cache(maxsize=32)
def adopt(spec: LayerSpec, count: int, constants: frozenset[int], declared: bool = False) -> Any:
    """Return a layer class for a specification with `count` inputs, of which `constants` have no gradient.

    It is made as the reference layers are, by its parameters, and makes a fresh layer of the user's for each object. One
    specification has one class, for which what the judge learns of its noise is kept; `declared` asks for a second one,
    whose formula is the one that the specification declares its gradients to be of.
    """
    follows = find(spec.make(), "follows_dtype") is True

    class Adopted:
        name: ClassVar[str] = spec.name
        place: ClassVar[Place] = "alone"
        differentiable: ClassVar[tuple[bool, ...]] = tuple(i not in constants for i in range(count))
        native: ClassVar[Mapping[str, Any]] = {}
        hazards: ClassVar[tuple[Any, ...]] = ()
        worked: ClassVar[tuple[Any, ...]] = ()
        formula = staticmethod(_choose_formula(spec, declared))
        follows_dtype: ClassVar[bool] = follows
        modes: ClassVar[Mapping[str, Any] | None] = spec.modes
        second_order: ClassVar[bool] = spec.second_order

        def __init__(self, **params: Array) -> None:
            with heed():
                self.layer = spec.make()
                give_params(self.layer, params)
            self.params = params
            self.grads: dict[str, Any] = {}
            self.cache: tuple[Any, ...] = ()

        def forward(self, *inputs: Array) -> Any:
            with heed():
                return require_array("forward", self.layer.forward(*map(_lend, inputs)))

        def evaluate(self, *inputs: Array) -> Any:
            """Return the output alone: a style may know how to get it without recording what backward needs."""
            run = self.layer.evaluate if isinstance(self.layer, Wrapped) else self.layer.forward
            with heed():
                return run(*inputs)

        def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Any:
            with heed():
                dx = self.layer.backward(_lend(dy))
                self.grads = require_grads(getattr(self.layer, "grads", None))
            return require_gradients(dx, count)

    Adopted.__name__ = Adopted.__qualname__ = spec.name
    return Adopted


def _choose_formula(spec: LayerSpec, declared: bool) -> Any:
    """Return the formula of the gradients, or the output's with that joined: frameworks refuse what is flat everywhere.

    There is none where the specification has none.
    """
    formula, gradient = spec.formula, spec.gradient
    if gradient is None:
        return formula
    if declared or formula is None:
        return gradient
    return lambda xp, params, *inputs: formula(xp, params, *inputs) + 0.0 * gradient(xp, params, *inputs)


def give_params(layer: Any, params: Mapping[str, Array]) -> None:
    """Put parameters into a layer: into its `params`, and wherever it holds the same array under a name of its own.

    A gradient that is written in place takes the dtype of the array that was prepared for it: such arrays are cast as well.
    Raises TypeError where they do not arrive: a layer that keeps other parameters is judged by the wrong ones.
    """
    own = find(layer, "params")
    before = dict(own) if isinstance(own, Mapping) else {}
    lent = {name: _lend(value) for name, value in params.items()}
    if isinstance(own, MutableMapping):
        own.update(lent)
    else:
        _set(layer, "params", dict(lent))
    _replace(layer, before, lent)
    grads = find(layer, "grads")
    if isinstance(grads, MutableMapping):
        held = dict(grads)
        prepared = {name: _prepare(held[name], value) for name, value in lent.items() if _fits(held.get(name), before.get(name))}
        grads.update(prepared)
        _replace(layer, held, prepared)
    now = find(layer, "params")
    if lost := [name for name, value in lent.items() if not isinstance(now, Mapping) or now.get(name) is not value]:
        raise TypeError(f"its params take no other {', '.join(lost)}: {show(now)}; accepted is a dict that can be written to")


def _replace(layer: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Put other arrays into the attributes in which a layer holds the ones from before."""
    for attribute, value in list((find(layer, "__dict__") or {}).items()):
        for name, old in before.items():
            if value is old and name in after:
                _set(layer, attribute, after[name])


def _fits(grad: Any, value: Any) -> bool:
    """Whether a layer made an array for a gradient as it made the parameter's: in another dtype it is its own mistake."""
    both = isinstance(grad, np.ndarray) and isinstance(value, np.ndarray)
    return both and (grad.shape, grad.dtype) == (value.shape, value.dtype)


def _prepare(grad: Array, value: Array) -> Array:
    """Return a copy of the array for a gradient, of the kind of the parameter."""
    copy = np.empty_like(value)
    copy[...] = grad
    return copy


def _set(layer: Any, attribute: str, value: Any) -> None:
    with suppress(AttributeError):  # a property without a setter, or no slot: whether the array arrived is seen behind it
        setattr(layer, attribute, value)


def require_array(method: str, value: Any) -> Any:
    """Return what a pass returned as it is. Raises TypeError on what is no array and no number."""
    if isinstance(value, np.ndarray | np.generic | float | int | complex) or hasattr(value, "__array__"):
        if np.asarray(value).dtype.kind not in "fiubcOV":
            raise TypeError(f"{method} returned an array of {np.asarray(value).dtype}; accepted are numbers")
        return value
    several = "; harness.styles.adjust(join=True) judges several outputs" if isinstance(value, tuple) else ""
    raise TypeError(f"{method} returned {_name(value)}; accepted is an array{several}")


def require_gradients(dx: Any, count: int) -> Any:
    """Return what backward returned as it is. Raises TypeError on what is no array, nor a tuple of at most `count` of them."""
    if isinstance(dx, tuple):
        if len(dx) > count:
            wanted = f"{count}, one for each input" if count > 1 else "1 (those of parameters are left in the dict grads)"
            raise TypeError(f"backward returned {len(dx)} gradients; accepted are {wanted}")
        return tuple(None if part is None else require_array(f"backward, at place {i},", part) for i, part in enumerate(dx))
    if isinstance(dx, list) and count > 1:
        raise TypeError("backward returned a list; accepted is a tuple with one array for each input")
    return None if dx is None else require_array("backward", dx)


def require_grads(grads: Any) -> dict[str, Any]:
    """Return the gradients of parameters that a layer holds. Raises TypeError on what is no dict of arrays by name."""
    if grads is not None and not (isinstance(grads, Mapping) and all(isinstance(name, str) for name in grads)):
        raise TypeError(f"grads holds {_name(grads)}; accepted is a dict of arrays by name (harness.styles takes other ways)")
    held = {name: value for name, value in dict(grads or {}).items() if value is not None}
    return {name: require_array(f"grads[{name!r}]: backward", value) for name, value in held.items()}


def _name(value: Any) -> str:
    return "None" if value is None else f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"


def _lend(value: Any) -> Any:
    """Return an array that the layer may write to: whether it does is a check of its own, and no reason for an error."""
    return value if not isinstance(value, np.ndarray) or value.flags.writeable else value.copy(order="K")
