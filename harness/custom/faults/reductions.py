"""Wrong axes: a scene comes in, sums and means of the cotangent over any axes that give the right shape go out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from harness.custom.scene import Fault, Scene

RANK = 97


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield sums and means of the cotangent over any axes but the right ones."""
    axes = range(scene.dy.ndim)
    for count in range(1, scene.dy.ndim + 1):
        for over in combinations(axes, count):
            for name, reduce in (("summed", np.sum), ("averaged", np.mean)):
                value = np.asarray(reduce(scene.dy, axis=over))
                if value.size == scene.truth.size and not _are_right(scene, over):
                    words = f"it is dy {name} over the axes {list(over)}, which are the wrong ones"
                    yield Fault("wrong-axis", f"{name} {over}", words, value.reshape(scene.truth.shape))


def _are_right(scene: Scene, over: tuple[int, ...]) -> bool:
    """Whether just these axes are to be summed over: then another factor is wrong, and no axis."""
    right = scene.dy.sum(over).reshape(scene.truth.shape)
    return bool(np.linalg.norm(right - scene.truth) <= 1e-9 * np.linalg.norm(scene.truth))
