"""Cotangents: a scene comes in, gradients of another cotangent than the one that was given go out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from harness.core import Array
from harness.custom.faults.orders import turn
from harness.custom.scene import Fault, Scene

RANK = 40
MOST_ROWS, MOST_AXES = 16, 4
LIMITS = (0.1, 0.5, 1.0, 1.5, 2.0, 5.0)


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of cotangents of ones, without one row, of means, sums, signs and squares."""
    for cause, name, words, other in [*list_others(scene.dy), *_turn(scene.dy)]:
        yield Fault(cause, name, words, scene.pull(other))


def list_others(dy: Array) -> Iterator[tuple[str, str, str, Array]]:
    """Yield cause, name and words of what may have been done to the cotangent, and what it is then."""
    words = "dy is ignored: it is the gradient for a cotangent of ones"
    yield "cotangent-ignored", "ones", words, np.ones_like(dy)
    mean = np.full_like(dy, dy.mean() if dy.size else 0.0)
    yield "cotangent-changed", "mean", "dy is averaged first", mean
    yield "cotangent-changed", "sum", "dy is summed first", np.full_like(dy, dy.sum())
    yield "cotangent-changed", "sign", "only the sign of dy is used", np.sign(dy)
    yield "cotangent-changed", "absolute", "the sign of dy is lost", np.abs(dy)
    yield "cotangent-changed", "square", "dy is used twice, as a square", dy * dy
    for limit in LIMITS:
        yield "clipped", f"clipped {limit}", f"dy is clipped at {limit:g} first", np.clip(dy, -limit, limit)
    for axis, size in enumerate(dy.shape if dy.ndim > 1 else ()):
        if size > 1:
            spread = np.broadcast_to(dy.mean(axis, keepdims=True), dy.shape)
            yield "cotangent-changed", f"mean {axis}", f"dy is averaged over its axis {axis} first", spread
    yield from _drop_rows(dy)


def _turn(dy: Array) -> Iterator[tuple[str, str, str, Array]]:
    """Yield dy reversed and shifted, transposed, and its numbers in the memory order of a transpose."""
    for words, other in turn(dy) if dy.ndim > 1 else ():
        yield "order", words, f"dy is {words}", other
    for order in permutations(range(dy.ndim)) if 1 < dy.ndim <= MOST_AXES else ():
        turned = np.transpose(dy, order)
        if order != tuple(range(dy.ndim)) and dy.size > 1:
            words = f"dy is reshaped where its axes {list(order)} must be transposed, or the other way round"
            yield "transposed", f"reshaped {order}", words, turned.reshape(dy.shape)
            back = np.argsort(order)
            yield "transposed", f"reshaped back {order}", words, dy.reshape(turned.shape).transpose(back)
            if turned.shape == dy.shape:
                yield "transposed", f"transposed {order}", f"dy is transposed, its axes in the order {list(order)}", turned


def _drop_rows(dy: Array) -> Iterator[tuple[str, str, str, Array]]:
    rows = len(dy) if dy.ndim else 0
    for row in range(rows) if rows <= MOST_ROWS else ():
        for place in [name for name, index in (("first", 0), ("last", rows - 1)) if index == row] or [f"row {row}"]:
            other = dy.copy()
            other[row] = 0
            words = f"row {row} of the batch is left out, the {place} of {rows}"
            yield "dropped-row", f"without the {place}", words, other
