"""Wrong axes: a scene comes in, sums and means of the cotangent over any axes that give the right shape go out.

Over the right axes, too: then it is what dy is multiplied by that is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from harness.core import Array
from harness.custom.scene import Fault, Scene

RANK = 97


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield sums and means of the cotangent over any axes but the right ones."""
    axes = range(scene.dy.ndim)
    for count in range(1, scene.dy.ndim + 1):
        for over in combinations(axes, count):
            for name, reduce in (("summed", np.sum), ("averaged", np.mean)):
                value = np.asarray(reduce(scene.dy, axis=over))
                if value.size == scene.truth.size and not _is_right(scene, over):
                    yield _describe(scene, name, over, value.reshape(scene.truth.shape))


def _describe(scene: Scene, name: str, over: tuple[int, ...], value: Array) -> Fault:
    """Return the fault; which axes are the right ones is asked only of what came."""
    words = f"it is dy {name} over the axes {list(over)}"
    if np.allclose(value, scene.got) and _belong_together(scene, over):
        return Fault("missing-factor", f"{name} {over}", f"{words}, and nothing else: what dy is multiplied by is missing", value)
    return Fault("wrong-axis", f"{name} {over}", f"{words}, which are the wrong ones", value)


def _belong_together(scene: Scene, over: tuple[int, ...]) -> bool:
    """Whether the cotangent's first entries along the axes that are left make the gradient's first entry, and no other."""
    first = tuple(slice(None) if axis in over else slice(0, 1) for axis in range(scene.dy.ndim))
    dy = np.zeros_like(scene.dy)
    dy[first] = scene.dy[first]
    found = scene.pull(dy).ravel()
    return bool(found[0]) and not found[1:].any()


def _is_right(scene: Scene, over: tuple[int, ...]) -> bool:
    """Whether the sum over these axes is the truth."""
    right = scene.dy.sum(over).reshape(scene.truth.shape)
    return bool(np.linalg.norm(right - scene.truth) <= 1e-9 * np.linalg.norm(scene.truth))
