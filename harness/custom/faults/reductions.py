"""Wrong axes: a scene comes in, sums and means of the cotangent over any axes that give the right shape go out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from harness.custom.scene import Fault, Scene

RANK = 30


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield sums and means of the cotangent over any axes, and the truth summed over one of its own axes and spread again."""
    axes = range(scene.dy.ndim)
    for count in range(1, scene.dy.ndim + 1):
        for over in combinations(axes, count):
            for name, reduce in (("summed", np.sum), ("averaged", np.mean)):
                value = np.asarray(reduce(scene.dy, axis=over))
                if value.size == scene.truth.size:
                    words = f"it is dy {name} over the axes {list(over)}, which are the wrong ones"
                    yield Fault("wrong-axis", f"{name} {over}", words, value.reshape(scene.truth.shape))
    for axis, size in enumerate(scene.truth.shape):
        if size > 1:
            for name, reduce in (("summed", np.sum), ("averaged", np.mean)):
                value = np.broadcast_to(reduce(scene.truth, axis=axis, keepdims=True), scene.truth.shape)
                words = f"it is the truth {name} over its axis {axis}, the same for all entries along it"
                yield Fault("wrong-axis", f"truth {name} {axis}", words, value)
