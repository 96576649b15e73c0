"""Selections: a scene comes in, gradients in which a maximum or a minimum picks another entry on the way back go out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.core import Array
from harness.custom.probe import Call, change_at, stand_in
from harness.custom.scene import Fault, Scene

RANK = 102
PICKS: Mapping[str, Callable[[Array, int], Array]] = {
    "the smallest": lambda value, axis: np.argmin(value, axis),
    "the largest": lambda value, axis: np.argmax(value, axis),
    "the first": lambda value, axis: np.zeros_like(np.argmax(value, axis)),
    "the last": lambda value, axis: np.full_like(np.argmax(value, axis), value.shape[axis] - 1),
    "the largest in size": lambda value, axis: np.argmax(np.abs(value), axis),
    "the second largest": lambda value, axis: np.take(np.argsort(value, axis), -2, axis),
    "the second smallest": lambda value, axis: np.take(np.argsort(value, axis), 1, axis),
    "the one in the same window with row and column exchanged": lambda value, axis: _exchange(value, axis),
    "the one as far from the other end": lambda value, axis: value.shape[axis] - 1 - np.argmax(value, axis),
}
CAUSE_OF = {
    "the one in the same window with row and column exchanged": "transposed",
    "the one as far from the other end": "order",
}


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients that go to another entry of what a maximum or a minimum is taken of, or to all of them."""
    for one in scene.operations:
        axis = one.options.get("axis")
        if one.name in ("xp.max", "xp.min") and isinstance(axis, int) and np.shape(one.arguments[0])[axis] > 1:
            for name, pick in PICKS.items():
                words = f"the gradient of {one.text} goes to {name}"
                tamper = change_at({one.index}, partial(_give, axis, partial(_mark, pick, axis)))
                yield Fault(CAUSE_OF.get(name, "mask"), f"{one.index} {name}", words, scene.pull(tamper=tamper))
            words = f"the gradient of {one.text} goes to all, in equal parts"
            yield Fault(
                "mask",
                f"{one.index} all",
                words,
                scene.pull(tamper=change_at({one.index}, partial(_give, axis, partial(_share, axis)))),
            )


def _exchange(value: Array, axis: int) -> Array:
    """Return the place of the largest with its row and its column exchanged, where the places are those of a square."""
    side = round(value.shape[axis] ** 0.5)
    found = np.argmax(value, axis)
    return np.asarray(found % side * side + found // side if side * side == value.shape[axis] else found)


def _give(axis: int, weigh: Callable[[Array], Array], call: Call) -> Any:
    """Return the value with the gradient of a weighted sum."""
    xp, keep = make_autograd_namespace(), bool(call.operation.options.get("keepdims", False))
    weights = weigh(np.asarray(call.operation.arguments[0]))
    return stand_in(call.value, xp.sum(call.arguments[0] * weights, axis=axis, keepdims=keep))


def _mark(pick: Callable[[Array, int], Array], axis: int, value: Array) -> Array:
    """Return 1 at the place that is picked and 0 elsewhere."""
    marks = np.zeros(value.shape)
    np.put_along_axis(marks, np.expand_dims(pick(value, axis), axis), 1.0, axis)
    return marks


def _share(axis: int, value: Array) -> Array:
    return np.full(value.shape, 1.0 / value.shape[axis])
