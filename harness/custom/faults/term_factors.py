"""Factors of terms: a scene comes in, gradients in which one term has the weight that fits best go out."""

from __future__ import annotations

from collections.abc import Iterator

from harness.custom.faults.terms import weigh_terms
from harness.custom.scene import Fault, Scene

RANK = 111
NEAR = (0.8, 1.25)  # a weight so near to 1 rather is another constant


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients in which what flows through one argument of one operation is a multiple of what it should be."""
    numbers = {abs(number) for one in scene.operations for number in one.constants.values()} - {0.0, 1.0}
    for weight, key, side, gradient in weigh_terms(scene):
        for number in sorted(numbers):
            for value, cause, said in ((1 / number, "missing-factor", "lacks"), (number, "extra-factor", "has twice")):
                if abs(weight - value) <= 1e-3 * value:
                    words = f"the term that flows through {side} {said} the factor {number:.6g} of the formula"
                    yield Fault(cause, f"{key} {said} {number:.6g}", words, gradient)
        if not NEAR[0] < weight < NEAR[1]:
            words = f"the term that flows through {side} is {weight:.4g} times what it should be"
            yield Fault("factor", f"{key} times {weight:.3g}", words, gradient)
