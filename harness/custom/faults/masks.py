"""Masks: a scene comes in, gradients that take the wrong branch of a where, a maximum or a minimum go out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import comb
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.core import Array
from harness.custom.faults.factors import fit_factor
from harness.custom.probe import Call, detach, stand_in
from harness.custom.scene import Fault, Scene

RANK = 100
BY_CHANCE = 1e-4  # the most often that wrong entries may lie on one side of a limit when they lie anywhere
BRANCHING = ("xp.where", "xp.maximum", "xp.minimum")


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of the other branch, of one branch everywhere, and errors that all lie beyond a limit of the input."""
    for one in scene.operations:
        if one.name in BRANCHING:
            for name, words, branch in _list_branches(one.name):
                change = _at(one.index, branch)
                said = f"{words} of {one.text}"
                yield Fault("mask", f"{one.index} {name}", said, scene.pull(tamper=change))
    yield from _find_limits(scene)


def _list_branches(name: str) -> Iterator[tuple[str, str, Callable[[Call], Any]]]:
    yield "turned", "the mask is the wrong way round: it takes the other branch", _take_other
    for place, said in enumerate(("first", "second")):
        at = place + (name == "xp.where")
        yield said, f"there is no mask: it takes the {said} branch everywhere", partial(_take_one, at)
        yield f"no {said}", f"the gradient of the {said} branch is missing", partial(_forget_one, at)


def _take_other(call: Call) -> Any:
    xp = make_autograd_namespace()
    name, given = call.operation.name, call.arguments
    if name == "xp.where":
        return stand_in(call.value, xp.where(detach(given[0]), given[2], given[1]))
    return stand_in(call.value, (xp.minimum if name == "xp.maximum" else xp.maximum)(*given))


def _take_one(place: int, call: Call) -> Any:
    one = call.arguments[place]
    return stand_in(call.value, one + np.zeros(np.shape(call.operation.value)))


def _forget_one(place: int, call: Call) -> Any:
    return call.repeat(*[detach(value) if i == place else value for i, value in enumerate(call.arguments)])


def _at(index: int, change: Callable[[Call], Any]) -> Callable[[Call], Any]:
    return lambda call: change(call) if call.operation.index == index else None


def _find_limits(scene: Scene) -> Iterator[Fault]:
    """Find wrong entries that all lie beyond one limit of the input, where the right ones all lie on its other side."""
    x = scene.inputs[0]
    if x.shape != scene.truth.shape or not scene.is_of_first_input:
        return
    wrong = find_wrong(scene)
    if not 2 <= wrong.sum() <= wrong.size - 2 or 2 * 1.0 / comb(int(wrong.size), int(wrong.sum())) > BY_CHANCE:
        return
    there = scene.got[wrong]
    factor = fit_factor(there, scene.truth[wrong])
    said = "0" if not there.any() else "dy" if np.array_equal(there, scene.dy[wrong]) else f"{factor:.4g} times the truth"
    for name, value in (("x", x), ("|x|", np.abs(x))):
        mended = np.where(wrong, scene.got if said in ("0", "dy") else factor * scene.truth, scene.truth)
        for side, limits in (("above", _split(value, wrong)), ("below", _split(-value, wrong))):
            if limits is not None:
                low, high = sorted(abs(limit) if name == "|x|" else limit * (1 if side == "above" else -1) for limit in limits)
                words = f"it is wrong just where {name} lies {side} a limit between {low:.4g} and {high:.4g}, and {said} there"
                yield Fault("mask", f"{name} {side} {said}", words, mended)


def find_wrong(scene: Scene) -> Array:
    """Return which entries hold more than a hundredth of their even share of the error."""
    least = 0.01 * np.linalg.norm(scene.error) / max(scene.truth.size, 1)
    return np.asarray(np.abs(scene.error) > least)


def _split(value: Array, wrong: Array) -> tuple[float, float] | None:
    """Return the largest value of the right entries and the least of the wrong ones, where all wrong ones lie above."""
    low, high = float(value[~wrong].max()), float(value[wrong].min())
    return (low, high) if low < high else None
