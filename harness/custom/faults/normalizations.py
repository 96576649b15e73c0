"""Normalizations: a scene comes in, the backward pass of a softmax or a norm with its sums over another axis goes out.

Both divide: a softmax gives h = e / sum(e), a norm h = c / root(mean(c^2)). Behind them the way back subtracts sums of what
comes in, dh (1 - h sum(h .)) for a softmax, dh - mean(dh) - h mean(h dh) for a norm, here over an axis of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.custom.probe import Call, detach, stand_in
from harness.custom.scene import Fault, Scene

RANK = 96
REDUCTIONS = ("xp.sum", "xp.mean")


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients in which one quotient of the formula is normalized over each axis on the way back."""
    for one in scene.operations:
        if one.name != "/" or len(one.varies) != 2 or not all(one.varies) or not np.ndim(one.value):
            continue
        for axis in range(np.ndim(one.value)):
            for name, rule in RULES.items():
                words = f"the sums behind {one.text} run over axis {axis} on the way back"
                yield Fault(
                    "wrong-axis", f"{one.index} {name} {axis}", words, scene.pull(tamper=partial(_go_back, one.index, axis, rule))
                )


def _go_back(index: int, axis: int, rule: Callable[..., Any], call: Call) -> Any:
    """Return the quotient with the rule's gradient, and what was reduced before it without any."""
    if call.operation.index < index:
        return detach(call.value) if call.operation.name in REDUCTIONS else None
    if call.operation.index != index:
        return None
    xp = make_autograd_namespace()
    size = call.operation.arguments[1]
    u = call.arguments[0] / size
    return stand_in(call.value, rule(u, call.operation.value, size, lambda value: xp.mean(value, axis=axis, keepdims=True)))


def _soften(u: Any, h: Any, size: Any, mean: Callable[[Any], Any]) -> Any:
    count = np.size(h) / np.size(detach(mean(h)))
    return u - h * mean(u) * count


def _center(u: Any, h: Any, size: Any, mean: Callable[[Any], Any]) -> Any:
    return u - mean(u) - h * mean(h * u)


def _scale(u: Any, h: Any, size: Any, mean: Callable[[Any], Any]) -> Any:
    return u - h * mean(h * u)


def _scale_outside(u: Any, h: Any, size: Any, mean: Callable[[Any], Any]) -> Any:
    """Return the same for an author who divides by the cube of the size behind the sum, not within it."""
    return u - h * size * mean(h * u / size)


RULES = {"softmax": _soften, "norm": _center, "scale": _scale, "scale outside": _scale_outside}
