"""Confined errors: a scene comes in, the truth with one entry, one slice, or what lies beyond a limit as it came goes out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.custom.faults.masks import find_wrong
from harness.custom.scene import Fault, Scene

RANK = 88
SAME = 1e-6


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield errors that are confined: to what lies beyond a limit, to one entry, to one slice."""
    wrong = find_wrong(scene)
    places = np.argwhere(wrong)
    if not len(places) or len(places) == scene.truth.size:
        return
    mended = np.where(wrong, scene.got, scene.truth)
    if _is_clipped(scene, wrong):
        yield Fault("clipped", "clipped", f"it is clipped at {np.abs(scene.got).max():.7g}", mended)
    if len(places) == 1:
        index = "".join(f"[{i}]" for i in places[0])
        yield Fault("one-element", "one entry", f"a single entry is wrong, {scene.quantity}{index}", mended)
    yield from _find_slice(scene, places, mended)


def _is_clipped(scene: Scene, wrong: Array) -> bool:
    """Whether all that is wrong lies at a limit, and beyond it in the truth; a size that is the formula's own is no limit."""
    got, truth = np.abs(scene.got), np.abs(scene.truth)
    limit = got.max()
    is_own = np.isclose(truth[~wrong], limit, rtol=SAME, atol=0).any() or np.ptp(truth[wrong]) <= SAME * limit
    return not is_own and bool((truth[wrong] > limit).all()) and np.allclose(got[wrong], limit, rtol=SAME)


def _find_slice(scene: Scene, places: Array, mended: Array) -> Iterator[Fault]:
    for axis in range(scene.truth.ndim):
        if len(set(places[:, axis])) == 1 and scene.truth.shape[axis] > 1 and scene.truth.ndim > 1:
            at = int(places[0, axis])
            empty = not np.take(scene.got, at, axis).any()
            where = "last" if at == scene.truth.shape[axis] - 1 else f"{at}"
            is_row = axis == 0 and empty and scene.quantity.startswith("dx")
            words = f"only index {at} of axis {axis} is wrong{' which is 0' if empty else ''}"
            yield Fault("dropped-row" if is_row else "one-slice", f"slice {axis} {where}", words, mended)
