"""Factors that are arrays: a scene comes in, the truth with one factor too many or too few goes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from harness.custom.scene import Fault, Scene
from harness.floats import is_float

RANK = 70


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth times and over each array at hand: what went in, what came out, and what the formula has in between."""
    if scene.truth.shape == scene.dy.shape and scene.is_of_first_input:
        yield Fault("extra-factor", "slope", "its local derivative is applied twice", scene.truth * scene.truth / scene.dy)
    for name, value in list_arrays(scene, scene.truth.shape).items():
        divides = is_divisor(scene, value)
        times, over = ("missing-factor", "extra-factor") if divides else ("extra-factor", "missing-factor")
        words = f"the division by {name} is missing" if divides else f"it has the factor {name} too much"
        yield Fault(times, f"times {name}", words, scene.truth * value)
        words = f"it is divided by {name} once too often" if divides else f"the factor {name} is missing"
        yield Fault(over, f"over {name}", words, scene.truth / value)


def is_divisor(scene: Scene, value: Any) -> bool:
    """Whether the formula divides by the array: then to divide by it is one factor too many, and not to do so one too few."""
    return any(one.name == "/" and np.array_equal(one.arguments[1], value) for one in scene.operations)


def list_arrays(scene: Scene, shape: tuple[int, ...]) -> Mapping[str, Any]:
    """Return the arrays of floats that a gradient of this shape may have as a factor, by what they are."""
    known: dict[str, Any] = {f"input {i}": value for i, value in enumerate(scene.inputs)} if len(scene.inputs) > 1 else {}
    known |= {"x": scene.inputs[0], "y": scene.y, "dy": scene.dy, "1 - y": 1 - scene.y, **scene.params}
    for one in scene.operations:
        if not isinstance(one.value, list | tuple):
            known.setdefault(one.text, one.value)
    return {name: value for name, value in known.items() if _is_factor(value, shape)}


def _is_factor(value: Any, shape: tuple[int, ...]) -> bool:
    if np.size(value) < 2 or not is_float(np.asarray(value)):
        return False
    try:
        return np.broadcast_shapes(np.shape(value), shape) == shape
    except ValueError:
        return False
