"""Adjoints: the operations of a formula come in, its gradient as the author of a computational graph writes it goes out.

Each operation is gone back through by the rule that a textbook gives for it, with the values of the forward pass at hand. A
sigmoid and a softmax are gone back through as one, as everybody does.

Source of the rules: Griewank and Walther, Evaluating Derivatives (2008), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from autograd import make_vjp
from autograd.tracer import isbox

from harness.core import Array
from harness.custom.expressions import FUNCTIONS, Node, apply, number
from harness.custom.probe import Call, Operation

Known = list[tuple[Any, Node]]
Rule = Callable[[Node, Sequence[Node], Node], Sequence[Node | None]]


def write_adjoint(
    calls: Sequence[Call], leaves: Mapping[str, Array], dy: Array, wanted: str, closed: Sequence[str] = ()
) -> Node | None:
    """Return the gradient of one of the leaves, nothing flowing through the closed operations; None where none flows to it."""
    known: Known = [(value, Node(name, value=value)) for name, value in leaves.items()]
    steps = [(call, _find_slots(known, call), _add(known, call.operation)) for call in calls]
    flows: dict[int, Node] = {id(known[-1][1]): Node("dy", value=dy)}
    for call, slots, node in reversed(steps):
        g = flows.get(id(node))
        if g is not None and call.operation.name not in closed:
            for part, flow in _go_back(call, slots, node, g):
                before = flows.get(id(part))
                flows[id(part)] = flow if before is None else before + flow
    leaf = next(node for _, node in known if node.name == wanted)
    return flows.get(id(leaf))


@dataclass(frozen=True, eq=False)
class Slot:
    """An argument through which a gradient flows, or one array of a list of them, and the node that it holds."""

    place: int
    at: int | None
    node: Node

    def fill(self, arguments: Sequence[Any], value: Any) -> list[Any]:
        """Return the arguments with another value in it."""
        given = list(arguments)
        if self.at is None:
            given[self.place] = value
        else:
            given[self.place] = [value if i == self.at else other for i, other in enumerate(given[self.place])]
        return given

    def take(self, arguments: Sequence[Any]) -> Any:
        """Return what the arguments have in it."""
        return arguments[self.place] if self.at is None else arguments[self.place][self.at]


def _find_slots(known: Known, call: Call) -> list[Slot]:
    found = []
    for place, (given, plain) in enumerate(zip(call.arguments, call.operation.arguments, strict=True)):
        if isinstance(given, list | tuple):
            found += [Slot(place, at, _find(known, plain[at])) for at, one in enumerate(given) if isbox(one)]
        elif isbox(given):
            found.append(Slot(place, None, _find(known, plain)))
    return found


def _add(known: Known, one: Operation) -> Node:
    """Keep an operation's result among the known, as an operation on them where it is one that can be written, else as it is."""
    name = _read_name(one)
    written = name in FUNCTIONS and set(one.options) <= {"axis", "keepdims"} and (name != "T" or np.ndim(one.value) == 2)
    parts = tuple(_find(known, value) for value in one.arguments) if written else ()
    node = Node(name if written else one.text, parts, one.value, one.options if written else {})
    known.append((one.value, node))
    return node


def _read_name(one: Operation) -> str:
    return one.name.removeprefix("xp.").replace("matmul", "@")


def _find(known: Known, value: Any) -> Node:
    """Return the node of a value: the latest that holds it, a number, or what is known of it nowhere as it is."""
    found = next((node for other, node in reversed(known) if other is value), None)
    if found is None and isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    if found is None and isinstance(value, np.ndarray) and value.size > 1:
        found = next((node for other, node in known if isinstance(other, np.ndarray) and np.array_equal(other, value)), None)
    return found or Node("an array", value=value)


def _go_back(call: Call, slots: Sequence[Slot], node: Node, g: Node) -> list[tuple[Node, Node]]:
    """Return what flows back to which of the operation's arguments, or to what stands inside of them."""
    joined = _join_sigmoid(node, g) or _join_softmax(node, g)
    if joined:
        return [(part, flow) for part, flow in joined if not part.is_number]
    one = call.operation
    rule = RULES.get(_read_name(one)) if node.parts else None
    flows = dict(enumerate(rule(node, node.parts, g) if rule else []))
    found = []
    for slot in slots:
        flow = flows.get(slot.place)
        wanted = np.shape(slot.take(one.arguments))
        found.append((slot.node, _pull(call, slot, g) if flow is None else _gather(flow, _find_shape(node, wanted), wanted)))
    return found


def _find_shape(node: Node, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which a rule gives what flows to an argument: the operation's, but for reductions and products."""
    if node.is_reduction:
        return wanted
    return (*np.shape(node.value)[:-2], *wanted[-2:]) if node.name == "@" else np.shape(node.value)


def _pull(call: Call, slot: Slot, g: Node) -> Node:
    """Return what flows back through an operation for which there is no rule here: its own vector-Jacobian product."""
    given = call.operation.arguments

    def pull(cotangent: Any) -> Any:
        back, _ = make_vjp(lambda value: call.repeat(*slot.fill(given, value)))(slot.take(given))
        return back(np.broadcast_to(cotangent, np.shape(call.operation.value)))

    return Node("", (g,), function=pull)


def _gather(flow: Node, shape: tuple[int, ...], wanted: tuple[int, ...]) -> Node:
    """Return the sum of what flows to an argument that was spread over the operation's shape."""
    if shape == wanted:
        return flow
    ahead = len(shape) - len(wanted)
    axes = [axis for axis, size in enumerate(shape) if axis < ahead or (wanted[axis - ahead] == 1 < size)]
    whole = Node("", (flow,), function=partial(np.broadcast_to, shape=shape))
    total = apply("sum", whole, axis=tuple(axes) if len(axes) != 1 else axes[0], keepdims=True) if axes else whole
    return Node("", (total,), function=partial(np.reshape, shape=wanted))


def _join_sigmoid(node: Node, g: Node) -> list[tuple[Node, Node]]:
    """Go back through a / (1 + exp(-u)) as through a s, to a and to u."""
    if node.name != "/" or node.parts[1].name != "+":
        return []
    powers = [part for part in node.parts[1].parts if part.name == "exp" and part.parts[0].name == "neg"]
    if not powers or not any(part.is_number and part.value == 1 for part in node.parts[1].parts):
        return []
    top, within = node.parts[0], powers[0].parts[0].parts[0]
    s = node if top.is_number and top.value == 1 else number(1) / node.parts[1]
    return [(top, g * s), (within, g * top * (s * (number(1) - s)))]


def _join_softmax(node: Node, g: Node) -> list[tuple[Node, Node]]:
    """Go back through exp(u) / sum(exp(u)) as through a softmax, to u."""
    if node.name != "/" or node.parts[0].name != "exp" or node.parts[1].name != "sum":
        return []
    if node.parts[1].parts[0] is not node.parts[0] or not node.parts[1].options.get("keepdims"):
        return []
    axis = node.parts[1].options.get("axis")
    return [(node.parts[0].parts[0], node * (g - apply("sum", g * node, axis=axis, keepdims=True)))]


def _spread(node: Node, x: Node, g: Node) -> Node:
    """Return what flows back through a sum to each entry of what was summed."""
    shape, axis = np.shape(x.value), node.options.get("axis")
    kept = np.ndim(node.value) == len(shape)

    def spread(cotangent: Any) -> Any:
        return np.broadcast_to(cotangent if kept or axis is None else np.expand_dims(cotangent, axis), shape)

    return Node("", (g,), function=spread)


def _multiply(node: Node, x: Sequence[Node], g: Node) -> Sequence[Node | None]:
    """Return the flows through a matrix product; through one of vectors there is no rule here."""
    if min(np.ndim(part.value) for part in x) < 2:
        return [None, None]
    return [Node("@", (g, _transpose(x[1]))), Node("@", (_transpose(x[0]), g))]


def _transpose(node: Node) -> Node:
    return node.parts[0] if node.name == "T" else apply("T", node)


def _average(node: Node, x: Sequence[Node], g: Node) -> Sequence[Node | None]:
    count = np.size(x[0].value) / max(np.size(node.value), 1)
    return [_spread(node, x[0], g) / number(count)]


def _raise(node: Node, x: Sequence[Node], g: Node) -> Sequence[Node | None]:
    power = x[1].value
    if not x[1].is_number:
        return [None, None]
    return [g * (number(power) * (x[0] if power == 2 else Node("**", (x[0], number(power - 1))))), None]


RULES: Mapping[str, Rule] = {
    "+": lambda y, x, g: [g, g],
    "-": lambda y, x, g: [g, apply("neg", g)],
    "*": lambda y, x, g: [g * x[1], g * x[0]],
    "/": lambda y, x, g: [g / x[1], apply("neg", g * x[0] / (x[1] * x[1]))],
    "@": _multiply,
    "**": _raise,
    "square": lambda y, x, g: [g * (number(2) * x[0])],
    "neg": lambda y, x, g: [apply("neg", g)],
    "abs": lambda y, x, g: [g * apply("sign", x[0])],
    "exp": lambda y, x, g: [g * y],
    "log": lambda y, x, g: [g / x[0]],
    "sqrt": lambda y, x, g: [g / (number(2) * y)],
    "tanh": lambda y, x, g: [g * (number(1) - y * y)],
    "where": lambda y, x, g: [None, Node("where", (x[0], g, number(0))), Node("where", (x[0], number(0), g))],
    "maximum": lambda y, x, g: [Node("where", (Node(sign, (x[0], x[1])), g, number(0))) for sign in (">", "<")],
    "minimum": lambda y, x, g: [Node("where", (Node(sign, (x[0], x[1])), g, number(0))) for sign in ("<", ">")],
    "sum": lambda y, x, g: [_spread(y, x[0], g)],
    "mean": _average,
}  # fmt: skip
