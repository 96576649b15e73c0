"""Constant factors: a scene comes in, the truth times the one number that fits best goes out, under the names it can have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.core import Array
from harness.custom.scene import Fault, Scene

RANK = 10
NEAR, FAR = 1e-4, 0.02  # of the factor less 1: so near is the same; what is as far is another one


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth times the number that fits best, under each name that it can have; and times what it clearly is not."""
    factor = fit_factor(scene.got, scene.truth)
    if not np.isfinite(factor) or not factor:
        return
    for one in list_known(scene):
        if one.is_near(factor):
            yield Fault(one.cause, one.name, one.words, factor * scene.truth)
        elif not one.is_near(factor, FAR):
            yield Fault(one.cause, one.name, one.words, one.value * scene.truth)
    yield Fault("factor", f"factor {factor:.4g}", f"it is {factor:.7g} times the truth, a constant factor", factor * scene.truth)


def fit_factor(value: Array, of: Array) -> float:
    """Return the number by which `of` comes nearest to `value`, in the sense of least squares; NaN where `of` is 0."""
    square = float(np.vdot(of, of))
    return float(np.vdot(of, value)) / square if square else float("nan")


@dataclass(frozen=True)
class KnownFactor:
    """A number that a factor may be, and what is said then."""

    value: float
    cause: str
    name: str
    words: str

    def is_near(self, factor: float, share: float = NEAR) -> bool:
        """Whether the factor is this number, to a share of how far it is from 1."""
        return abs(factor - self.value) <= share * abs(factor - 1)


def list_known(scene: Scene) -> Iterator[KnownFactor]:
    """Yield what a constant factor may be.

    Trials of several sizes tell a factor that is a size from one that merely equals it in one of them.
    """
    yield KnownFactor(-1.0, "sign", "sign", "its sign is wrong")
    yield from _list_known_sizes(scene)
    for value, words in ((2.0, "it is twice the truth: added twice"), (0.5, "it is half the truth")):
        yield KnownFactor(value, "factor", words, words)
    for name, size in list_sizes(scene).items():
        for power, words in ((0.5, "not divided by the root"), (-0.5, "divided by the root once too often")):
            if size > 1:
                said = f"it is {size**power:.7g} times the truth, {size}**{power}: {words} of {name}"
                yield KnownFactor(size**power, "size-factor", f"{name}**{power}", said)
            for off in (-1, 1):
                if size + off > 0:
                    value = (size / (size + off)) ** power
                    said = f"it is {value:.7g} times the truth, ({size}/{size + off})**{power}, and {size} is {name}"
                    said += f": {size + off} for {size} under a root"
                    yield KnownFactor(value, "size-factor", f"{name}{off:+d}**{power}", said)


def call_size(scene: Scene, factor: float) -> Iterator[tuple[str, str, str]]:
    """Yield cause, name and words of what a factor may be where it comes of a size: of the batch, of an axis, of all entries."""
    yield from ((one.cause, one.name, one.words) for one in _list_known_sizes(scene) if one.is_near(factor))


def _list_known_sizes(scene: Scene) -> Iterator[KnownFactor]:
    for name, size in list_sizes(scene).items():
        words = f"it is 1/{size} of the truth, and {size} is {name}: a mean for a sum, or divided once too often"
        yield KnownFactor(1 / size, "size-factor", f"1/{name}", words)
        words = f"it is {size} times the truth, and {size} is {name}: a sum for a mean, or not divided"
        yield KnownFactor(float(size), "size-factor", name, words)
        for off in (-1, 1):
            if size + off > 0:
                words = f"it is {size}/{size + off} of the truth, and {size} is {name}: {size + off} for {size}"
                yield KnownFactor(size / (size + off), "size-factor", f"{name}{off:+d}", words)


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
