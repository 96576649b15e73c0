"""Mistaken numbers: a gradient written out comes in, it with the number or the weight that fits best in each place goes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.custom.expressions import COMPARISONS, Node, Place
from harness.custom.faults.constants import tell_number
from harness.custom.faults.factors import call_size, fit_factor, list_sizes
from harness.custom.forms import Form
from harness.custom.scene import Fault

STEPS = 8
MOST_RATIO = 64.0  # beyond it a number that was fitted only makes all else vanish
ROOTED = (2.0, 0.5, math.pi, 2 * math.pi, math.pi / 2, 2 / math.pi)  # numbers of which formulas take the root
Put = Callable[[float, Any], Any]


def mistake_numbers(form: Form) -> Iterator[Fault]:
    """Yield the form with the number that fits best in place of each, in one place and in all."""
    nodes, found = form.expression.nodes, list[Fault]()
    for node in nodes:
        for at, part in enumerate(node.parts if node.name not in COMPARISONS else ()):
            if part.is_number:
                found += _fit(form, (node, at), part, _name_use(form, part, "power" if node.name == "**" and at else node.name))
    for node in nodes:
        users = form.expression.users[id(node)]
        if node.is_number and len(users) > 1:
            found += _fit(form, node, node, _name_use(form, node, users[0].name))
    yield from sorted(found, key=lambda fault: fault.cause != "size-factor")


def _name_use(form: Form, part: Node, name: str) -> str:
    """Return as what a number is used: as a limit, where something is compared with it, else as what the operation says."""
    return "limit" if any(user.name in COMPARISONS for user in form.expression.users[id(part)]) else name


def _fit(form: Form, place: Place, right: Node, where: str) -> Iterator[Fault]:
    found = search(form, [place], right.value)
    if found is not None:
        found = 0.0 if abs(found) < 1e-6 * abs(right.value) else found
        cause, words = tell_number(found, right.value)
        sizes, near = set(list_sizes(form.scene).values()), round(found, 6)
        if right.value in sizes and (near in sizes or abs(near - right.value) == 1):
            yield form.tell("size-factor", f"{words}, another size", place, lambda _: found)
        if where in ("*", "/") and right.value:
            yield from _call_sizes(form, found / right.value, words, place, found)
            if abs(found / right.value) > MOST_RATIO:
                return
        is_factor = isinstance(place, tuple) and place[0].name == "*" and cause == "missing-factor"
        yield form.tell(cause if is_factor else _call(cause, found, right.value, where), words, place, lambda _: found)


def _call_sizes(form: Form, ratio: float, words: str, place: Place, found: float) -> Iterator[Fault]:
    """Yield what a number is where it is a size times what it should be, or a part of it."""
    for cause, name, said in call_size(form.scene, ratio):
        fault = form.tell(cause, f"{words}: {said.replace('the truth', 'it')}", place, lambda _: found)
        yield Fault(cause, f"{form.name} {name}", fault.words, fault.gradient)


def _call(cause: str, found: float, right: float, where: str) -> str:
    """Return the cause of another number where it is no factor: as a term 1 is but a number, as a branch it is its slope."""
    if not right:
        return "mask"
    if where == "power" and found * right > 0:
        return "extra-factor" if abs(found) > abs(right) else "missing-factor"
    if abs(found - right * right) <= 1e-4 * abs(found):
        is_root = any(abs(right * right - known) <= 1e-3 * known for known in ROOTED)
        return "factor" if is_root else "extra-factor"
    if where == "limit" and cause in ("missing-factor", "factor"):
        return "constant"
    if where == "where" and cause != "sign" and found:
        return "constant" if 0.5 < found / right < 2 else "factor"
    return "constant" if where in ("+", "-") and cause in ("missing-factor", "factor") else cause


def search(form: Form, places: Sequence[Place], right: float, put: Put = lambda value, _: value) -> float | None:
    """Return the number by which the form comes nearest to what came, by secants; None where there is none."""
    at = right
    for _ in range(STEPS):
        gradient, step = form.run(*places, change=partial(put, at)), 1e-6 * max(abs(at), 1e-6)
        move = fit_factor(form.scene.got - gradient, (form.run(*places, change=partial(put, at + step)) - gradient) / step)
        if not np.isfinite(move) or abs(move) > 10 * max(abs(at), abs(right), 0.1):
            return None
        at += move
        if abs(move) <= 1e-9 * abs(at):
            break
    return None if at == right else at


def mistake_weights(form: Form) -> Iterator[Fault]:
    """Yield the form with the weight that fits best before each of its terms and branches."""
    for node in form.expression.nodes:
        for at, part in enumerate(node.parts if node.name in ("+", "-", "where") else ()):
            if not part.is_number and np.asarray(form.expression.get(part)).dtype.kind == "f":
                without, whole = (form.run((node, at), change=change) for change in (np.zeros_like, np.copy))
                weight = fit_factor(form.scene.got - without, whole - without)
                if np.isfinite(weight) and abs(weight - 1) > 1e-6:
                    cause, key, said = _call_weight(form, weight)
                    words = f"the term {part} is {weight:.6g} times what it should be{said}, in the derivative {form.text}"
                    name = f"{form.name} {part} in {node} {key}"
                    yield Fault(cause, name, words, without + weight * (whole - without))


def _call_weight(form: Form, weight: float) -> tuple[str, str, str]:
    """Return the cause, a name and more words of a weight: a size, another number near 1, a factor."""
    for cause, name, said in call_size(form.scene, weight):
        if weight not in (0.5, 2.0):
            return cause, name, f" ({said.split(' of the truth, and ')[-1].split(' times the truth, and ')[-1]})"
    return ("constant" if 0.8 < weight < 1.25 else "factor"), f"{weight:.4g}", ""


def mistake_scales(form: Form) -> Iterator[Fault]:
    """Yield the form with the number that fits best before the argument of each function."""
    for node in form.expression.nodes:
        if node.name in ("exp", "tanh", "erf", "sin", "cos"):
            found = search(form, [(node, 0)], 1.0, np.multiply)
            if found is not None:
                cause = "sign" if abs(found + 1) < 1e-4 else "constant" if 0.5 <= found <= 2 else "factor"
                words = f"the argument of {node} is multiplied by {found:.6g}"
                yield form.tell(cause, words, (node, 0), partial(np.multiply, found))
