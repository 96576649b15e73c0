"""Casts: a scene comes in, what came is taken for the prediction where it errs as a narrower dtype does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.custom.scene import Fault, Scene
from harness.floats import FloatFormat, find_format

RANK = 130


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield a cast for what errs everywhere by no more than roundings of a narrower dtype, and of no size in common."""
    used = scene.truth != 0
    error = np.abs(scene.error)[used] / np.abs(scene.truth)[used]
    if scene.trial.problem.case.dtype == "float64" and error.size > 3 and 2.0**-30 < np.median(error) < 2.0**-21:
        words = "it errs as if computed in float32: a cast or a constant in float32 is inside"
        yield Fault("cast", "float32", words, scene.got)
    yield from _find_narrow(scene, used, scene.got, "all its entries are")
    if scene.truth.shape == scene.dy.shape and (scene.dy != 0).all():
        yield from _find_narrow(scene, used, scene.got / scene.dy, "its local derivatives all are")


def _find_narrow(scene: Scene, used: Array, values: Array, words: str) -> Iterator[Fault]:
    """Take for a cast numbers that a narrower dtype holds, where the true ones are none, as near as such a cast leaves them."""
    for name in ("float16", "bfloat16", "float32"):
        narrow, own = find_format(name), find_format(scene.trial.problem.case.dtype)
        if _holds(values[used], narrow) and not _holds(scene.truth[used], narrow) and np.unique(values[used]).size > 4:
            far = np.abs(scene.error)[used] > 8 * narrow.u * np.abs(scene.truth)[used]
            if not far.any() and own.u < 0.1 * narrow.u:
                yield Fault("cast", name, f"{words} numbers of {name}: there is a cast to it", scene.got)


def _holds(values: Array, narrow: FloatFormat) -> bool:
    """Whether a narrow dtype holds all the numbers, but for what a product in float64 rounds."""
    apart = np.abs(values.astype(narrow.dtype).astype(np.float64) - values)
    return bool((apart <= 4 * np.finfo(np.float64).eps * np.abs(values)).all())
