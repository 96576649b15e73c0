"""Mistakes: a gradient written out as an expression comes in, the gradients of its common mistakes go out.

One place of the expression is changed at a time, or all places that are alike: a sign, a term, a factor, a sum, a step; numbers,
branches and arrays have modules of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from harness.custom.expressions import COMPARISONS, Change, Node, Place, is_array, outline
from harness.custom.faults.cotangents import LIMITS
from harness.custom.forms import Form, always
from harness.custom.mistaken_arrays import advance_states, cast, mistake_matrices, mistake_rows, mistake_variables
from harness.custom.mistaken_branches import mistake_branches
from harness.custom.mistaken_joins import mistake_joins
from harness.custom.mistaken_numbers import mistake_numbers, mistake_scales, mistake_weights
from harness.custom.scene import Fault

OF_COTANGENT = {"missing-factor": "cotangent-ignored", "extra-factor": "cotangent-changed"}  # what it is where it is all of dy
MOST_NODES, MOST_TERMS, MOST_STEPS = 160, 32, 5


def list_mistakes(known: Sequence[Form]) -> Iterator[Fault]:
    """Yield what mistakes give, in all forms those that explain most simply first; a form of very many nodes is left out."""
    forms = [form for form in known if len(form.expression.nodes) <= MOST_NODES]
    mistaken = [fault for form in forms for fault in _mistake_terms(form)]
    yield from (fault for fault in mistaken if fault.cause != "extra-factor")
    for form in forms:
        for make in (_keep_one_term, _mistake_uses, _mistake_reductions, mistake_numbers):
            yield from make(form)
    for form in forms:
        for make in (mistake_weights, mistake_scales, mistake_branches):
            yield from make(form)
    yield from (fault for fault in mistaken if fault.cause == "extra-factor")
    for make in (
        _mistake_loops,
        mistake_matrices,
        advance_states,
        _skip_steps,
        mistake_joins,
        _clip,
        mistake_variables,
        mistake_rows,
        cast,
    ):
        for form in forms:
            yield from make(form)


def _mistake_terms(form: Form) -> list[Fault]:
    """Return the form with a sign turned, without a factor or a term, or with a factor twice, in this order."""
    found = list[tuple[bool, Fault]]()
    for node in form.expression.nodes:
        for at, part in enumerate(node.parts):
            for cause, words, change in _list_changes(node.name, part):
                users = len(form.expression.users[id(part)])
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
        changes = [(place, always(value)) for place, value in zip(places, taken, strict=True)]
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
    flowing = form.expression.flowing
    for node in form.expression.nodes:
        for other in _list_before(node, flowing) if node.name else ():
            shapes = (np.shape(form.expression.get(one)) for one in (node, other))
            if other.name and len(set(shapes)) == 1:
                words = f"the way back from {other} to {node} is missing: it is taken as 1"
                yield form.tell("missing-factor", words, node, always(form.expression.get(other)))


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
        if node.name and id(node) in form.expression.flowing:
            groups.setdefault(outline(node), []).append(node)
    for places in groups.values():
        for limit in LIMITS:
            words = f"what flows back through {places[0]} is clipped at {limit:g}"
            yield form.tell_all("clipped", words, places, partial(np.clip, a_min=-limit, a_max=limit))


def _mistake_uses(form: Form) -> Iterator[Fault]:
    """Yield the form with a product or a sum, used in several places, without one of its parts in one of them."""
    for node in form.expression.nodes:
        for at, part in enumerate(node.parts):
            if part.name in ("*", "/", "-", "+") and len(form.expression.users[id(part)]) > 1:
                for kept, lost in ((part.parts[0], part.parts[1]), (part.parts[1], part.parts[0])):
                    if is_array(form.expression.get(kept)):
                        cause = "missing-factor" if part.name in "*/" else "missing-term"
                        cause = "mask" if lost.name in COMPARISONS else cause
                        words = f"{part} lacks {lost} in {node}"
                        yield form.tell(cause, words, (node, at), always(form.expression.get(kept)))


def _keep_one_term(form: Form) -> Iterator[Fault]:
    """Yield the form with one term alone of a sum of three or more."""
    for node in form.expression.nodes:
        terms = _list_terms(node)
        for sign, part in terms if len(terms) > 2 else ():
            words = f"of the terms of {node} there is {part} alone"
            yield form.tell("missing-term", words, node, always(sign * form.expression.get(part)))


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


def _mistake_reductions(form: Form) -> Iterator[Fault]:
    """Yield the form with one sum or mean over another axis, a mean for a sum or a sum for a mean, or none at all."""
    for node in form.expression.nodes:
        if node.is_reduction and np.ndim(form.expression.get(node.parts[0])):
            for cause, words, change in _list_reductions(node, form.expression.get(node.parts[0])):
                yield form.tell(cause, f"{words.format(node)}", node, change)
            yield from _forget_weights(form, node)


def _forget_weights(form: Form, node: Node) -> Iterator[Fault]:
    """Yield the form with a plain mean for a sum over weights that are 1 in all."""
    product = node.parts[0]
    for kept, weight in ((0, 1), (1, 0)) if node.name == "sum" and product.name == "*" else ():
        value, weights = (form.expression.get(product.parts[at]) for at in (kept, weight))
        if np.shape(value) == np.shape(weights) and np.allclose(node.apply(weights), 1.0, rtol=1e-9, atol=0):
            words = f"{node} is a plain mean, not weighted by {product.parts[weight]}"
            yield form.tell("missing-factor", words, node, always(np.mean(value, **node.options)))


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
            yield "wrong-axis", f"{{}} runs over {over}", always(function(value, axis=axis, keepdims=True))
    if kept:
        words = "only the diagonal of the Jacobian is used: each entry stands for {}"
        yield "diagonal-only", words, always(value if node.name == "sum" else value / count)
