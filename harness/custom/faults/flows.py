"""Flows: a scene comes in, gradients in which one argument of one operation gets what another would have got go out.

Where an operation has two arguments, the way back through one of them uses the other. Here the other is transposed,
is another array of its shape, or its sum runs over another axis or over nothing but its own entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.core import Array
from harness.custom.faults.factors import fit_factor
from harness.custom.probe import Call, Operation, change_at, detach, stand_in
from harness.custom.scene import Fault, Scene

RANK = 95
PRODUCTS = ("*", "@", "xp.matmul", "/")
REDUCTIONS = ("xp.sum", "xp.mean")


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients with a wrong partner in a product, with a reduction over other entries, and with its factor missing."""
    yield from _reduce_otherwise(scene)
    for one in scene.operations:
        for place, varies in enumerate(one.varies if one.name in PRODUCTS and len(one.varies) == 2 else ()):
            if varies:
                yield from _mistake_partner(scene, one, place)


def _mistake_partner(scene: Scene, one: Operation, place: int) -> Iterator[Fault]:
    partner = one.arguments[1 - place]
    if np.ndim(partner) >= 2 and one.name in ("@", "xp.matmul"):
        words = f"the gradient of {one.texts[place]} in {one.text} takes {one.texts[1 - place]} transposed, or not transposed"
        yield _exchange(scene, one, place, "transposed", words, np.swapaxes(partner, -1, -2))
        words = f"the gradient of {one.texts[place]} in {one.text} takes the gradient behind it transposed, or not transposed"
        turn = partial(_turn_cotangent, place)
        yield Fault("transposed", words, words, scene.pull(tamper=change_at({one.index}, turn)))
    for name, cause, other in _list_others(scene, one, partner):
        words = f"the gradient of {one.texts[place]} in {one.text} takes {name} for {one.texts[1 - place]}"
        yield _exchange(scene, one, place, cause, words, other)


def _list_others(scene: Scene, one: Operation, partner: Any) -> Iterator[tuple[str, str, Array]]:
    """Yield the arrays of the partner's shape: the argument itself, inputs and parameters, results before and behind."""
    known = [(f"x{i}" if len(scene.inputs) > 1 else "x", "at-input", value) for i, value in enumerate(scene.inputs)]
    known += [(name, "swapped", value) for name, value in scene.params.items()] + [("y", "at-output", scene.y)]
    for name, cause, value in known:
        if np.shape(value) == np.shape(partner) and np.size(value) > 1 and not _is_multiple(value, partner):
            yield name, cause, value
    for other in scene.operations:
        same = np.shape(other.value) == np.shape(partner) and np.size(partner) > 1
        if same and not isinstance(other.value, list | tuple) and not _is_multiple(other.value, partner):
            yield other.text, "at-output" if other.index >= one.index else "at-input", np.asarray(other.value, np.float64)


def _is_multiple(one: Any, of: Any) -> bool:
    """Whether an array is another times a number: that is a factor, and no other array."""
    factor = fit_factor(np.asarray(one, np.float64), np.asarray(of, np.float64))
    return bool(np.linalg.norm(one - factor * of) <= 1e-9 * np.linalg.norm(one)) if np.isfinite(factor) else False


def _exchange(scene: Scene, one: Operation, place: int, cause: str, words: str, other: Array) -> Fault:
    return Fault(cause, words, words, scene.pull(tamper=change_at({one.index}, partial(_go_back_by, place, other))))


def _go_back_by(place: int, other: Array, call: Call) -> Any:
    """Return the operation's value, with the gradient of one argument beside another partner, and that of the partner kept."""
    given = call.arguments
    kept = call.repeat(*[value if i != place else detach(value) for i, value in enumerate(given)])
    moved = call.repeat(*[given[place] if i == place else other for i in range(2)])
    return kept + (moved - detach(moved))


def _turn_cotangent(place: int, call: Call) -> Any:
    """Return the operation's value, with the gradient of one argument for the transpose of what comes back."""
    given, ndim = call.arguments, np.ndim(call.operation.value)
    kept = call.repeat(*[value if i != place else detach(value) for i, value in enumerate(given)])
    alone = call.repeat(*[value if i == place else detach(value) for i, value in enumerate(given)])
    moved = make_autograd_namespace().permute_dims(alone, (*range(ndim - 2), ndim - 1, ndim - 2))
    return kept + (moved - detach(moved))


def _reduce_otherwise(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of reductions that run over another axis, over nothing but each entry, or have a wrong factor."""
    places = [one for one in scene.operations if one.name in REDUCTIONS and one.varies[0] and np.ndim(one.arguments[0])]
    groups = [[one] for one in places] + ([places] if len(places) > 1 else [])
    for group in groups:
        which = group[0].text if len(group) == 1 else "all sums and means"
        for name, cause, words, change in _list_reductions(max(np.ndim(one.arguments[0]) for one in group)):
            tamper = change_at({one.index for one in group}, change)
            said = words.format(which)
            yield Fault(cause, f"{[one.index for one in group]} {name}", said, scene.pull(tamper=tamper))


def _list_reductions(ndim: int) -> Iterator[tuple[str, str, str, Callable[[Call], Any]]]:
    yield (
        "itself",
        "diagonal-only",
        "each entry stands for {} on the way back: of the Jacobian the diagonal alone is used",
        _take_itself,
    )
    for name, words, forward in (("n", "{} has a sum for a mean, or a mean for a sum, in backward", False),
                                 ("n too", "{} has a sum for a mean, or a mean for a sum", True)):  # fmt: skip
        yield name, "size-factor", words, partial(_rescale, forward, 0)
    yield "n-1", "size-factor", "{} is divided by n - 1 for n, in backward", partial(_rescale, False, 1)
    yield "n-1 too", "size-factor", "{} is divided by n - 1 for n", partial(_rescale, True, 1)
    for name, at in (("first", 0), ("last", -1)):
        yield f"{name} alone", "missing-term", f"of what {{}} takes, the {name} alone gets a gradient", partial(_take_one, at)
    for axis in range(ndim if ndim > 1 else 0):
        yield f"axis {axis}", "wrong-axis", f"{{}} runs over axis {axis} on the way back", partial(_take_axis, axis)


def _count(call: Call) -> int:
    return int(np.size(call.operation.arguments[0]) // max(np.size(call.operation.value), 1))


def _rescale(forward: bool, off: int, call: Call) -> Any:
    n = _count(call)
    if off and n < 2:
        return None
    factor = n / (n - 1) if off else n if call.operation.name == "xp.mean" else 1 / n
    return factor * call.value if forward else stand_in(call.value, factor * call.value)


def _take_one(at: int, call: Call) -> Any:
    axis = call.operation.options.get("axis")
    if not isinstance(axis, int):
        return None
    kept = np.zeros(np.shape(call.operation.arguments[0]))
    np.moveaxis(kept, axis, 0)[at] = 1.0
    return stand_in(call.value, call.repeat(call.arguments[0] * kept))


def _take_itself(call: Call) -> Any:
    x, value = call.arguments[0], call.operation.value
    if np.ndim(value) != np.ndim(call.operation.arguments[0]):
        return None
    share = 1 / _count(call) if call.operation.name == "xp.mean" else 1.0
    return stand_in(np.broadcast_to(value, np.shape(call.operation.arguments[0])), share * x)


def _take_axis(axis: int, call: Call) -> Any:
    """Return the value spread over all entries, with the gradient of the same reduction over another axis."""
    x, value = call.arguments[0], call.operation.value
    shape = np.shape(call.operation.arguments[0])
    if np.ndim(value) != len(shape) or np.shape(value)[axis] == 1:
        return None
    xp = make_autograd_namespace()
    other = (xp.mean if call.operation.name == "xp.mean" else xp.sum)(x, axis=axis, keepdims=True)
    spread = np.broadcast_to(value, shape)
    return stand_in(spread, other + np.zeros(shape))
