"""Offsets: a scene comes in, the truth of an elementwise layer with a constant more or less in its derivative goes out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.custom.faults.masks import find_wrong
from harness.custom.scene import Fault, Scene

RANK = 118


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth plus a constant times dy, in the entries that are wrong; three of them must agree on the constant."""
    if not (scene.y.shape == scene.truth.shape == scene.dy.shape) or not scene.is_of_first_input or (scene.dy == 0).any():
        return
    wrong = find_wrong(scene)
    if wrong.sum() < 3:
        return
    offset = float(np.median((scene.error / scene.dy)[wrong]))
    if not scene.truth[wrong].any():
        words = f"where it must be 0 it is {offset:.6g} dy: a mask is missing"
        yield Fault("mask", f"unmasked {offset:.4g}", words, np.where(wrong, offset * scene.dy, scene.truth))
        return
    known = {abs(number) for one in scene.operations for number in one.constants.values()}
    is_term = any(abs(abs(offset) - number) <= 1e-6 * number for number in known)
    what = "a term is missing" if is_term else "another constant"
    slope = float(np.median(np.abs(scene.truth / scene.dy)[wrong]))
    if not is_term and abs(offset) > 0.25 * slope:
        return
    words = f"its derivative is {offset:+.6g} off in every entry that is wrong: {what}"
    gradient = np.where(wrong, scene.truth + offset * scene.dy, scene.truth)
    yield Fault("missing-term" if is_term else "constant", f"offset {offset:.4g}", words, gradient)
