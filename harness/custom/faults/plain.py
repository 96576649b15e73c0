"""Plain gradients: a scene comes in, predictions of 0, of another quantity's gradient and of the cotangent itself go out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.custom.scene import Fault, Scene

RANK = 0


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients that are 0, another quantity's, or the cotangent itself."""
    yield Fault("zero", "zero", "it is 0 everywhere", np.zeros_like(scene.truth))
    for name, value in scene.true.items():
        same = value.shape == scene.truth.shape and np.array_equal(np.abs(value), np.abs(scene.truth))  # then but a sign
        if name != scene.quantity and not same:
            words = f"it is the gradient {name} instead: the two are swapped, or a factor is missing"
            yield Fault("swapped", f"swapped {name}", words, value)
    if scene.quantity.startswith("dx"):
        yield Fault("identity", "identity", "it is dy itself: the local derivative is missing", scene.dy)
