"""Passes: a layer class and the hooks of a fault come in, a subclass whose forward and backward call them goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np

from harness.core import Array
from reference_layers import Rounding

Key: TypeAlias = int | str
Gradients: TypeAlias = dict[Key, Any]


@dataclass(frozen=True)
class Settings:
    """How large the planted fault is, the seed of what it hits, and the arithmetic in which bounds are counted."""

    size: float
    seed: int
    rounding: Rounding | None = None

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a fresh generator for the purpose, so that every pass draws the same for it."""
        return np.random.default_rng([self.seed, crc32(purpose.encode())])


@dataclass(frozen=True, eq=False)
class Forward:
    """One forward pass: the cache that it left, what it received, and what the layer returned."""

    cache: Any
    inputs: tuple[Array, ...]
    y: Any


@dataclass(eq=False)
class Memory:
    """What a faulty layer object remembers: its first and its last two forward passes, and its last gradients."""

    first: Forward | None = None
    last: Forward | None = None
    before: Forward | None = None
    gradients: Gradients | None = None
    passes: int = 0

    def keep(self, forward: Forward) -> None:
        """Remember a forward pass."""
        self.first = self.first or forward
        self.last, self.before = forward, self.last

    def find(self, cache: Any) -> Forward:
        """Return the forward pass that left this cache, the last one when none is given."""
        known = [kept for kept in (self.last, self.before, self.first) if kept is not None]
        if not known:
            raise RuntimeError("backward needs a forward pass before it")
        return next((kept for kept in known if cache is not None and kept.cache is cache), known[0])


@dataclass(frozen=True, eq=False)
class Passed:
    """What a layer received and rightly returned in one pass, and how to run the right layer on something else.

    `gradients` are those of the inputs by place and of the parameters by name.
    """

    kind: Any
    settings: Settings
    params: dict[str, Array]
    inputs: tuple[Array, ...]
    y: Any
    dy: Any = None
    gradients: Gradients = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    @property
    def size(self) -> float:
        """The size of the fault."""
        return self.settings.size

    @property
    def batch(self) -> int:
        """The length of the first axis of the first input; 1 for a number."""
        return len(self.inputs[0]) if np.ndim(self.inputs[0]) else 1

    def again(
        self, *, inputs: tuple[Array, ...] | None = None, dy: Any = None, params: Mapping[str, Array] | None = None
    ) -> tuple[Any, Gradients]:
        """Return output and gradients of a fresh layer of the right class on other inputs, dy or parameters."""
        layer = self.kind(**(self.params if params is None else params))
        y = layer.forward(*(self.inputs if inputs is None else inputs))
        returned = layer.backward(self.dy if dy is None else dy)
        return y, collect(returned, layer.grads)


def collect(returned: Any, grads: Mapping[str, Any]) -> Gradients:
    """Return what a backward pass returned and left, by place and name."""
    parts = returned if isinstance(returned, tuple) else (returned,)
    gradients: Gradients = dict(enumerate(parts))
    gradients.update(grads)
    return gradients


def lay_like(changed: Any, right: Any) -> Any:
    """Return the changed array laid out in memory as the right one: another order would round a later product differently."""
    if changed is right or not isinstance(changed, np.ndarray) or not isinstance(right, np.ndarray):
        return changed
    if changed.shape != right.shape or changed.strides == right.strides:
        return changed
    out = np.empty_like(right, dtype=changed.dtype)
    out[...] = changed
    return out


def _lay_all(changed: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(lay_like(value, before) for value, before in zip(changed, right, strict=True))


def make_faulty(kind: Any, hooks: Any, settings: Settings) -> Any:
    """Return a subclass of `kind` that calls the hooks of a mutation on the way into and out of its passes."""

    class Faulty(kind):  # type: ignore[misc]  # reason: the layer class is only known when this runs
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._planted = Memory()

        def forward(self, *inputs: Array) -> Any:
            given = inputs if hooks.receives is None else _lay_all(hooks.receives(settings, inputs), inputs)
            y = super().forward(*given)
            self._planted.keep(Forward(self.cache, inputs, y))
            if hooks.returns is None:
                return y
            return lay_like(hooks.returns(Passed(kind, settings, self.params, inputs, y, memory=self._planted)), y)

        def backward(self, dy: Any = 1.0, cache: Any = None) -> Any:
            given = dy if hooks.upstream is None else lay_like(hooks.upstream(settings, dy), dy)
            returned = super().backward(given) if cache is None else super().backward(given, cache)
            return returned if hooks.gradients is None else _change(self, kind, hooks, settings, returned, dy, cache)

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(Faulty, name, getattr(kind, name))
    return Faulty


def _change(layer: Any, kind: Any, hooks: Any, settings: Settings, returned: Any, dy: Any, cache: Any) -> Any:
    """Return what the hook makes of what a backward pass returned, and leave in the layer what it makes of the rest."""
    memory: Memory = layer._planted
    seen, right = memory.find(cache), collect(returned, layer.grads)
    wrong = hooks.gradients(Passed(kind, settings, layer.params, seen.inputs, seen.y, dy, right, memory))
    memory.gradients, memory.passes = wrong, memory.passes + 1
    if wrong is None:
        return None
    laid = {key: lay_like(value, right.get(key)) for key, value in wrong.items()}
    layer.grads = {key: value for key, value in laid.items() if isinstance(key, str)}
    parts = tuple(value for key, value in laid.items() if isinstance(key, int))
    return parts if isinstance(returned, tuple) else parts[0]
