"""Places: a scene comes in, derivatives taken at the output for the input, or at the input for the output, go out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.custom.probe import Call, Operation, change_at, shape_of, stand_in
from harness.custom.scene import Fault, Scene

RANK, STEP = 50, 1e-6
RULES: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "xp.tanh": ("1 - y^2", lambda x: 1 - x * x),
    "xp.exp": ("y", lambda x: x),
    "xp.sqrt": ("1 / (2 y)", lambda x: 1 / (2 * np.where(x == 0, np.nan, x))),
}


WRONG: Mapping[str, Sequence[tuple[str, str, str, Callable[[Any], Any]]]] = {
    "xp.tanh": (
        ("1 - y^2", "1 - y", "missing-factor", lambda y: 1 - y),
        ("1 - y^2", "1 + y^2", "sign", lambda y: 1 + y * y),
        ("1 - y^2", "-y^2", "missing-term", lambda y: -y * y),
    ),
    "xp.sqrt": (("1 / (2 y)", "1 / y", "missing-factor", lambda y: 1 / np.where(y == 0, np.nan, y)),),
    "xp.log": (("1 / x", "y", "missing-factor", lambda y: y),),
}


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield derivatives in the wrong place: of the layer as a whole, then of each function of one array inside its formula."""
    if scene.y.shape == scene.inputs[0].shape and scene.is_of_first_input:
        words = "the derivative is taken at the output instead of the input"
        yield Fault("at-output", "at output", words, scene.pull(inputs=(scene.y, *scene.inputs[1:])))
        x = scene.inputs[0]
        for name, rule in (("y (1 - y)", x * (1 - x)), ("1 - y^2", 1 - x * x), ("y", x)):
            words = f"the derivative {name} is taken at the input instead of the output"
            yield Fault("at-input", f"at input {name}", words, scene.dy * rule)
    for operation in scene.operations:
        if operation.name.startswith("xp.") and operation.varies == (True,) and _keeps_shape(operation):
            yield from _move(scene, operation)


def _keeps_shape(operation: Operation) -> bool:
    return np.shape(operation.value) == np.shape(operation.arguments[0]) and operation.name != "xp.abs"


def _move(scene: Scene, operation: Operation) -> Iterator[Fault]:
    """Yield the gradient with the derivative of one function taken at its own output, or its rule of the output at the input."""
    place = operation.text
    words = f"the derivative of {place} is taken at its output instead of its input"
    yield Fault(
        "at-output", f"{operation.index} at output", words, scene.pull(tamper=change_at({operation.index}, _take_at_output))
    )
    if operation.name in RULES:
        said, rule = RULES[operation.name]
        words = f"the derivative {said} of {place} is taken at its input instead of its output"
        change = change_at(
            {operation.index}, lambda call: stand_in(call.value, call.arguments[0] * rule(call.operation.arguments[0]))
        )
        yield Fault("at-input", f"{operation.index} at input", words, scene.pull(tamper=change))
    words = f"the derivative of {place} is applied twice"
    yield Fault("extra-factor", f"{operation.index} twice", words, scene.pull(tamper=change_at({operation.index}, _apply_twice)))
    for right, said, cause, rule in WRONG.get(operation.name, ()):
        words = f"the derivative of {place} is {said} instead of {right}, with y its output"
        tamper = change_at({operation.index}, partial(_follow, rule))
        yield Fault(cause, f"{operation.index} wrong rule {said}", words, scene.pull(tamper=tamper))


def _apply_twice(call: Call) -> Any:
    """Return the value with the square of its slope, which is found by differences: the square needs no more digits."""
    x = np.asarray(call.operation.arguments[0], np.float64)
    step = STEP * np.maximum(np.abs(x), 1.0)
    slope = (np.asarray(call.repeat(x + step)) - np.asarray(call.repeat(x - step))) / (2 * step)
    return stand_in(call.value, call.arguments[0] * slope**2)


def _follow(rule: Callable[[Any], Any], call: Call) -> Any:
    return stand_in(call.value, call.arguments[0] * rule(call.operation.value))


def _take_at_output(call: Call) -> Any:
    (x,) = call.arguments
    y = call.operation.value
    return stand_in(call.value, call.repeat(y + (x - call.operation.arguments[0]))) if shape_of(x) == np.shape(y) else None
