"""Mistaken joins: a gradient written out comes in, it with a term that joins behind a factor, not before it, goes out.

Where two ways back meet, as the steps of a recurrence do, what comes along the second must go through the factor too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from harness.custom.expressions import Expression, Node, outline, walk
from harness.custom.forms import Form
from harness.custom.scene import Fault


def mistake_joins(form: Form) -> Iterator[Fault]:
    """Yield the form with (a + b) s as a s + b, in all products that are alike."""
    groups: dict[str, dict[Node, int]] = {}
    for node in form.expression.nodes:
        at = _find_sum(node, form.expression.flowing)
        if at is not None:
            for depth in (1, 3):
                groups.setdefault(f"{depth} {outline(node, depth)}", {})[node] = at
    for products in {tuple(group): group for group in groups.values()}.values():  # the depths often give the same groups
        for late in (0, 1):
            yield _join_late(form, products, late)


def _find_sum(node: Node, flowing: Collection[int]) -> int | None:
    """Return which part of a product is a sum of two things that flow back, None where there is none."""
    for at, part in enumerate(node.parts if node.name == "*" else ()):
        if part.name == "+" and all(id(one) in flowing for one in part.parts):
            return at
    return None


def _join_late(form: Form, products: Mapping[Node, int], late: int) -> Fault:
    """Return the form with one of the terms joining late in these products, of which it is told which part is the sum."""
    (first, at), *others = products.items()
    where = f"{len(products)} products" if others else str(first)
    words = f"{first.parts[at].parts[late]} joins behind the factor {first.parts[1 - at]}, not before it, in {where}"
    other = replace(form, expression=Expression(_rewrite(form.root, products, late)))
    return Fault("missing-factor", f"{form.name} {words}", f"{words}, in the derivative {form.text}", other.run())


def _rewrite(root: Node, products: Mapping[Node, int], late: int) -> Node:
    """Return the graph with these products written otherwise."""
    made: dict[Node, Node] = {}
    for node in walk(root):
        parts = tuple(made[part] for part in node.parts)
        if node in products:
            at = products[node]
            terms, factor = parts[at].parts, parts[1 - at]
            made[node] = terms[1 - late] * factor + terms[late]
        else:
            made[node] = replace(node, parts=parts)
    return made[root]
