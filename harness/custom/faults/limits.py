"""Limits: a scene comes in, the truth with what came where the input lies beyond a limit, and there alone, goes out."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb

import numpy as np

from harness.core import Array
from harness.custom.faults.factors import fit_factor
from harness.custom.faults.masks import find_wrong
from harness.custom.scene import Fault, Scene

RANK = 117
BY_CHANCE = 1e-4  # the most often that wrong entries may lie on one side of a limit when they lie anywhere


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the mended truth where all wrong entries lie on one side of a limit, or between two, and no right ones with them."""
    x = scene.inputs[0]
    if x.shape != scene.truth.shape or not scene.is_of_first_input:
        return
    wrong = find_wrong(scene)
    if not 2 <= wrong.sum() <= wrong.size - 2 or 2 / comb(int(wrong.size), int(wrong.sum())) > BY_CHANCE:
        return
    there = scene.got[wrong]
    factor = fit_factor(there, scene.truth[wrong])
    is_dy = scene.dy.shape == x.shape and np.array_equal(there, scene.dy[wrong])
    said = "0" if not there.any() else "dy" if is_dy else f"{factor:.4g} times the truth"
    mended = np.where(wrong, scene.got if said in ("0", "dy") else factor * scene.truth, scene.truth)
    for name, words in _place(x, wrong):
        cause = "mask" if said in ("0", "dy") else "factor"
        yield Fault(cause, f"{name} {said}", f"it is wrong just where {words}, and {said} there", mended)


def _place(x: Array, wrong: Array) -> Iterator[tuple[str, str]]:
    """Yield in what interval of x or its size the wrong entries lie alone."""
    for name, value in (("x", x), ("|x|", np.abs(x))):
        low, high = float(value[wrong].min()), float(value[wrong].max())
        if ((value >= low) & (value <= high) & ~wrong).any():
            continue
        below, above = (value[~wrong] < low).any(), (value[~wrong] > high).any()
        if below and above:
            yield f"{name} between", f"{name} lies within [{low:.4g}, {high:.4g}]"
        elif below:
            yield f"{name} above", f"{name} is {low:.4g} or more"
        elif above:
            yield f"{name} below", f"{name} is {high:.4g} or less"
