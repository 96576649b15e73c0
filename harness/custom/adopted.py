"""Adoption: the specification of anybody's layer comes in, a class that the harness runs and judges like its own goes out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from harness.core import Array
from harness.custom.spec import LayerSpec
from harness.styles.wrapped import Wrapped
from reference_layers.layer import Place


@lru_cache(maxsize=32)
def adopt(spec: LayerSpec, count: int, constants: frozenset[int], declared: bool = False) -> Any:
    """Return a layer class for a specification with `count` inputs, of which `constants` have no gradient.

    It is made as the reference layers are, by its parameters, and makes a fresh layer of the user's for each object. One
    specification has one class, for which what the judge learns of its noise is kept; `declared` asks for a second one,
    whose formula is the one that the specification declares its gradients to be of.
    """
    follows = bool(getattr(spec.make(), "follows_dtype", False))

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
            self.layer = spec.make()
            self.params = params
            self.grads: dict[str, Any] = {}
            self.cache: tuple[Any, ...] = ()
            give_params(self.layer, params)

        def forward(self, *inputs: Array) -> Any:
            return self.layer.forward(*map(_lend, inputs))

        def evaluate(self, *inputs: Array) -> Any:
            """Return the output alone: a style may know how to get it without recording what backward needs."""
            run = self.layer.evaluate if isinstance(self.layer, Wrapped) else self.layer.forward
            return run(*inputs)

        def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Any:
            dx = self.layer.backward(_lend(dy))
            self.grads = dict(getattr(self.layer, "grads", None) or {})
            return dx

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
    """Put parameters into a layer: into its `params`, and wherever it holds the same array under a name of its own."""
    own = getattr(layer, "params", None)
    before = dict(own) if isinstance(own, dict) else {}
    lent = {name: _lend(value) for name, value in params.items()}
    if not isinstance(own, dict):
        layer.params = own = {}
    own.update(lent)
    for attribute, value in list(getattr(layer, "__dict__", {}).items()):
        for name, old in before.items():
            if value is old and name in lent:
                setattr(layer, attribute, lent[name])


def _lend(value: Any) -> Any:
    """Return an array that the layer may write to: whether it does is a check of its own, and no reason for an error."""
    return value if not isinstance(value, np.ndarray) or value.flags.writeable else value.copy(order="K")
