"""Casts: a scene comes in, what came is taken for the prediction where it errs as a narrower dtype does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.custom.scene import Fault, Scene

RANK = 130


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield a cast for what errs everywhere by no more than roundings of a narrower dtype, and of no size in common."""
    used = scene.truth != 0
    error = np.abs(scene.error)[used] / np.abs(scene.truth)[used]
    if scene.trial.problem.case.dtype == "float64" and error.size > 3 and 2.0**-30 < np.median(error) < 2.0**-21:
        words = "it errs as if computed in float32: a cast or a constant in float32 is inside"
        yield Fault("cast", "float32", words, scene.got)
