"""Parameters on the way back: a scene comes in, gradients through a parameter wrongly transposed or turned round go out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import numpy as np

from harness.core import Array
from harness.custom.scene import Fault, Scene
from harness.floats import is_float

RANK, MOST_AXES = 60, 4


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients through a parameter that is transposed, or not, where it should not be; and through one turned round."""
    for name, value in scene.params.items():
        for order in permutations(range(value.ndim)) if 1 < value.ndim <= MOST_AXES else ():
            turned = value.transpose(order)
            if order != tuple(range(value.ndim)) and turned.shape == value.shape and value.size > 1:
                words = f"the parameter {name} is transposed where it must not be, or not where it must"
                yield Fault("transposed", f"turned {name} {order}", words, scene.pull(params={**scene.params, name: turned}))
        long = [axis for axis, size in enumerate(value.shape) if size > 1]
        for count in range(1, len(long) + 1) if value.ndim <= MOST_AXES else ():
            for axes in combinations(long, count):
                words = f"the parameter {name} is reversed along the axes {list(axes)} where it must not be, or not where it must"
                yield Fault(
                    "order", f"reversed {name} {axes}", words, scene.pull(params={**scene.params, name: np.flip(value, axes)})
                )
    for i, value in enumerate(scene.inputs):
        many = not is_float(value) or len(scene.inputs) > 1
        for axis, size in enumerate(value.shape[:MOST_AXES]):
            for name, other in _turn(value, axis) if size > 1 and (many or axis) else ():
                inputs = (*scene.inputs[:i], other, *scene.inputs[i + 1 :])
                words = f"input {i} is read {name} along its {'first axis' if not axis else f'axis {axis}'}"
                yield Fault("order", words, words, scene.pull(inputs=inputs))


def _turn(value: Array, axis: int) -> Iterator[tuple[str, Array]]:
    yield "reversed", np.flip(value, axis)
    for step in (1, -1):
        yield f"shifted by {step}", np.roll(value, step, axis)
