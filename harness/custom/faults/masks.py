"""Masks: a scene comes in, gradients that take the wrong branch of a where, a maximum or a minimum go out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.core import Array
from harness.custom.probe import COMPARISONS, Call, change_at, detach, stand_in
from harness.custom.scene import Fault, Scene

RANK = 100
MOST_OPERATIONS = 64
BRANCHING = ("xp.where", "xp.maximum", "xp.minimum")


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of the other branch, of one branch everywhere, of another threshold, of ties otherwise shared."""
    for one in scene.operations:
        if one.name in BRANCHING:
            for name, words, branch in _list_branches(one.name):
                change = change_at({one.index}, branch)
                said = f"{words} of {one.text}"
                yield Fault("mask", f"{one.index} {name}", said, scene.pull(tamper=change))
            words = f"the mask of {one.text} looks at dy"
            yield Fault("mask", f"{one.index} dy", words, scene.pull(tamper=change_at({one.index}, partial(_look_at, scene.dy))))
    yield from _move_thresholds(scene)
    yield from _share_ties(scene)


def _look_at(dy: Array, call: Call) -> Any:
    """Return the value with the gradient of the branches that dy chooses."""
    if np.shape(call.operation.value) != dy.shape:
        return None
    where = make_autograd_namespace().where
    one, other = call.arguments[-2:]
    return stand_in(call.value, where(dy > 0, one, other))


def _list_branches(name: str) -> Iterator[tuple[str, str, Callable[[Call], Any]]]:
    yield "turned", "the mask is the wrong way round: it takes the other branch", _take_other
    for place, said in enumerate(("first", "second")):
        at = place + (name == "xp.where")
        yield said, f"there is no mask: it takes the {said} branch everywhere", partial(_take_one, at)
        yield f"no {said}", f"the gradient of the {said} branch is missing", partial(_forget_one, at)
        yield f"all {said}", f"backward goes by the {said} branch everywhere", partial(_be_one, at)


def _move_thresholds(scene: Scene) -> Iterator[Fault]:
    """Predict masks that open at another number: at 0, 1 or -1, at half or twice the right one, at another of the formula."""
    numbers = {c for one in scene.operations for c in one.constants.values()} | {0.0, 1.0, -1.0}
    for one in scene.operations[:MOST_OPERATIONS]:
        if one.name in COMPARISONS.values() and one.constants:
            right = next(iter(one.constants.values()))
            for other in sorted({*numbers, right / 2, 2 * right, -right} - {right}):
                words = f"the mask {one.text} has the threshold {other:g} for {right:g}"
                yield Fault(
                    "mask", f"{one.index} {other:g}", words, scene.pull(tamper=change_at({one.index}, partial(_compare, other)))
                )
        elif one.name in ("xp.maximum", "xp.minimum") and sum(one.varies) == 1:
            for other in sorted(numbers - {0.0}):
                words = f"the mask of {one.text} opens {other:g} further on"
                yield Fault(
                    "mask", f"{one.index} + {other:g}", words, scene.pull(tamper=change_at({one.index}, partial(_open, other)))
                )


def _compare(number: float, call: Call) -> Any:
    return call.repeat(*[number if i in call.operation.constants else value for i, value in enumerate(call.arguments)])


def _open(number: float, call: Call) -> Any:
    """Return the maximum or minimum with the gradient of the varying side where it is beyond the other by that number."""
    at = call.operation.varies.index(True)
    apart = np.asarray(call.operation.arguments[at]) - np.asarray(call.operation.arguments[1 - at])
    opened = apart > number if call.operation.name == "xp.maximum" else apart < number
    return stand_in(call.value, make_autograd_namespace().where(opened, call.arguments[at], 0.0))


def _share_ties(scene: Scene) -> Iterator[Fault]:
    """Predict the whole gradient for each of several equal maxima, and for one of the wrong ones."""
    for one in scene.operations:
        if one.name in ("xp.max", "xp.min", "xp.maximum", "xp.minimum"):
            words = f"where several are equal in {one.text}, each gets the whole gradient"
            yield Fault("mask", f"ties {one.index}", words, scene.pull(tamper=change_at({one.index}, _give_to_all)))


def _give_to_all(call: Call) -> Any:
    xp, value = make_autograd_namespace(), call.operation.value
    if call.operation.name in ("xp.maximum", "xp.minimum"):
        parts = [xp.where(detach(one) == value, one, 0.0) for one in call.arguments]
        return stand_in(call.value, parts[0] + parts[1])
    axis, keep = call.operation.options.get("axis"), call.operation.options.get("keepdims", False)
    spread = value if keep or axis is None else np.expand_dims(value, axis)
    equal = call.operation.arguments[0] == spread
    return stand_in(call.value, xp.sum(xp.where(equal, call.arguments[0], 0.0), axis=axis, keepdims=keep))


def _take_other(call: Call) -> Any:
    xp = make_autograd_namespace()
    name, given = call.operation.name, call.arguments
    if name == "xp.where":
        return stand_in(call.value, xp.where(detach(given[0]), given[2], given[1]))
    return stand_in(call.value, (xp.minimum if name == "xp.maximum" else xp.maximum)(*given))


def _take_one(place: int, call: Call) -> Any:
    one = call.arguments[place]
    return stand_in(call.value, one + np.zeros(np.shape(call.operation.value)))


def _be_one(place: int, call: Call) -> Any:
    return call.arguments[place] + np.zeros(np.shape(call.operation.value))


def _forget_one(place: int, call: Call) -> Any:
    return call.repeat(*[detach(value) if i == place else value for i, value in enumerate(call.arguments)])


def find_wrong(scene: Scene) -> Array:
    """Return which entries hold more than a hundredth of their even share of the error."""
    least = 0.01 * np.linalg.norm(scene.error) / max(scene.truth.size, 1)
    return np.asarray(np.abs(scene.error) > least)
