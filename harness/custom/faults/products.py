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
    for name, value in _list_arrays(scene).items():
        try:
            shape = np.broadcast_shapes(np.shape(value), scene.truth.shape)
        except ValueError:
            continue
        if shape == scene.truth.shape and np.size(value) > 1 and is_float(np.asarray(value)):
            yield Fault("extra-factor", f"times {name}", f"it has the factor {name} too much", scene.truth * value)
            yield Fault("missing-factor", f"over {name}", f"the factor {name} is missing", scene.truth / value)


def _list_arrays(scene: Scene) -> Mapping[str, Any]:
    known: dict[str, Any] = {f"input {i}": value for i, value in enumerate(scene.inputs)} if len(scene.inputs) > 1 else {}
    known |= {"x": scene.inputs[0], "y": scene.y, "dy": scene.dy, "1 - y": 1 - scene.y, **scene.params}
    for one in scene.operations:
        if not isinstance(one.value, list | tuple):
            known.setdefault(one.text, one.value)
    return known
