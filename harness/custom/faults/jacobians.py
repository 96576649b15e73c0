"""Jacobians: a scene comes in, gradients of somebody who used the diagonal alone, or the Jacobian untransposed, go out.

What is summed up along an axis must be summed from its other end on the way back; that is told before the transpose is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.custom.scene import Fault, Scene, find_vjp

RANK = 80
MOST_COLUMNS = 64


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield a Jacobian that is reversed or not transposed, and one of which only the diagonal is used, where rows do not mix."""
    if scene.y.shape == scene.inputs[0].shape == scene.truth.shape and scene.is_of_first_input:
        for axis in (one for one in range(scene.dy.ndim) if _is_one_way(scene, one)):
            words = f"it runs along axis {axis} in the wrong direction, from its other end"
            yield Fault("order", f"from the other end {axis}", words, np.flip(scene.pull(np.flip(scene.dy, axis)), axis))
        words = "dy is sent forward, through the Jacobian, not back through its transpose"
        yield Fault("transposed", "forward", words, _push(scene))
    x, width = scene.inputs[0], scene.y.shape[-1] if scene.y.ndim else 0
    if scene.y.shape != x.shape or not 1 < width <= MOST_COLUMNS or not scene.is_of_first_input:
        return
    diagonal = np.zeros_like(x, np.float64)
    for column in range(width):
        one = np.zeros_like(scene.dy)
        one[..., column] = 1.0
        diagonal[..., column] = scene.pull(one)[..., column]
    yield Fault("diagonal-only", "diagonal", "only the diagonal of the Jacobian is used", scene.dy * diagonal)


def _is_one_way(scene: Scene, axis: int) -> bool:
    """Whether gradients flow back across the middle of an axis in just one of the two ways, as in a sum that runs along it."""
    half = scene.dy.shape[axis] // 2
    parts = [slice(None, half), slice(half, None)]
    before = (slice(None),) * axis
    flows = []
    for kept, other in (parts, parts[::-1]):
        dy = np.zeros_like(scene.dy)
        dy[(*before, kept)] = scene.dy[(*before, kept)]
        flows.append(bool(scene.pull(dy)[(*before, other)].any()))
    return half > 0 and flows[0] != flows[1]


def _push(scene: Scene) -> Array:
    """Return the derivative of the formula along dy, by differences: what is no prediction to 1 % is none at all."""
    kind, step = scene.trial.declared, 1e-6
    if kind.formula is None:
        return np.full_like(scene.truth, np.nan)
    sides = [
        find_vjp(kind, scene.params, (scene.inputs[0] + sign * step * scene.dy, *scene.inputs[1:]), scene.dy)[0]
        for sign in (1, -1)
    ]
    return np.where(scene.free, 0.0, (sides[0] - sides[1]) / (2 * step))
