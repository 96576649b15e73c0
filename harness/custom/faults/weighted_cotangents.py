"""Weighted cotangents: a scene comes in, gradients of dy with an array too much or too few as a factor go out."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core import Array
from harness.custom.faults.factors import call_size, fit_factor
from harness.custom.faults.products import is_divisor, list_arrays
from harness.custom.scene import Fault, Scene

RANK = 105


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of dy times and over each array at hand: a factor of what is summed, which no factor of the sum can be."""
    for name, value in list_arrays(scene, scene.dy.shape).items():
        divides = is_divisor(scene, value)
        times, over = ("missing-factor", "extra-factor") if divides else ("extra-factor", "missing-factor")
        words = f"dy is {'not divided' if divides else 'multiplied'} by {name} on the way"
        yield from _weigh(scene, times, words, scene.dy * value)
        words = f"dy is divided by {name} {'once too often' if divides else 'on the way, or not multiplied'}"
        yield from _weigh(scene, over, words, scene.dy / value)


def _weigh(scene: Scene, cause: str, words: str, dy: Array) -> Iterator[Fault]:
    """Yield the gradient, and, where a size is wrong too, a mean of another number of entries, its multiple."""
    gradient = scene.pull(dy)
    yield Fault(cause, words, words, gradient)
    factor = fit_factor(scene.got, gradient)
    for size_cause, name, said in call_size(scene, factor):
        yield Fault(size_cause, f"{words} {name}", f"{words}, and {said}", factor * gradient)
