"""Closed forms: a scene of an elementwise layer comes in, its derivative written out, with one mistake in it, goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.faults.constants import tell_number
from harness.custom.faults.factors import fit_factor
from harness.custom.scene import Fault, Scene
from harness.custom.slopes import COMPARISONS, Change, Node, evaluate, list_slopes, walk
from harness.floats import find_format

RANK = 65
STEPS = 8
ORDER = ("sign", "missing-factor", "missing-term", "extra-factor")
NARROW = ("float16", "bfloat16", "float32")
Place = tuple[Node, int] | Node
Put = Callable[[float, Any], Any]


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of closed forms with a sign, a term, a factor, a number, a variable or a dtype that is another."""
    if not (scene.y.shape == scene.truth.shape == scene.dy.shape) or not scene.is_of_first_input or len(scene.inputs) > 1:
        return
    if scene.params or (scene.dy == 0).any() or not scene.operations:
        return
    roots = list(list_slopes(scene.operations, scene.inputs[0], scene.y, scene.truth / scene.dy, scene.free))
    mistaken = [fault for i, root in enumerate(roots) for fault in _mistake_terms(scene, f"form {i}", root)]
    yield from (fault for fault in mistaken if fault.cause != "extra-factor")
    for make in (_mistake_numbers, _mistake_weights, _mistake_scales, _mistake_branches):
        for i, root in enumerate(roots):
            yield from make(scene, f"form {i}", root)
    yield from (fault for fault in mistaken if fault.cause == "extra-factor")
    for make in (_mistake_variables, _cast):
        for i, root in enumerate(roots):
            yield from make(scene, f"form {i}", root)


def _tell(scene: Scene, root: Node, key: str, cause: str, words: str, place: Place, change: Change) -> Fault:
    slope = np.where(scene.free, 0.0, evaluate(root, place, change))
    said = f"{words}, in the derivative {root}"
    return Fault(cause, f"{key} {words}", said, scene.dy * slope)


def _mistake_terms(scene: Scene, form: str, root: Node) -> list[Fault]:
    """Return the form with a sign turned, without a factor or a term, or with a factor twice, in this order."""
    found = []
    for i, node in enumerate(walk(root)):
        for at, part in enumerate(node.parts):
            for cause, words, change in _list_mistakes(node.name, part):
                found.append(_tell(scene, root, f"{form} {i} {at}", cause, words.format(part), (node, at), change))
    return sorted(found, key=lambda fault: ORDER.index(fault.cause))


FACTORS: Sequence[tuple[str, str, Change]] = (
    ("missing-factor", "the factor {} is missing", np.ones_like),
    ("extra-factor", "the factor {} is there twice", np.square),
)
SUMS: Sequence[tuple[str, str, Change]] = (
    ("sign", "the term {} has the wrong sign", np.negative),
    ("missing-term", "the term {} is missing", np.zeros_like),
    ("extra-factor", "the term {} is squared", np.square),
)


def _list_mistakes(name: str, part: Node) -> Sequence[tuple[str, str, Change]]:
    """Return what may be done wrong with a part of an operation; what becomes of a number is found by a fit."""
    if name == "neg":
        return (("sign", "the minus of {} is missing", np.negative),)
    return () if part.is_number else FACTORS if name in ("*", "/") else SUMS if name in ("+", "-") else ()


def _mistake_numbers(scene: Scene, form: str, root: Node) -> Iterator[Fault]:
    """Yield the form with the number that fits best in place of each, in one place and in all."""
    nodes = walk(root)
    for i, node in enumerate(nodes):
        for at, part in enumerate(node.parts if node.name not in COMPARISONS else ()):
            if part.is_number:
                yield from _fit(scene, f"{form} {i} {at}", root, (node, at), part, node.name)
    for i, node in enumerate(nodes):
        users = [other for other in nodes if node in other.parts]
        if node.is_number and len(users) > 1:
            yield from _fit(scene, f"{form} {i}", root, node, node, users[0].name)


def _fit(scene: Scene, key: str, root: Node, place: Place, right: Node, where: str) -> Iterator[Fault]:
    found = _search(scene, root, place, right.value)
    if found is not None:
        found = 0.0 if abs(found) < 1e-6 * abs(right.value) else found
        cause, words = tell_number(found, right.value)
        yield _tell(scene, root, f"{key} {found:.4g}", _call(cause, found, right.value, where), words, place, lambda _: found)


def _call(cause: str, found: float, right: float, where: str) -> str:
    """Return the cause of another number where it is no factor: as a term 1 is but a number, as a branch it is its slope."""
    if not right:
        return "mask"
    if where == "where" and cause != "sign" and found:
        return "constant" if 0.8 < found / right < 1.25 else "factor"
    return "constant" if where in ("+", "-") and cause == "missing-factor" else cause


def _search(scene: Scene, root: Node, place: Place, right: float, put: Put = lambda value, _: value) -> float | None:
    """Return the number by which the form comes nearest to what came, by secants; None where there is none."""

    def run(value: float) -> Array:
        return np.where(scene.free, 0.0, scene.dy * evaluate(root, place, partial(put, value)))

    at = right
    for _ in range(STEPS):
        gradient, step = run(at), 1e-6 * max(abs(at), 1e-6)
        move = fit_factor(scene.got - gradient, (run(at + step) - gradient) / step)
        if not np.isfinite(move) or abs(move) > 10 * max(abs(at), abs(right), 0.1):
            return None
        at += move
        if abs(move) <= 1e-9 * abs(at):
            break
    return None if at == right else at


def _mistake_weights(scene: Scene, form: str, root: Node) -> Iterator[Fault]:
    """Yield the form with the weight that fits best before each of its terms and factors."""
    for i, node in enumerate(walk(root)):
        for at, part in enumerate(node.parts if node.name in ("+", "-") else ()):
            if not part.is_number:
                without, whole = (_run(scene, root, (node, at), change) for change in (np.zeros_like, np.copy))
                weight = fit_factor(scene.got - without, whole - without)
                if np.isfinite(weight) and abs(weight - 1) > 1e-6:
                    cause = "constant" if 0.8 < weight < 1.25 else "factor"
                    words = f"the term {part} is {weight:.6g} times what it should be, in the derivative {root}"
                    yield Fault(cause, f"{form} {i} {at} {weight:.4g}", words, without + weight * (whole - without))


def _mistake_scales(scene: Scene, form: str, root: Node) -> Iterator[Fault]:
    """Yield the form with the number that fits best before the argument of each function."""
    for i, node in enumerate(walk(root)):
        if node.name in ("exp", "tanh", "erf", "sin", "cos"):
            found = _search(scene, root, (node, 0), 1.0, np.multiply)
            if found is not None:
                cause = "sign" if abs(found + 1) < 1e-4 else "constant" if 0.5 <= found <= 2 else "factor"
                words = f"the argument of {node} is multiplied by {found:.6g}"
                change = partial(np.multiply, found)
                yield _tell(scene, root, f"{form} {i} {found:.4g}", cause, words, (node, 0), change)


def _run(scene: Scene, root: Node, place: Place, change: Change) -> Array:
    return np.where(scene.free, 0.0, scene.dy * evaluate(root, place, change))


def _mistake_branches(scene: Scene, form: str, root: Node) -> Iterator[Fault]:
    """Yield the form with its branches chosen otherwise: the other way round, or parted elsewhere by x or by its size."""
    if root.name != "where":
        return
    chosen, *branches = (np.broadcast_to(evaluate(part), scene.dy.shape) for part in root.parts)
    one, other = (np.where(scene.free, 0.0, scene.dy * branch) for branch in branches)
    near = np.abs(scene.got - one) <= np.abs(scene.got - other)
    x = scene.inputs[0]
    sides = {"x": x, "the size of x": np.abs(x), "dy": scene.dy}
    yield Fault("mask", f"{form} turned", "the branches are the wrong way round", np.where(chosen, other, one))
    for name, value in sides.items():
        for above in (True, False):
            inside = (near if above else ~near) & ~scene.free
            limit = float(value[inside].min()) if inside.any() else np.inf
            taken = (value >= limit) == above
            if 2 < taken.sum() < taken.size - 2:
                words = f"the branches of {root} part where {name} is {'above' if above else 'below'} about {limit:.3g}"
                yield Fault("mask", f"{form} {name} {above}", words, np.where(taken, one, other))


def _mistake_variables(scene: Scene, form: str, root: Node) -> Iterator[Fault]:
    """Yield the form with x or y in the place of another array."""
    nodes = walk(root)[:-1]  # the whole of it is no array in the place of another
    for cause, name, value in (("at-input", "x", scene.inputs[0]), ("at-output", "y", scene.y)):
        for i, node in enumerate(nodes):
            if np.ndim(evaluate(node)) and node.name not in COMPARISONS and node.name != name:
                yield _tell(scene, root, f"{form} {i} by {name}", cause, f"{name} stands for {node}", node, _always(value))
                for at, part in enumerate(node.parts):
                    if np.ndim(evaluate(part)) and part.name not in COMPARISONS and part.name != name:
                        words = f"{name} stands for {part} in {node}"
                        yield _tell(scene, root, f"{form} {i} {at} by {name}", cause, words, (node, at), _always(value))


def _always(value: Any) -> Change:
    return lambda _: value


def _cast(scene: Scene, form: str, root: Node) -> Iterator[Fault]:
    """Yield the form with one array held in a narrower dtype."""
    for dtype in NARROW:
        narrow = find_format(dtype).dtype
        for i, node in enumerate(walk(root)):
            value = evaluate(node)
            if np.ndim(value) and np.asarray(value).dtype.kind == "f":
                words = f"{node} is cast to {dtype}"
                yield _tell(scene, root, f"{form} {i} {dtype}", "cast", words, node, partial(_hold, narrow))


def _hold(narrow: Any, value: Array) -> Array:
    return value.astype(narrow).astype(value.dtype)
