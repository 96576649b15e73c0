"""Constant factors: a scene comes in, the truth times the one number that fits best goes out, under the names it can have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.custom.scene import Fault, Scene

RANK = 10


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth times the number that fits best, under each name that the number can have."""
    factor = fit_factor(scene.got, scene.truth)
    if np.isfinite(factor) and factor:
        for cause, name, words in call_factor(scene, factor):
            yield Fault(cause, name, words, factor * scene.truth)


def fit_factor(value: Array, of: Array) -> float:
    """Return the number by which `of` comes nearest to `value`, in the sense of least squares; NaN where `of` is 0."""
    square = float(np.vdot(of, of))
    return float(np.vdot(of, value)) / square if square else float("nan")


def call_factor(scene: Scene, factor: float) -> Iterator[tuple[str, str, str]]:
    """Yield cause, name and words of what a constant factor may be, the plain number last.

    Trials of several sizes tell a factor that is a size from one that merely equals it in one of them.
    """
    if _is(factor, -1):
        yield "sign", "sign", "its sign is wrong"
    yield from call_size(scene, factor)
    for value, words in ((2.0, "it is twice the truth: added twice"), (0.5, "it is half the truth")):
        if _is(factor, value):
            yield "factor", words, words
    for name, size in list_sizes(scene).items():
        for power, words in ((0.5, "not divided by the root"), (-0.5, "divided by the root once too often")):
            if size > 1 and _is(factor, size**power):
                yield "size-factor", f"{name}**{power}", f"it is {factor:.7g} times the truth, {size}**{power}: {words} of {name}"
            for off in (-1, 1):
                if size + off > 0 and _is(factor, (size / (size + off)) ** power):
                    said = f"it is {factor:.7g} times the truth, ({size}/{size + off})**{power}, and {size} is {name}"
                    yield "size-factor", f"{name}{off:+d}**{power}", f"{said}: {size + off} for {size} under a root"
    yield "factor", f"factor {factor:.4g}", f"it is {factor:.7g} times the truth, a constant factor"


def call_size(scene: Scene, factor: float) -> Iterator[tuple[str, str, str]]:
    """Yield what a factor may be where it comes of a size: of the batch, of an axis, of all entries."""
    for name, size in list_sizes(scene).items():
        if _is(factor, 1 / size):
            words = f"it is 1/{size} of the truth, and {size} is {name}: a mean for a sum, or divided once too often"
            yield "size-factor", f"1/{name}", words
        if _is(factor, size):
            words = f"it is {size} times the truth, and {size} is {name}: a sum for a mean, or not divided"
            yield "size-factor", name, words
        for off in (-1, 1):
            if size + off > 0 and _is(factor, size / (size + off)):
                words = f"it is {size}/{size + off} of the truth, and {size} is {name}: {size + off} for {size}"
                yield "size-factor", f"{name}{off:+d}", words


def _is(factor: float, value: float) -> bool:
    return abs(factor - value) <= 1e-4 * abs(factor - 1)


def list_sizes(scene: Scene) -> dict[str, int]:
    """Return the sizes that a factor may be, by what they are; the batch first."""
    sizes = {}
    if scene.dy.ndim or scene.inputs[0].ndim:
        sizes["the batch"] = scene.inputs[0].shape[0] if scene.inputs[0].ndim else 1
    named = [("input", scene.inputs[0]), ("output", scene.y)]
    named += [(f"input {i}", value) for i, value in enumerate(scene.inputs) if i]
    for label, value in [*named, *scene.params.items()]:
        sizes |= {f"axis {axis} of the {label}": size for axis, size in enumerate(value.shape)}
        sizes[f"the number of entries of the {label}"] = value.size
    if scene.truth.size and scene.y.size % scene.truth.size == 0 and scene.y.size > scene.truth.size:
        sizes["the number of entries of dy that each of its entries sums"] = scene.y.size // scene.truth.size
    return {name: size for name, size in sizes.items() if size}
