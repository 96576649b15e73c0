"""Slopes: the operations of an elementwise formula come in, its derivative as an author would write it out goes out.

An author differentiates by hand and writes a closed form, 1 - y^2 for a tanh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.expressions import COMPARISONS, FUNCTIONS, Node, apply, evaluate, number, walk
from harness.custom.probe import Operation


def read_formula(operations: Sequence[Operation], x: Array) -> Node | None:
    """Return an elementwise formula of one array as a graph; None where it does more than that."""
    known: list[tuple[Any, Node]] = [(x, Node("x", value=x))]
    for one in operations:
        name = one.name.removeprefix("xp.")
        if name in ("zeros_like", "ones_like"):
            known.append((one.value, number(name == "ones_like")))
            continue
        parts = [_find(known, value) for value in one.arguments]
        if name not in FUNCTIONS or one.options or any(part is None for part in parts):
            return None
        known.append((one.value, _build(name, [part for part in parts if part is not None])))
    return known[-1][1]


def _build(name: str, parts: Sequence[Node]) -> Node:
    """Return an operation as it stands in the formula; one of numbers alone is a number."""
    if all(part.is_number for part in parts):
        return number(float(FUNCTIONS[name](*[part.value for part in parts])))
    return Node(name, tuple(parts))


def _find(known: Sequence[tuple[Any, Node]], value: Any) -> Node | None:
    if isinstance(value, int | float):
        return number(value)
    found = next((node for other, node in reversed(known) if other is value), None)
    return found or next((node for other, node in known if isinstance(value, np.ndarray) and np.array_equal(other, value)), None)


def derive(node: Node) -> Node | None:
    """Return the derivative by x as one would write it, what is known of the value used again; None for unknown functions."""
    return _derive(node, {})


def _derive(node: Node, known: dict[int, Node | None]) -> Node | None:
    """Return the derivative of a node, found once however often the node is used."""
    if id(node) not in known:
        known[id(node)] = _find_derivative(node, known)
    return known[id(node)]


def _find_derivative(node: Node, known: dict[int, Node | None]) -> Node | None:
    if node.name == "x":
        return number(1)
    if not any(map(_depends, node.parts)) or node.name in COMPARISONS:
        return number(0)
    inner = [_derive(part, known) if _depends(part) else number(0) for part in node.parts]
    if any(part is None for part in inner):
        return None
    slopes = [part for part in inner if part is not None]
    sigmoid = _read_sigmoid(node)
    if sigmoid is not None:
        top, s, within = sigmoid
        inner_slope, top_slope = _derive(within, known), _derive(top, known) if _depends(top) else number(0)
        return None if inner_slope is None or top_slope is None else top_slope * s + top * (s * (number(1) - s)) * inner_slope
    rule = RULES.get(node.name)
    return None if rule is None else rule(node, node.parts, slopes)


def _depends(node: Node) -> bool:
    return any(one.name == "x" for one in walk(node))


def _read_sigmoid(node: Node) -> tuple[Node, Node, Node] | None:
    """Read a / (1 + exp(-u)) as a times a sigmoid of u: return a, the sigmoid and u."""
    if node.name != "/" or node.parts[1].name != "+":
        return None
    numbers = [part for part in node.parts[1].parts if part.is_number and part.value == 1]
    powers = [part for part in node.parts[1].parts if part.name == "exp" and part.parts[0].name == "neg"]
    if not numbers or not powers:
        return None
    return node.parts[0], Node("/", (number(1), node.parts[1])), powers[0].parts[0].parts[0]


Rule = Callable[[Node, Sequence[Node], Sequence[Node]], Node | None]
RULES: Mapping[str, Rule] = {
    "+": lambda y, x, d: d[0] + d[1],
    "-": lambda y, x, d: d[0] - d[1],
    "*": lambda y, x, d: d[0] * x[1] + x[0] * d[1],
    "/": lambda y, x, d: d[0] / x[1] - (x[0] * d[1]) / (x[1] * x[1]),
    "**": lambda y, x, d: x[1] * _raise(x[0], x[1].value - 1) * d[0] if x[1].is_number else None,
    "square": lambda y, x, d: number(2) * x[0] * d[0],
    "neg": lambda y, x, d: number(0) - d[0],
    "abs": lambda y, x, d: apply("sign", x[0]) * d[0],
    "exp": lambda y, x, d: y * d[0],
    "expm1": lambda y, x, d: (y + 1) * d[0],
    "log": lambda y, x, d: d[0] / x[0],
    "log1p": lambda y, x, d: d[0] / (x[0] + 1),
    "sqrt": lambda y, x, d: d[0] / (number(2) * y),
    "tanh": lambda y, x, d: (number(1) - y * y) * d[0],
    "erf": lambda y, x, d: number(2 / math.sqrt(math.pi)) * apply("exp", apply("neg", x[0] * x[0])) * d[0],
    "sin": lambda y, x, d: apply("cos", x[0]) * d[0],
    "cos": lambda y, x, d: apply("neg", apply("sin", x[0])) * d[0],
    "where": lambda y, x, d: Node("where", (x[0], d[1], d[2])),
    "maximum": lambda y, x, d: Node("where", (Node(">", (x[0], x[1])), d[0], d[1])),
    "minimum": lambda y, x, d: Node("where", (Node("<", (x[0], x[1])), d[0], d[1])),
}


def _raise(base: Node, power: float) -> Node:
    return number(1) if power == 0 else base if power == 1 else base * base if power == 2 else Node("**", (base, number(power)))


def list_slopes(operations: Sequence[Operation], x: Array, y: Array, truth: Array, free: Array) -> Iterator[Node]:
    """Yield the closed forms that an author may have written: textbook's where they are the truth, then the formula's own."""
    own = read_formula(operations, x)
    slope = None if own is None else derive(own)
    numbers = sorted({c for one in operations for c in one.constants.values() if c})
    for node in [*_list_textbook(Node("x", value=x), Node("y", value=y), numbers), *([] if slope is None else [slope])]:
        value = np.where(free, 0.0, np.broadcast_to(evaluate(node), truth.shape))
        if np.isfinite(value).all() and np.linalg.norm(value - truth) <= 1e-9 * np.linalg.norm(truth):
            yield node


def _list_textbook(x: Node, y: Node, numbers: Sequence[float]) -> Iterator[Node]:
    one = number(1)
    s, t = one / (apply("exp", apply("neg", x)) + 1), apply("tanh", x)
    yield y * (one - y)
    yield one - y * y
    yield one - t * t
    yield s
    yield s + x * s * (one - s)
    yield y + s * (one - y)
    root = number(math.sqrt(2))
    bell = apply("exp", apply("neg", x * x) / 2) / math.sqrt(2 * math.pi)
    yield number(0.5) * (apply("erf", x / root) + 1) + x * bell
    for value in numbers:
        for low in (y + value, number(value) * apply("exp", x), number(value)):
            yield Node("where", (Node(">", (x, number(0))), one, low))
    yield Node("where", (Node(">", (x, number(0))), one, number(0)))
