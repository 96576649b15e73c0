"""Constants: a scene comes in, the gradient of the formula with another number in one place goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.faults.factors import fit_factor
from harness.custom.probe import Call, Operation, change_at
from harness.custom.scene import Fault, Scene

RANK = 112
STEPS, MOST_NUMBERS = 8, 24
ARITHMETIC = ("+", "-", "*", "/", "**", "xp.maximum", "xp.minimum", "xp.pow")


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the gradient with the number that fits best in place of each number of the formula."""
    numbers = [(one, at) for one in scene.operations if one.name in ARITHMETIC for at in one.constants]
    for one, place in numbers[:MOST_NUMBERS]:
        found = _fit(scene, one, place)
        if found is not None:
            number, gradient = found
            cause, words = tell_number(number, one.constants[place])
            if one.name in ("+", "-") and cause == "factor":
                cause = "constant"  # a number that is added is no factor
            said = f"it is the gradient for {words} in {one.text}"
            yield Fault(cause, f"{one.index} {place} {number:.4g}", said, gradient)
    yield from _change_alike(scene)


def _change_alike(scene: Scene) -> Iterator[Fault]:
    """Yield the gradient with the numbers of all operations that are alike changed by one rule, as those of one array."""
    groups: dict[tuple[str, int], set[int]] = {}
    for one in scene.operations:
        for place in one.constants if one.name in ("*", "/", "**") else ():
            groups.setdefault((one.name, place), set()).add(one.index)
    for (name, place), indices in groups.items():
        for cause, said, rule in RULES if len(indices) > 1 else ():
            words = f"the numbers of {name} in the formula are {said}, in {len(indices)} places"
            tamper = change_at(indices, partial(_change_number, place, rule))
            yield Fault(cause, f"{name} {place} {said}", words, scene.pull(tamper=tamper))


RULES: Sequence[tuple[str, str, Callable[[float], float]]] = (
    ("extra-factor", "squared", lambda value: value * value),
    ("missing-factor", "replaced by their roots", lambda value: abs(value) ** 0.5),
    ("factor", "turned upside down", lambda value: 1 / value if value else 0.0),
    ("missing-factor", "left out", lambda value: 1.0),
)


def _change_number(place: int, rule: Callable[[float], float], call: Call) -> Any:
    number = call.operation.constants.get(place)
    if number is None:
        return None
    return call.repeat(*[rule(number) if i == place else value for i, value in enumerate(call.arguments)])


def tell_number(number: float, right: float) -> tuple[str, str]:
    """Return the cause of another number than the right one, and both in words.

    >>> tell_number(0.0447, 0.044715)
    ('constant', '0.0447 instead of 0.044715')
    """
    ours, theirs = _tell_apart(number, right)
    return _call(number, right), f"{ours} instead of {theirs}"


def _call(number: float, right: float) -> str:
    """Return the cause of another number: of 0, 1 or the opposite it is a term, a factor or a sign that is wrong."""
    for value, cause in ((0.0, "missing-term"), (1.0, "missing-factor"), (-right, "sign")):
        if value != right and abs(number - value) <= 1e-4 * abs(right):
            return cause
    ratio = number / right if right else np.inf
    return "constant" if 0.5 + 1e-4 < ratio < 2 - 1e-4 else "factor"


def _tell_apart(one: float, other: float) -> tuple[str, str]:
    """Return two numbers with as many digits as tell them apart, and two more.

    >>> _tell_apart(0.0447, 0.044715), _tell_apart(0.79788456, 0.7978845608)
    (('0.0447', '0.044715'), ('0.79788456', '0.7978845608'))
    """
    digits = next((n for n in range(4, 15) if f"{one:.{n}g}" != f"{other:.{n}g}"), 15) + 2
    return f"{one:.{digits}g}", f"{other:.{digits}g}"


def _fit(scene: Scene, one: Operation, place: int) -> tuple[float, Array] | None:
    """Return the number by which the gradient comes nearest to what the layer gave, by secants, and that gradient."""
    number = one.constants[place]
    at, gradient = number, scene.truth
    for _ in range(STEPS):
        step = 1e-6 * max(abs(at), 1e-6)
        slope = (_pull(scene, one, place, at + step) - gradient) / step
        move = fit_factor(scene.got - gradient, slope)
        if not np.isfinite(move) or abs(move) > 10 * max(abs(at), 1e-3):
            return None
        at += move
        gradient = _pull(scene, one, place, at)
        if abs(move) <= 1e-9 * abs(at):
            break
    return None if at == number else (at, gradient)


def _pull(scene: Scene, one: Operation, place: int, number: float) -> Array:
    return scene.pull(tamper=_replace(one.index, place, number))


def _replace(index: int, place: int, number: float) -> Callable[[Call], Any]:
    def change(call: Call) -> Any:
        if call.operation.index != index:
            return None
        return call.repeat(*[number if i == place else value for i, value in enumerate(call.arguments)])

    return change
