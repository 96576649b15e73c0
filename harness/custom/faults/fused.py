"""Fused: a scene of a loss of scores comes in, its gradient sent back through a softmax or a sigmoid once more goes out.

The gradient of a loss that has its activation within, softmax - labels, is that by the scores already.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import expit, softmax

from harness.custom.scene import Fault, Scene
from harness.custom.textbook import find_axes

RANK = 72


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth times the Jacobian of each activation that a loss may have within."""
    x, d = scene.inputs[0], scene.truth
    if not scene.is_of_first_input or d.shape != x.shape or scene.dy.size >= d.size:
        return
    words = "it is sent back through the {} once more, which the gradient by the scores holds already"
    for axis in find_axes(scene):
        p = softmax(x, axis=axis)
        yield Fault("extra-factor", f"softmax {axis}", words.format("softmax"), p * (d - np.sum(p * d, axis, keepdims=True)))
        yield Fault("extra-factor", f"softmax {axis} diagonal", words.format("softmax's diagonal"), p * (1 - p) * d)
    s = expit(x)
    yield Fault("extra-factor", "sigmoid", words.format("sigmoid"), s * (1 - s) * d)
