"""Targets: a layer class or the gradients of one pass come in, which of them a mutation hits goes out.

`dW` stands for the gradient of a parameter with two axes or more, `db` for that of one with fewer, `dx` for that
of an input, `dparams` for those of all parameters, `all` for all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, reduce
from typing import Any

import numpy as np

from harness.core import Array
from harness.mutations.passes import Gradients, Key, Passed

Change = Callable[[Array, Passed], Any]


@cache
def find_axes(kind: Any) -> dict[str, int]:
    """Return the number of axes of each parameter that the layer class draws."""
    drawn = kind.initial_params(np.random.default_rng(0), 3, 4) if hasattr(kind, "initial_params") else {}
    return {name: np.ndim(value) for name, value in drawn.items()}


def has(target: str) -> Callable[[Any], bool]:
    """Return whether a layer class has such a gradient, as a function of the class."""
    if target in ("dx", "all"):
        return lambda kind: any(getattr(kind, "differentiable", (True,)))
    low, high = {"dW": (2, np.inf), "db": (0, 1), "dparams": (0, np.inf)}[target]
    return lambda kind: any(low <= axes <= high for axes in find_axes(kind).values())


def is_elementwise(kind: Any) -> bool:
    """Whether the layer maps or merges arrays entry by entry, as far as its place in networks tells."""
    return getattr(kind, "place", "alone") in ("map", "merge")


def is_loss(kind: Any) -> bool:
    """Whether the layer ends a network in one number."""
    return getattr(kind, "place", "alone") == "loss"


def find_keys(passed: Passed, target: str) -> list[Key]:
    """Return the gradients that the target means in this pass."""
    present: list[Key] = [key for key, value in passed.gradients.items() if value is not None]
    inputs: list[Key] = [key for key in present if isinstance(key, int)]
    params: list[Key] = [key for key in present if isinstance(key, str)]
    return {
        "dx": inputs,
        "dW": [key for key in params if np.ndim(passed.gradients[key]) >= 2],
        "db": [key for key in params if np.ndim(passed.gradients[key]) < 2],
        "dparams": params,
        "all": present,
    }[target]


def change_one(target: str, change: Change) -> Callable[[Passed], Gradients]:
    """Return a hook that changes one of the gradients that are meant, picked by the seed; without any, nothing."""

    def hook(passed: Passed) -> Gradients:
        keys = find_keys(passed, target)
        chosen = [keys[int(passed.settings.rng("gradient").integers(len(keys)))]] if keys else []
        return _changed(passed, chosen, change)

    return hook


def change_all(target: str, change: Change) -> Callable[[Passed], Gradients]:
    """Return a hook that changes all of the gradients that are meant."""
    return lambda passed: _changed(passed, find_keys(passed, target), change)


def _changed(passed: Passed, keys: list[Key], change: Change) -> Gradients:
    with np.errstate(all="ignore"):
        new = {key: change(np.asarray(passed.gradients[key]), passed) for key in keys}
    return {**passed.gradients, **new}


def scale(value: Array, size: float) -> Array:
    """Return value + size * value in the value's own dtype: 1 + 1e-18 is 1, but value + 1e-18 value need not be value."""
    out: Array = value + value.dtype.type(size) * value
    return out


def chain(*changes: Change) -> Change:
    """Return the changes one after another."""
    return lambda value, passed: reduce(lambda changed, change: change(changed, passed), changes, value)


def put(value: Array, index: Any, number: Any) -> Array:
    """Return a copy with other numbers at the index, in the value's dtype and order in memory; an empty array as it is."""
    changed = value.copy(order="K")
    if value.size:
        changed[index] = number
    return changed


def pick(value: Array, passed: Passed) -> tuple[int, ...]:
    """Return the index of one entry, drawn by the seed from the shape alone."""
    place = int(passed.settings.rng("entry").integers(max(value.size, 1)))
    return tuple(int(i) for i in np.unravel_index(place, value.shape)) if value.size else ()


def pick_slice(value: Array, passed: Passed, axis: int) -> tuple[Any, ...]:
    """Return the index of one row, column or sample along the axis, drawn by the seed."""
    if not value.ndim:
        return ()
    axis = axis % value.ndim
    place = int(passed.settings.rng("slice").integers(max(value.shape[axis], 1)))
    return (*[slice(None)] * axis, place)
