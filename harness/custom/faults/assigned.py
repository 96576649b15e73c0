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
                words = f"where an entry is used several times in {one.text}, the {'last' if last else 'first'} use wins"
                tamper = change_at({one.index}, partial(_keep_one_use, last))
                yield Fault(
                    "missing-term", f"{one.index} assigned {last}", f"{words}: assigned, not added", scene.pull(tamper=tamper)
                )
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


def _keep_one_use(last: bool, call: Call) -> Any:
    """Return the value with the gradient of just one of the places to which each entry of an argument went."""
    if call.operation.name == "[]":
        index = call.operation.arguments[1].plain
        kept = _find_uses(
            np.arange(np.size(call.operation.arguments[0])).reshape(np.shape(call.operation.arguments[0]))[index], last
        )
    else:
        place = call.operation.varies.index(True)
        condition, given = call.operation.arguments[0], call.operation.arguments[place]
        shape = np.shape(call.operation.value)
        entries = np.broadcast_to(np.arange(np.size(given)).reshape(np.shape(given)), shape)
        used = np.broadcast_to(condition if place == 1 else ~np.asarray(condition), shape)
        kept = _find_uses(np.where(used, entries, -1), last)
    return stand_in(call.value, call.value * kept)


def _find_uses(entries: Array, last: bool) -> Array:
    """Return which places are the last, or the first, of their entry; -1 is no entry."""
    flat = np.asarray(entries).reshape(-1)
    order = flat[::-1] if last else flat
    _, first = np.unique(order, return_index=True)
    kept = np.zeros(flat.size, bool)
    kept[flat.size - 1 - first if last else first] = True
    return (kept & (flat >= 0)).reshape(np.shape(entries))
