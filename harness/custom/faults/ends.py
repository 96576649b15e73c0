"""Ends: a scene comes in, gradients of a cotangent that lacks the first or the last of an axis behind the batch go out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.custom.scene import Fault, Scene

RANK = 89


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of dy without the first or the last index of an axis: a loop that stops, or starts, one off."""
    for axis, size in enumerate(scene.dy.shape):
        for name, index in (("first", 0), ("last", size - 1)) if axis and size > 1 else ():
            other = scene.dy.copy()
            np.moveaxis(other, axis, 0)[index] = 0
            words = f"the {name} index of axis {axis} of dy is left out"
            yield Fault("missing-term", f"without the {name} of {axis}", words, scene.pull(other))
