"""Spreads: a scene comes in, the truth summed or averaged over one of its own axes, and the same all along it, goes out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.custom.scene import Fault, Scene

RANK = 45


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth summed and averaged over each of its axes."""
    for axis, size in enumerate(scene.truth.shape):
        if size > 1:
            for name, reduce in (("summed", np.sum), ("averaged", np.mean)):
                value = np.broadcast_to(reduce(scene.truth, axis=axis, keepdims=True), scene.truth.shape)
                words = f"it is the truth {name} over its axis {axis}, the same for all entries along it"
                yield Fault("wrong-axis", f"truth {name} {axis}", words, value)
