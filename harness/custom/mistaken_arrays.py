"""Mistaken arrays: a gradient written out comes in, it with one array for another, turned, transposed or cast goes out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from harness.core import Array
from harness.custom.expressions import BINARY, COMPARISONS, FUNCTIONS, Change, Expression, Node, Place, hold, is_array, walk
from harness.custom.faults.orders import FEW, turn
from harness.custom.forms import Form, always
from harness.custom.mistaken_numbers import search
from harness.custom.scene import Fault
from harness.floats import find_format

NARROW = ("float16", "bfloat16", "float32")


def mistake_variables(form: Form) -> Iterator[Fault]:
    """Yield the form with an input or the output in the place of another array, and with labels of other classes."""
    inputs = form.scene.inputs
    names = ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
    others = [("at-input", name, value) for name, value in zip(names, inputs, strict=True) if is_array(value)]
    for cause, name, value in (*others, ("at-output", "y", form.scene.y)):
        for node in form.expression.nodes[:-1]:  # the whole of it is no array in the place of another
            if _can_stand(form, node, name, value):
                yield form.tell(cause, f"{name} stands for {node}", node, always(value))
                for at, part in enumerate(node.parts):
                    if _can_stand(form, part, name, value):
                        yield form.tell(cause, f"{name} stands for {part} in {node}", (node, at), always(value))
                yield from _mistake_within(form, node, cause, name, value)
    for node in form.expression.nodes:
        if node.name == "labels":
            for step in (1, -1):
                yield form.tell("order", f"the labels are off by {step}", node, partial(np.roll, shift=step, axis=-1))


def _mistake_within(form: Form, node: Node, cause: str, name: str, value: Array) -> Iterator[Fault]:
    """Yield the form with the array in the place of another input or the output, throughout what one node is made of."""
    for leaf in walk(node) if node.parts else ():
        if not leaf.parts and leaf.name in ("x", "y", "x0") and _can_stand(form, leaf, name, value):
            other = Expression(node).evaluate([leaf], always(value))
            yield form.tell(cause, f"{name} stands for {leaf.name} throughout {node}", node, always(other))


def mistake_rows(form: Form) -> Iterator[Fault]:
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
        for words, other in turn(value):
            yield form.tell("order", f"{node} is {words}", node, always(other))


def _can_stand(form: Form, node: Node, name: str, value: Array) -> bool:
    """Whether an array may stand for a node by mistake: one of its shape that it is not."""
    own = form.expression.get(node)
    return is_array(own) and np.shape(own) == value.shape and node.name not in (name, *COMPARISONS)


def mistake_matrices(form: Form) -> Iterator[Fault]:
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
                yield form.tell_all("swapped", f"{name}.T stands for {part}", places, always(value.T))
        weight = search(form, places, 1.0, np.multiply)
        if weight is not None:
            cause = "sign" if abs(weight + 1) < 1e-4 else "factor"
            yield form.tell_all(cause, f"{part} is multiplied by {weight:.6g}", places, partial(np.multiply, weight))
        if len(shape) >= 2 and shape[-1] == shape[-2]:
            words = f"{part} is transposed, or is not transposed, where it must not be"
            yield form.tell_all("transposed", words, places, lambda value: np.swapaxes(value, -1, -2))
            yield form.tell_all("missing-factor", f"the factor {part} is missing", places, lambda value: np.eye(len(value.T)))


def advance_states(form: Form) -> Iterator[Fault]:
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
                changes.append(((node, 0), always(form.expression.get(after).swapaxes(-1, -2))))
    if changes:
        said = f"products take the state after the step, not the one before, in the derivative {form.text}"
        yield Fault("order", f"{form.name} {said}", said, form.run_each(changes))


def cast(form: Form) -> Iterator[Fault]:
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
                    yield form.tell("cast", f"{node} is computed in {dtype}", node, always(value))
