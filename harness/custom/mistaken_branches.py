"""Mistaken branches: a gradient written out comes in, it with its branches chosen otherwise goes out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.custom.expressions import COMPARISONS, FUNCTIONS, Node, walk
from harness.custom.forms import Form, always
from harness.custom.scene import Fault

STRICT = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}


def mistake_branches(form: Form) -> Iterator[Fault]:
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
                    yield form.tell("mask", f"{node} has {other:g} for {part.value:g}", (user, at), always(other))
        if user.name == "abs":
            yield form.tell("mask", f"{node} takes {user.parts[0]} for {user}", user, always(form.expression.get(user.parts[0])))


def _change_strictness(form: Form, node: Node) -> Iterator[Fault]:
    """Yield the form with < for <= and the like, everywhere and in one place."""
    other = always(FUNCTIONS[STRICT[node.name]](*[form.expression.get(part) for part in node.parts]))
    words = f"{node} has {STRICT[node.name]} for {node.name}"
    yield form.tell("mask", words, node, other)
    for user in form.expression.users[id(node)]:
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
