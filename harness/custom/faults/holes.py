"""Holes: a scene comes in, the truth with 0 where the layer gave 0 goes out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.custom.faults.masks import find_wrong
from harness.custom.scene import Fault, Scene

RANK = 116


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth with 0 in every entry that is wrong, where some are right."""
    wrong = find_wrong(scene)
    if wrong.any() and not wrong.all() and not scene.got[wrong].any():
        words = f"{int(wrong.sum())} of {scene.truth.size} entries are 0, the others are right"
        yield Fault("mask", "some 0", words, np.where(wrong, 0.0, scene.truth))
