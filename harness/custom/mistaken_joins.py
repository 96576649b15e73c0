"""Mistaken joins: a gradient written out comes in, it with a term that joins behind a factor, not before it, goes out.

Where two ways back meet, as the steps of a recurrence do, what comes along the second must go through the factor too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from harness.custom.expressions import Expression, Node, outline, walk
from harness.custom.forms import Form
from harness.custom.scene import Fault


def mistake_joins(form: Form) -> Iterator[Fault]:
    """Yield the form with (a + b) s as a s + b, in all products that are alike."""
    groups: dict[str, dict[int, Node]] = {}
    for node in form.expression.nodes:
        if _find_sum(node, form.expression.flowing) is not None:
            for depth in (1, 3):
                groups.setdefault(f"{depth} {outline(node, depth)}", {})[id(node)] = node
    for products in groups.values():
        for late in (0, 1):
            yield _join_late(form, products, late)


def _find_sum(node: Node, flowing: Collection[int]) -> int | None:
    """Return which part of a product is a sum of two things that flow back, None where there is none."""
    for at, part in enumerate(node.parts if node.name == "*" else ()):
        if part.name == "+" and all(id(one) in flowing for one in part.parts):
            return at
    return None


def _join_late(form: Form, products: dict[int, Node], late: int) -> Fault:
    first = next(iter(products.values()))
    at = _find_sum(first, form.expression.flowing) or 0
    where = f"{len(products)} products" if len(products) > 1 else str(first)
    words = f"{first.parts[at].parts[late]} joins behind the factor {first.parts[1 - at]}, not before it, in {where}"
    other = replace(form, expression=Expression(_rewrite(form, products, late)))
    return Fault("missing-factor", f"{form.name} {words}", f"{words}, in the derivative {form.text}", other.run())


def _rewrite(form: Form, products: Collection[int], late: int) -> Node:
    """Return the root of the graph with these products written otherwise."""
    made: dict[int, Node] = {}
    for node in walk(form.root):
        parts = [made[id(part)] for part in node.parts]
        at = _find_sum(node, form.expression.flowing) if id(node) in products else None
        made[id(node)] = replace(node, parts=tuple(parts)) if at is None else _join(parts[at].parts, parts[1 - at], late)
    return made[id(form.root)]


def _join(terms: Sequence[Node], factor: Node, late: int) -> Node:
    return terms[1 - late] * factor + terms[late]
