"""Factors of terms: a scene comes in, gradients in which one term has the weight that fits best go out."""

from __future__ import annotations

from collections.abc import Iterator

from harness.custom.faults.terms import weigh_terms
from harness.custom.scene import Fault, Scene

RANK = 111
NEAR = (0.8, 1.25)  # a weight so near to 1 rather is another constant


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients in which what flows through one argument of one operation is a multiple of what it should be."""
    for weight, key, side, gradient in weigh_terms(scene):
        if not NEAR[0] < weight < NEAR[1]:
            words = f"the term that flows through {side} is {weight:.4g} times what it should be"
            yield Fault("factor", f"{key} times {weight:.3g}", words, gradient)
