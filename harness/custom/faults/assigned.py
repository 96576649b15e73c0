"""Assigned: a scene comes in, gradients in which what must be added was assigned, so that one use of an entry wins, go out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.probe import Call, change_at, detach, stand_in
from harness.custom.scene import Fault, Scene

RANK = 87
MOST_SLICES = 32


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield what is assigned where it must be added: of several uses of an entry the last, or the first, wins."""
    for one in scene.operations:
        if one.name in ("[]", "xp.where") and any(one.varies):
            for last in (True, False):
                wins = f"of {one.text}, the {'last' if last else 'first'} use wins: assigned, not added"
                tamper = change_at({one.index}, partial(_keep_one_use, last))
                words = f"where an entry is used several times {wins}"
                yield Fault("missing-term", f"{one.index} assigned {last}", words, scene.pull(tamper=tamper))
                if np.ndim(one.value) > 1:
                    tamper = change_at({one.index}, partial(_keep_one_use, last, by_row=True))
                    words = f"where an entry is used several times in one row {wins}"
                    yield Fault("missing-term", f"{one.index} assigned by row {last}", words, scene.pull(tamper=tamper))
    slices = [one.index for one in scene.operations if one.name == "[]" and one.varies[0]]
    if 1 < len(slices) <= MOST_SLICES:
        parts = [scene.pull(tamper=change_at(set(slices) - {place}, _stop)) for place in slices]
        for words, order in (("last", parts), ("first", parts[::-1])):
            won = np.zeros_like(scene.truth)
            for part in order:
                won = np.where(part != 0, part, won)
            said = f"where slices overlap, the {words} one wins: assigned, not added"
            yield Fault("missing-term", f"slices {words}", said, won)


def _stop(call: Call) -> Any:
    return detach(call.value)


def _keep_one_use(last: bool, call: Call, by_row: bool = False) -> Any:
    """Return the value with the gradient of just one of the places, of all or of each row, to which an entry went."""
    entries, size = _trace(call)
    rows = np.arange(len(entries)).reshape(-1, *[1] * (entries.ndim - 1)) if by_row else 0
    kept = _find_uses(np.where(entries < 0, -1, entries + size * rows), last)
    return stand_in(call.value, call.value * kept)


def _trace(call: Call) -> tuple[Array, int]:
    """Return which entry of its argument each place of the value holds, -1 for none, and how many entries there are."""
    one = call.operation
    if one.name == "[]":
        given = one.arguments[0]
        return np.asarray(_number(given)[one.arguments[1].plain]), np.size(given)
    place = one.varies.index(True)
    condition, given, shape = one.arguments[0], one.arguments[place], np.shape(one.value)
    used = np.broadcast_to(condition if place == 1 else ~np.asarray(condition), shape)
    return np.where(used, np.broadcast_to(_number(given), shape), -1), np.size(given)


def _number(value: Any) -> Array:
    return np.arange(np.size(value)).reshape(np.shape(value))


def _find_uses(entries: Array, last: bool) -> Array:
    """Return which places are the last, or the first, of their entry; -1 is no entry."""
    flat = np.asarray(entries).reshape(-1)
    order = flat[::-1] if last else flat
    _, first = np.unique(order, return_index=True)
    kept = np.zeros(flat.size, bool)
    kept[flat.size - 1 - first if last else first] = True
    return (kept & (flat >= 0)).reshape(np.shape(entries))
