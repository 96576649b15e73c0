"""Mistakes: a scene and a gradient written out as an expression come in, the gradients of its common mistakes go out.

One place of the expression is changed at a time: a sign, a term, a factor, a number, an axis, an array for another, a dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.expressions import (
    BINARY,
    COMPARISONS,
    FUNCTIONS,
    Change,
    Expression,
    Node,
    Place,
    hold,
    is_array,
    outline,
    walk,
)
from harness.custom.faults.constants import tell_number
from harness.custom.faults.cotangents import LIMITS
from harness.custom.faults.factors import call_size, fit_factor, list_sizes
from harness.custom.scene import Fault, Scene
from harness.floats import find_format

STEPS = 8
FACTORS_FIRST = ("sign", "missing-factor", "missing-term", "extra-factor")
TERMS_FIRST = ("sign", "missing-term", "missing-factor", "extra-factor")
OF_COTANGENT = {"missing-factor": "cotangent-ignored", "extra-factor": "cotangent-changed"}  # what it is where it is all of dy
FEW = 3  # a mask has no more values
LONGEST = 80  # letters of a whole expression
MOST_NODES, MOST_TERMS, MOST_STEPS = 160, 32, 5
MOST_RATIO = 64.0  # beyond it a number that was fitted only makes all else vanish
ROOTED = (2.0, 0.5, math.pi, 2 * math.pi, math.pi / 2, 2 / math.pi)  # numbers of which formulas take the root
STRICT = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
NARROW = ("float16", "bfloat16", "float32")
Put = Callable[[float, Any], Any]


@dataclass(frozen=True, eq=False)
class Form:
    """One way to write the gradient of a scene, and its name: `scale`, which no mistake touches, times an expression.

    `order` tells which mistakes with terms and factors are thought of first, where several give the same.
    """

    name: str
    scene: Scene
    expression: Expression
    scale: Any = 1.0
    order: Sequence[str] = TERMS_FIRST

    @property
    def root(self) -> Node:
        """The whole expression."""
        return self.expression.root

    @cached_property
    def text(self) -> str:
        """The whole expression as it is written, and what its names stand for."""
        notes = {node.label: replace(node, label="") for node in reversed(self.expression.nodes) if node.label}
        said = ", ".join(f"{name} = {node.write(LONGEST)}" for name, node in notes.items())
        return self.root.write(LONGEST) + (f" with {said}" if said else "")

    @cached_property
    def is_true(self) -> bool:
        """Whether it is the gradient."""
        gradient, truth = self.run(), self.scene.truth
        return bool(np.isfinite(gradient).all() and np.linalg.norm(gradient - truth) <= 1e-9 * np.linalg.norm(truth))

    def rank(self, cause: str) -> int:
        """Return how soon a cause is thought of."""
        return self.order.index(cause) if cause in self.order else 0

    def run(self, *places: Place, change: Change = lambda value: value) -> Array:
        """Return the gradient with some places changed alike; NaN where the shapes then do not fit."""
        return self.run_each([(place, change) for place in places])

    def run_each(self, changes: Sequence[tuple[Place, Change]]) -> Array:
        """Return the gradient with each place changed in its own way."""
        shape = self.scene.truth.shape
        try:
            value = np.broadcast_to(self.scale * self.expression.evaluate_each(changes), shape)
        except (ValueError, TypeError, IndexError):  # reason: an array in the place of another may have any shape
            return np.full(shape, np.nan)
        return np.where(self.scene.free, 0.0, value)

    def tell(self, cause: str, words: str, place: Place, change: Change) -> Fault:
        """Return what one mistake gives."""
        gradient = self.run(place, change=change)
        if cause == "missing-factor" and np.allclose(np.abs(gradient), np.abs(self.scene.truth), rtol=1e-9, atol=0):
            cause = "sign"  # all that the factor did was to give the signs
        return Fault(cause, f"{self.name} {words}", f"{words}, in the derivative {self.text}", gradient)

    def tell_all(self, cause: str, words: str, places: Sequence[Place], change: Change) -> Fault:
        """Return what one mistake gives that is made in several places alike, as within a loop."""
        said = f"{words}, in {len(places)} place{'s'[: len(places) > 1]} of the derivative {self.text}"
        return Fault(cause, f"{self.name} all {words}", said, self.run(*places, change=change))


def list_mistakes(known: Sequence[Form]) -> Iterator[Fault]:
    """Yield what mistakes give, in all forms those that explain most simply first; a form of very many nodes is left out."""
    forms = [form for form in known if len(form.expression.nodes) <= MOST_NODES]
    mistaken = [fault for form in forms for fault in _mistake_terms(form)]
    yield from (fault for fault in mistaken if fault.cause != "extra-factor")
    for form in forms:
        for make in (_keep_one_term, _mistake_uses, _mistake_reductions, _mistake_numbers):
            yield from make(form)
    for form in forms:
        for make in (_mistake_weights, _mistake_scales, _mistake_branches):
            yield from make(form)
    yield from (fault for fault in mistaken if fault.cause == "extra-factor")
    for make in (
        _mistake_loops,
        _mistake_matrices,
        _advance_states,
        _skip_steps,
        _clip,
        _mistake_variables,
        _mistake_rows,
        _cast,
    ):
        for form in forms:
            yield from make(form)


def _mistake_terms(form: Form) -> list[Fault]:
    """Return the form with a sign turned, without a factor or a term, or with a factor twice, in this order."""
    found = list[tuple[bool, Fault]]()
    for node in form.expression.nodes:
        for at, part in enumerate(node.parts):
            for cause, words, change in _list_changes(node.name, part):
                users = sum(part in other.parts for other in form.expression.nodes)
                where = f" in {node}" if users > 1 and node is not form.root else ""
                own = OF_COTANGENT.get(cause, cause) if part.name == "dy" and users == 1 else cause
                own = "mask" if part.name in COMPARISONS and cause == "missing-factor" else own
                late = cause == "missing-factor" and part.name == "+"  # of 1 + t rather a term is forgotten, of 1 - t all of it
                found.append((late, form.tell(own, f"{words.format(part)}{where}", (node, at), change)))
    ranked = sorted(found, key=lambda one: form.order.index("missing-term") + 0.5 if one[0] else form.rank(one[1].cause))
    return [fault for _, fault in ranked]


def _mistake_loops(form: Form) -> Iterator[Fault]:
    """Yield the form with a mistake with a term or a factor, or a cast, in all places that are alike, as in a loop unrolled."""
    groups: dict[tuple[str, int, str], list[tuple[Node, int]]] = {}
    for depth in (3, 1):  # the first step of a loop, from a state of its own, is like the others from afar alone
        for node in form.expression.nodes:
            for at, part in enumerate(node.parts):
                groups.setdefault((node.name, at, f"{depth} {outline(part, depth)}"), []).append((node, at))
    found = []
    for places in groups.values():
        yield from _shift_steps(form, places)
    for (name, _, _), places in groups.items():
        part = places[0][0].parts[places[0][1]]
        for cause, words, change in _list_changes(name, part) if len(places) > 1 else ():
            found.append(form.tell_all(cause, words.format(part), places, change))
    yield from sorted(found, key=lambda fault: form.rank(fault.cause))


def _shift_steps(form: Form, places: Sequence[tuple[Node, int]]) -> Iterator[Fault]:
    """Yield the form in which each step of a loop takes what the step before, or behind, takes."""
    values = [form.expression.get(node.parts[at]) for node, at in places]
    if len(values) < 2 or not all(is_array(value) and value.shape == values[0].shape for value in values):
        return
    for step, words in ((1, "behind"), (-1, "before")):
        taken = [values[min(max(i + step, 0), len(values) - 1)] for i in range(len(values))]
        changes = [(place, _always(value)) for place, value in zip(places, taken, strict=True)]
        said = f"each step takes {places[0][0].parts[places[0][1]]} of the step {words}, in the derivative {form.text}"
        yield Fault("order", f"{form.name} {said}", said, form.run_each(changes))


FACTORS: Sequence[tuple[str, str, Change]] = (
    ("missing-factor", "the factor {} is missing", np.ones_like),
    ("extra-factor", "the factor {} is there twice", np.square),
)
SUMS: Sequence[tuple[str, str, Change]] = (
    ("sign", "the term {} has the wrong sign", np.negative),
    ("missing-term", "the term {} is missing", np.zeros_like),
    ("extra-factor", "the term {} is squared", np.square),
)


def _list_changes(name: str, part: Node) -> Sequence[tuple[str, str, Change]]:
    """Return what may be done wrong with a part of an operation; what becomes of a number is found by a fit."""
    if name == "neg":
        return (("sign", "the minus of {} is missing", np.negative),)
    return () if part.is_number else FACTORS if name in ("*", "/") else SUMS if name in ("+", "-") else ()


def _skip_steps(form: Form) -> Iterator[Fault]:
    """Yield the form without one step back: what comes into it, from dy, goes on as it came."""
    flowing = {id(node) for node in form.expression.nodes if any(one.name == "dy" for one in walk(node))}
    for node in form.expression.nodes:
        for other in _list_before(node, flowing) if node.name else ():
            shapes = (np.shape(form.expression.get(one)) for one in (node, other))
            if other.name and len(set(shapes)) == 1:
                words = f"the way back from {other} to {node} is missing: it is taken as 1"
                yield form.tell("missing-factor", words, node, _always(form.expression.get(other)))


def _list_before(node: Node, flowing: Collection[int]) -> list[Node]:
    """Return what flows into a node within the last few operations that have a name."""
    found: dict[int, Node] = {}
    edge = [node]
    for _ in range(MOST_STEPS):
        edge = [part for one in edge for part in one.parts if id(part) in flowing and id(part) not in found]
        found |= {id(one): one for one in edge}
    return list(found.values())


def _clip(form: Form) -> Iterator[Fault]:
    """Yield the form with what flows back clipped, in all places that are alike, at numbers that are usual."""
    groups: dict[str, list[Place]] = {}
    for node in form.expression.nodes[:-1]:
        if node.name and "dy" in [one.name for one in walk(node)]:
            groups.setdefault(outline(node), []).append(node)
    for places in groups.values():
        for limit in LIMITS:
            words = f"what flows back through {places[0]} is clipped at {limit:g}"
            yield form.tell_all("clipped", words, places, partial(np.clip, a_min=-limit, a_max=limit))


def _mistake_uses(form: Form) -> Iterator[Fault]:
    """Yield the form with a product or a sum, used in several places, without one of its parts in one of them."""
    for node in form.expression.nodes:
        for at, part in enumerate(node.parts):
            if part.name in ("*", "/", "-", "+") and sum(part in other.parts for other in form.expression.nodes) > 1:
                for kept, lost in ((part.parts[0], part.parts[1]), (part.parts[1], part.parts[0])):
                    if is_array(form.expression.get(kept)):
                        cause = "missing-factor" if part.name in "*/" else "missing-term"
                        cause = "mask" if lost.name in COMPARISONS else cause
                        words = f"{part} lacks {lost} in {node}"
                        yield form.tell(cause, words, (node, at), _always(form.expression.get(kept)))


def _mistake_numbers(form: Form) -> Iterator[Fault]:
    """Yield the form with the number that fits best in place of each, in one place and in all."""
    nodes, found = form.expression.nodes, list[Fault]()
    for node in nodes:
        for at, part in enumerate(node.parts if node.name not in COMPARISONS else ()):
            if part.is_number:
                found += _fit(form, (node, at), part, _name_use(form, part, "power" if node.name == "**" and at else node.name))
    for node in nodes:
        users = [other for other in nodes if node in other.parts]
        if node.is_number and len(users) > 1:
            found += _fit(form, node, node, _name_use(form, node, users[0].name))
    yield from sorted(found, key=lambda fault: fault.cause != "size-factor")


def _name_use(form: Form, part: Node, name: str) -> str:
    """Return as what a number is used: as a limit, where something is compared with it, else as what the operation says."""
    return "limit" if any(part in one.parts for one in form.expression.nodes if one.name in COMPARISONS) else name


def _fit(form: Form, place: Place, right: Node, where: str) -> Iterator[Fault]:
    found = _search(form, [place], right.value)
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
        yield form.tell(_call(cause, found, right.value, where), words, place, lambda _: found)


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


def _keep_one_term(form: Form) -> Iterator[Fault]:
    """Yield the form with one term alone of a sum of three or more."""
    for node in form.expression.nodes:
        terms = _list_terms(node)
        for sign, part in terms if len(terms) > 2 else ():
            words = f"of the terms of {node} there is {part} alone"
            yield form.tell("missing-term", words, node, _always(sign * form.expression.get(part)))


def _list_terms(node: Node) -> list[tuple[int, Node]]:
    """Return the terms of a sum, sums among them opened while there are few, each with its sign."""
    terms, opened = [(1, node)], True
    while opened and len(terms) <= MOST_TERMS:
        opened = any(part.name in ("+", "-") for _, part in terms)
        terms = [one for sign, part in terms for one in _open(sign, part)]
    return terms


def _open(sign: int, part: Node) -> list[tuple[int, Node]]:
    if part.name not in ("+", "-"):
        return [(sign, part)]
    return [(sign, part.parts[0]), (-sign if part.name == "-" else sign, part.parts[1])]


def _search(form: Form, places: Sequence[Place], right: float, put: Put = lambda value, _: value) -> float | None:
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


def _mistake_weights(form: Form) -> Iterator[Fault]:
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


def _mistake_reductions(form: Form) -> Iterator[Fault]:
    """Yield the form with one sum or mean over another axis, a mean for a sum or a sum for a mean, or none at all."""
    for node in form.expression.nodes:
        if node.is_reduction and np.ndim(form.expression.get(node.parts[0])):
            for cause, words, change in _list_reductions(node, form.expression.get(node.parts[0])):
                yield form.tell(cause, f"{words.format(node)}", node, change)


def _list_reductions(node: Node, value: Any) -> Iterator[tuple[str, str, Change]]:
    function, shape = (np.sum if node.name == "sum" else np.mean), np.shape(node.apply(value))
    count = max(np.size(value) // max(int(np.prod(shape)), 1), 1)
    scale = 1 / count if node.name == "sum" else float(count)
    if count > 1:
        other = "a mean is taken for {}" if node.name == "sum" else "a sum is taken for {}"
        yield "size-factor", other, partial(np.multiply, scale)
        yield "size-factor", "{} is divided by n - 1 for n", partial(np.multiply, count / (count - 1))
    kept = bool(node.options.get("keepdims")) or not shape
    for axis in [*range(np.ndim(value)), None] if kept else ():
        if axis != node.options.get("axis") and (axis,) != node.options.get("axis"):
            over = "everything" if axis is None else f"axis {axis}"
            yield "wrong-axis", f"{{}} runs over {over}", _always(function(value, axis=axis, keepdims=True))
    if kept:
        words = "only the diagonal of the Jacobian is used: each entry stands for {}"
        yield "diagonal-only", words, _always(value if node.name == "sum" else value / count)


def _mistake_scales(form: Form) -> Iterator[Fault]:
    """Yield the form with the number that fits best before the argument of each function."""
    for node in form.expression.nodes:
        if node.name in ("exp", "tanh", "erf", "sin", "cos"):
            found = _search(form, [(node, 0)], 1.0, np.multiply)
            if found is not None:
                cause = "sign" if abs(found + 1) < 1e-4 else "constant" if 0.5 <= found <= 2 else "factor"
                words = f"the argument of {node} is multiplied by {found:.6g}"
                yield form.tell(cause, words, (node, 0), partial(np.multiply, found))


def _mistake_branches(form: Form) -> Iterator[Fault]:
    """Yield the form with its branches chosen otherwise: the other way round, one everywhere, or parted elsewhere."""
    for node in form.expression.nodes:
        if node.name == "where":
            yield form.tell("mask", f"the branches of {node} are the wrong way round", (node, 0), np.logical_not)
    for node in form.expression.nodes:
        if node.name in COMPARISONS:
            yield from _move_limits(form, node)
    scene = form.scene
    if form.root.name == "where" and scene.truth.shape == scene.dy.shape == scene.inputs[0].shape:
        yield from _part_elsewhere(form)


def _move_limits(form: Form, node: Node) -> Iterator[Fault]:
    """Yield the form with one comparison always or never met, turned, or with another number."""
    for words, change in (("always", np.ones_like), ("never", np.zeros_like), ("not", np.logical_not)):
        yield form.tell("mask", f"{node} is {words} taken for met", node, change)
    numbers = {c for one in form.scene.operations for c in one.constants.values()} | {0.0, 1.0, -1.0}
    if node.name in STRICT:
        yield from _change_strictness(form, node)
    for user in walk(node):
        for at, part in enumerate(user.parts):
            for other in sorted({*numbers, part.value / 2, 2 * part.value, -part.value}) if part.is_number else ():
                if other != part.value:
                    yield form.tell("mask", f"{node} has {other:g} for {part.value:g}", (user, at), _always(other))
        if user.name == "abs":
            yield form.tell("mask", f"{node} takes {user.parts[0]} for {user}", user, _always(form.expression.get(user.parts[0])))


def _change_strictness(form: Form, node: Node) -> Iterator[Fault]:
    """Yield the form with < for <= and the like, everywhere and in one place."""
    other = _always(FUNCTIONS[STRICT[node.name]](*[form.expression.get(part) for part in node.parts]))
    words = f"{node} has {STRICT[node.name]} for {node.name}"
    yield form.tell("mask", words, node, other)
    for user in form.expression.nodes:
        if node in user.parts:
            yield form.tell("mask", f"{words} in {user}", (user, user.parts.index(node)), other)


def _part_elsewhere(form: Form) -> Iterator[Fault]:
    """Yield the two branches parted by x, its size or dy, where what came looks parted."""
    scene, root = form.scene, form.root
    branches = [np.broadcast_to(form.scale * form.expression.get(part), scene.dy.shape) for part in root.parts[1:]]
    one, other = (np.where(scene.free, 0.0, branch) for branch in branches)
    near = np.abs(scene.got - one) <= np.abs(scene.got - other)
    x = scene.inputs[0]
    for name, value in {"x": x, "the size of x": np.abs(x), "dy": scene.dy}.items():
        for above in (True, False):
            inside = (near if above else ~near) & ~scene.free
            limit = float(value[inside].min()) if inside.any() else np.inf
            taken = (value >= limit) == above
            if 2 < taken.sum() < taken.size - 2:
                words = f"the branches of {root} part where {name} is {'above' if above else 'below'} about {limit:.3g}"
                yield Fault("mask", f"{form.name} {name} {above}", words, np.where(taken, one, other))


def _mistake_variables(form: Form) -> Iterator[Fault]:
    """Yield the form with an input or the output in the place of another array, and with labels of other classes."""
    inputs = form.scene.inputs
    names = ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
    others = [("at-input", name, value) for name, value in zip(names, inputs, strict=True) if is_array(value)]
    for cause, name, value in (*others, ("at-output", "y", form.scene.y)):
        for node in form.expression.nodes[:-1]:  # the whole of it is no array in the place of another
            if _can_stand(form, node, name, value):
                yield form.tell(cause, f"{name} stands for {node}", node, _always(value))
                for at, part in enumerate(node.parts):
                    if _can_stand(form, part, name, value):
                        yield form.tell(cause, f"{name} stands for {part} in {node}", (node, at), _always(value))
                yield from _mistake_within(form, node, cause, name, value)
    for node in form.expression.nodes:
        if node.name == "labels":
            for step in (1, -1):
                yield form.tell("order", f"the labels are off by {step}", node, partial(np.roll, shift=step, axis=-1))


def _mistake_within(form: Form, node: Node, cause: str, name: str, value: Array) -> Iterator[Fault]:
    """Yield the form with the array in the place of another input or the output, throughout what one node is made of."""
    for leaf in walk(node) if node.parts else ():
        if not leaf.parts and leaf.name in ("x", "y", "x0") and _can_stand(form, leaf, name, value):
            other = Expression(node).evaluate([leaf], _always(value))
            yield form.tell(cause, f"{name} stands for {leaf.name} throughout {node}", node, _always(other))


def _mistake_rows(form: Form) -> Iterator[Fault]:
    """Yield the form with one array read in another order, or its first row for all."""
    for node in form.expression.nodes:
        value = form.expression.get(node)
        if node.parts or node.name == "dy" or not is_array(value):
            continue
        if value.ndim > 1 and len(value) > 1:
            cause = "mask" if np.unique(value).size <= FEW else "order"
            yield form.tell(
                cause, f"the first row of {node} stands for all", node, lambda value: np.repeat(value[:1], len(value), 0)
            )
        for axis, size in enumerate(value.shape):
            for step in (1, -1) if size > 1 else ():
                yield form.tell(
                    "order", f"{node} is shifted by {step} along axis {axis}", node, partial(np.roll, shift=step, axis=axis)
                )
            if size > 2:
                yield form.tell("order", f"{node} is reversed along axis {axis}", node, partial(np.flip, axis=axis))


def _can_stand(form: Form, node: Node, name: str, value: Array) -> bool:
    """Whether an array may stand for a node by mistake: one of its shape that it is not."""
    own = form.expression.get(node)
    return is_array(own) and np.shape(own) == value.shape and node.name not in (name, *COMPARISONS)


def _mistake_matrices(form: Form) -> Iterator[Fault]:
    """Yield the form with a matrix not transposed, or left out, wherever it is used."""
    groups: dict[tuple[int, bool], list[tuple[Node, int]]] = {}
    for node in form.expression.nodes:
        for at, part in enumerate(node.parts if node.name == "@" else ()):
            groups.setdefault((id(part.parts[0] if part.name == "T" else part), part.name == "T"), []).append((node, at))
    for places in groups.values():
        part = places[0][0].parts[places[0][1]]
        own = form.expression.get(part)
        shape = np.shape(own)
        for name, value in form.scene.params.items():
            if value.shape == shape[::-1] and not np.array_equal(value.T, own):
                yield form.tell_all("swapped", f"{name}.T stands for {part}", places, _always(value.T))
        weight = _search(form, places, 1.0, np.multiply)
        if weight is not None:
            cause = "sign" if abs(weight + 1) < 1e-4 else "factor"
            yield form.tell_all(cause, f"{part} is multiplied by {weight:.6g}", places, partial(np.multiply, weight))
        if len(shape) >= 2 and shape[-1] == shape[-2]:
            words = f"{part} is transposed, or is not transposed, where it must not be"
            yield form.tell_all("transposed", words, places, lambda value: np.swapaxes(value, -1, -2))
            yield form.tell_all("missing-factor", f"the factor {part} is missing", places, lambda value: np.eye(len(value.T)))


def _advance_states(form: Form) -> Iterator[Fault]:
    """Yield the form in which products take the next state of a loop where they must take the one before."""
    states = [node for node in form.expression.nodes if node.name in FUNCTIONS and node.parts and not node.is_reduction]
    changes: list[tuple[Place, Change]] = []
    for node in form.expression.nodes:
        part = node.parts[0] if node.name == "@" else None
        if part is not None and part.name == "T":
            shape = np.shape(form.expression.get(part.parts[0]))
            later = [one for one in states if part.parts[0] in walk(one)[:-1] and np.shape(form.expression.get(one)) == shape]
            functions = [one for one in later if one.name not in BINARY]
            if functions:
                after = min(functions, key=lambda one: len(walk(one)))
                changes.append(((node, 0), _always(form.expression.get(after).swapaxes(-1, -2))))
    if changes:
        said = f"products take the state after the step, not the one before, in the derivative {form.text}"
        yield Fault("order", f"{form.name} {said}", said, form.run_each(changes))


def _cast(form: Form) -> Iterator[Fault]:
    """Yield the form with one array held in a narrower dtype, and with all of a part computed in it."""
    for dtype in NARROW:
        narrow = find_format(dtype).dtype
        for node in form.expression.nodes:
            if is_array(form.expression.get(node)):
                yield form.tell("cast", f"{node} is cast to {dtype}", node, partial(hold, narrow))
                inner = Expression(node)
                arrays: list[Place] = [one for one in inner.nodes if is_array(inner.get(one))]
                if len(arrays) > 1:
                    value = inner.evaluate(arrays, partial(hold, narrow))
                    yield form.tell("cast", f"{node} is computed in {dtype}", node, _always(value))


def _always(value: Any) -> Change:
    return lambda _: value
