"""Expressions: numbers, arrays and operations on them come in, a graph that can be evaluated with one place changed goes out.

An author differentiates by hand and writes expressions, dy * (1 - y * y). Here such an expression is held as a graph of small
operations, in which one place at a time can be changed, as an author would mistake it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import erf

from harness.core import Array
from harness.custom.probe import shorten

Change = Callable[[Any], Any]
DEEPEST = 8  # operations within operations that are written


@dataclass(frozen=True, eq=False)
class Node:
    """A number, an array by its name, or an operation on other nodes; a node is itself alone, so that it can be shared.

    `options` are the axis and so on of a reduction. A node without a name but with a `function` only gives another shape to
    its part, and is not written. With a `label` that is written in its place.
    """

    name: str
    parts: tuple[Node, ...] = ()
    value: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None
    label: str = ""

    @property
    def is_number(self) -> bool:
        """Whether it is a plain number."""
        return self.name == "number"

    @property
    def is_reduction(self) -> bool:
        """Whether it is a sum or a mean."""
        return self.name in ("sum", "mean")

    def __add__(self, other: Node | float) -> Node:
        return combine("+", self, other)

    def __sub__(self, other: Node | float) -> Node:
        return combine("-", self, other)

    def __mul__(self, other: Node | float) -> Node:
        return combine("*", self, other)

    def __truediv__(self, other: Node | float) -> Node:
        return combine("/", self, other)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return shorten(self._write())

    def write(self, longest: int) -> str:
        """Return the whole of it, without what is deep inside where it would be longer."""
        text = shorten(self._write(), longest)
        return text if len(text) <= longest else f"{text[: longest - 4]} ..."

    def apply(self, *values: Any) -> Any:
        """Return what the operation gives for the values of its parts."""
        function = self.function or FUNCTIONS[self.name]
        return function(*values, **self.options)

    def _write(self, depth: int = DEEPEST) -> str:
        """Return the node as written, three dots for what is deeper than that: what is shared would be written without end."""
        if self.label:
            return self.label
        if not self.parts:
            return f"{self.value:.6g}" if self.is_number else self.name
        if not depth:
            return "(...)"
        return self._write_operation(depth - 1) if self.name else self.parts[0]._write(depth - 1)

    def _write_operation(self, depth: int) -> str:
        if self.name == "neg":
            return f"-{self.parts[0]._enclose(STRENGTH['neg'], depth)}"
        if self.name == "T":
            return f"{self.parts[0]._enclose(STRENGTH['T'], depth)}.T"
        if self.name in BINARY:
            own = STRENGTH.get(self.name, 0)
            left, right = self.parts
            apart = own + (right.name != self.name or self.name not in ("+", "*"))
            return f"{left._enclose(own, depth)} {self.name} {right._enclose(apart, depth)}"
        axis = self.options.get("axis")
        over = "" if axis is None else f", axis={axis}"
        return f"{self.name}({', '.join(part._write(depth) for part in self.parts)}{over})"

    def _enclose(self, least: int, depth: int) -> str:
        """Return it as a part of an operation that binds so strongly, in brackets where it binds less."""
        if not self.parts or self.label or not depth:
            return self._write(depth)
        if not self.name:
            return self.parts[0]._enclose(least, depth)
        weak = STRENGTH.get(self.name, LOOSE if self.name in BINARY else TIGHT) < least
        return f"({self._write(depth)})" if weak else self._write(depth)


STRENGTH: Mapping[str, int] = {"+": 1, "-": 1, "*": 2, "/": 2, "@": 2, "neg": 3, "**": 4, "T": 5}
LOOSE, TIGHT = 0, 6  # how strongly a comparison and a function bind
BINARY: Mapping[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "**": np.power, "@": np.matmul, "<": np.less,
    "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **BINARY, "where": np.where, "maximum": np.maximum, "minimum": np.minimum, "neg": np.negative, "abs": np.abs, "exp": np.exp,
    "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt, "tanh": np.tanh, "erf": erf, "sin": np.sin,
    "cos": np.cos, "sign": np.sign, "square": np.square, "sum": np.sum, "mean": np.mean,
    "T": lambda value: np.swapaxes(value, -1, -2),
}  # fmt: skip


def number(value: float) -> Node:
    """Return the node of a plain number."""
    return Node("number", value=float(value))


def combine(name: str, *parts: Node | float) -> Node:
    """Return an operation, without what an author would leave out: a factor or a divisor 1, a term 0."""
    one, other = [part if isinstance(part, Node) else number(part) for part in parts]
    left, right = (part.value if part.is_number else None for part in (one, other))
    if (name == "*" and 0 in (left, right)) or (name == "/" and left == 0):
        return number(0)
    if (name == "*" and left == 1) or (name == "+" and left == 0):
        return other
    if (name in "*/" and right == 1) or (name in "+-" and right == 0):
        return one
    if name == "-" and left == 0:
        return Node("neg", (other,))
    return Node(name, (one, other))


def apply(name: str, *parts: Node, **options: Any) -> Node:
    """Return a function of nodes."""
    return Node(name, parts, options=options)


def label(node: Node, text: str) -> Node:
    """Return the node under a name of its own: `h` for what is normalized."""
    return replace(node, label=text)


def walk(root: Node) -> list[Node]:
    """Return each node of the graph once, those that others are made of first."""
    seen: dict[int, Node] = {}

    def visit(node: Node) -> None:
        if id(node) not in seen:
            for part in node.parts:
                visit(part)
            seen[id(node)] = node

    visit(root)
    return list(seen.values())


Place = tuple[Node, int] | Node


@dataclass(frozen=True, eq=False)
class Expression:
    """A graph with its values: those of its root, and of its root with one place changed, of which only what follows is found."""

    root: Node

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """Each node once, those that others are made of first."""
        return walk(self.root)

    @cached_property
    def values(self) -> Mapping[int, Any]:
        """The value of each node, by its identity."""
        values: dict[int, Any] = {}
        with np.errstate(all="ignore"):
            for node in self.nodes:
                values[id(node)] = node.apply(*[values[id(part)] for part in node.parts]) if node.parts else node.value
        return values

    @cached_property
    def users(self) -> Mapping[int, Sequence[Node]]:
        """The nodes of which each node is a part, by its identity."""
        users: dict[int, list[Node]] = {id(node): [] for node in self.nodes}
        for node in self.nodes:
            for part in {id(part): part for part in node.parts}:
                users[part].append(node)
        return users

    @cached_property
    def flowing(self) -> Collection[int]:
        """The identities of the nodes through which dy flows."""
        found: set[int] = set()
        for node in self.nodes:
            if node.name == "dy" or any(id(part) in found for part in node.parts):
                found.add(id(node))
        return found

    def get(self, node: Node) -> Any:
        """Return the value of one of its nodes."""
        return self.values[id(node)]

    def evaluate(self, places: Sequence[Place] = (), change: Change = lambda value: value) -> Any:
        """Return the root's value with nodes changed wherever they are used, or single parts of nodes changed there alone."""
        return self.evaluate_each([(place, change) for place in places])

    def evaluate_each(self, changes: Sequence[tuple[Place, Change]]) -> Any:
        """Return the root's value with a change of its own in each place."""
        whole = {id(place): change for place, change in changes if isinstance(place, Node)}
        single = {(id(place[0]), place[1]): change for place, change in changes if isinstance(place, tuple)}
        users = {user for user, _ in single}
        changed: dict[int, Any] = {}
        with np.errstate(all="ignore"):
            for node in self.nodes if changes else ():
                here = id(node)
                if here in users or any(id(part) in changed for part in node.parts):
                    parts = [changed.get(id(part), self.get(part)) for part in node.parts]
                    parts = [single[here, at](part) if (here, at) in single else part for at, part in enumerate(parts)]
                    changed[here] = node.apply(*parts)
                if here in whole:
                    changed[here] = whole[here](changed.get(here, self.get(node)))
        return changed.get(id(self.root), self.get(self.root))


def evaluate(root: Node) -> Any:
    """Return a graph's value."""
    return Expression(root).evaluate()


def is_array(value: Any) -> bool:
    """Whether a value is an array of floats of more than one entry."""
    return bool(np.size(value) > 1 and np.asarray(value).dtype.kind == "f")


def hold(narrow: Any, value: Array) -> Array:
    """Return the values as a narrower dtype holds them.

    >>> hold(np.float16, np.array([0.1]))
    array([0.09997559])
    """
    return np.asarray(value.astype(narrow).astype(value.dtype))


def outline(node: Node, depth: int = 3) -> str:
    """Return the operations of a graph down to a depth, and the shape of what stands there: alike for the steps of a loop.

    >>> outline(number(1) - Node("y", value=np.ones(3)) * Node("z", value=np.ones(3)))
    '-(1.0, *((3,), (3,)))'
    """
    if node.is_number:
        return str(node.value)
    if not node.parts or not depth:
        return str(np.shape(node.value))
    return f"{node.name}({', '.join(outline(part, depth - 1) for part in node.parts)})"
