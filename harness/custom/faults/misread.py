"""Misread slopes: a scene comes in, dy times local derivatives that were kept in another order, or of the first row, go out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.custom.faults.orders import FEW, turn
from harness.custom.scene import Fault, Scene

RANK = 120


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield what an elementwise layer would give whose derivatives are read in another order, or from one row for all."""
    if not (scene.y.shape == scene.truth.shape == scene.dy.shape) or not scene.is_of_first_input or (scene.dy == 0).any():
        return
    slope = scene.truth / scene.dy
    yield from _choose_otherwise(scene, slope)
    yield from _differentiate_twice(scene)
    cause = "mask" if np.unique(slope.round(9)).size <= FEW else "order"
    if slope.ndim > 1 and len(slope) > 1:
        words = "the local derivatives of the first row stand for all rows"
        yield Fault(cause, "first row", words, scene.dy * slope[:1])
    for words, other in turn(slope):
        yield Fault("order", words, f"its local derivatives are {words}", scene.dy * other)


def _choose_otherwise(scene: Scene, slope: Array) -> Iterator[Fault]:
    """Yield what came where its local derivatives are the few that there are, in other places."""
    values = np.unique(slope.round(9))
    ours = scene.got / scene.dy
    if 2 <= values.size <= FEW and (np.abs(ours[..., None] - values).min(-1) <= 1e-9 * np.abs(values).max()).all():
        words = f"its local derivatives are {' or '.join(f'{value:.6g}' for value in values)}, as they must be, in wrong places"
        yield Fault("mask", "wrong places", words, scene.got)


def _differentiate_twice(scene: Scene) -> Iterator[Fault]:
    """Yield dy times the second derivative, by differences of the first."""
    x, step = scene.inputs[0], 1e-5
    sides = [scene.pull(inputs=(x + sign * step, *scene.inputs[1:])) for sign in (1, -1)]
    words = "it is the second derivative: it is differentiated twice"
    yield Fault("extra-factor", "second derivative", words, (sides[0] - sides[1]) / (2 * step))
