"""Network: named arrays come in, the output of the last node goes out; backward returns the gradient of every input.

A network is a computational graph. Each node needs only its local derivative: forward runs in
topological order, backward in reverse, and where a value is used more than once the gradients of
its uses are summed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import Any

import numpy as np

from reference_layers.layer import Array, Layer


@dataclass(frozen=True)
class Node:
    """One layer in a graph: its name, the layer, and the names of the values it reads."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]


class Network:
    """A graph of layers.

    `nodes` may come in any order; `inputs` names the values given from outside; `output` is the
    node whose value is returned, the last in topological order unless named. Raises ValueError for a
    doubled name, an unknown input, a cycle, or one layer object at two nodes, since a layer keeps the
    cache and the gradients of one.

    >>> import numpy as np
    >>> from reference_layers import Add, ReLU
    >>> network = Network([Node("relu", ReLU(), ("x",)), Node("sum", Add(), ("relu", "relu"))], inputs=["x"])
    >>> network.forward({"x": np.array([-1.0, 3.0])})
    array([0., 6.])
    >>> network.backward(np.array([1.0, 1.0]))
    {'x': array([0., 2.])}
    """

    def __init__(self, nodes: Iterable[Node], inputs: Sequence[str], output: str | None = None) -> None:
        self.inputs = tuple(inputs)
        self.nodes = _sort(list(nodes), self.inputs)
        self.output = output if output is not None else self.nodes[-1].name
        if self.output not in {node.name for node in self.nodes}:
            raise ValueError(f"output {self.output!r} is no node; accepted are {[node.name for node in self.nodes]}")
        self._spent = _find_spent(self.nodes, self.output)

    def forward(self, inputs: Mapping[str, Array]) -> Array:
        """Return the output for one array per input name. Raises ValueError when a name is missing.

        The layers forget the caches and gradients of the pass before, and a value is let go once nothing
        more reads it: memory that is used again at once is still in the processor's cache.
        """
        values = {name: _given(inputs, name) for name in self.inputs}
        for node in self.nodes:
            node.layer.cache, node.layer.grads = (), {}
        for node in self.nodes:
            values[node.name] = node.layer.forward(*[values[name] for name in node.inputs])
            for name in self._spent[node.name]:
                del values[name]
        return values[self.output]

    def backward(self, dy: Array | float) -> dict[str, Array]:
        """Return the gradient of every differentiable input on which the output depends.

        The layers' `grads` hold those of the parameters: zeros at a node that does not reach the output.
        """
        gradients: dict[str, Any] = {self.output: dy}
        for node in reversed(self.nodes):
            if node.name not in gradients:
                node.layer.grads = {name: np.zeros_like(value) for name, value in node.layer.params.items()}
                continue
            returned = node.layer.backward(gradients.pop(node.name))
            contributions = returned if isinstance(returned, tuple) else (returned,)
            for name, contribution in zip(node.inputs, contributions, strict=False):
                if contribution is None and name not in self.inputs:
                    raise TypeError(f"{node.name}.backward returned no gradient for its input {name}")
                gradients[name] = gradients[name] + contribution if name in gradients else contribution
        return {name: gradients[name] for name in self.inputs if name in gradients}

    @property
    def params(self) -> dict[str, Array]:
        """All parameters, named node.parameter."""
        return {f"{node.name}.{key}": value for node in self.nodes for key, value in node.layer.params.items()}

    @property
    def grads(self) -> dict[str, Array]:
        """All parameter gradients of the last backward pass, named node.parameter."""
        return {f"{node.name}.{key}": value for node in self.nodes for key, value in node.layer.grads.items()}

    def mermaid(self) -> str:
        """Return the graph as Mermaid text, which GitHub and many editors draw."""
        keys = {name: f"v{i}" for i, name in enumerate([*self.inputs, *(node.name for node in self.nodes)])}
        lines = ["flowchart TD", *(f'    {keys[name]}(["{_escape(name)}"])' for name in self.inputs)]
        for node in self.nodes:
            lines.append(f'    {keys[node.name]}["{_escape(node.name)}<br/>{_escape(repr(node.layer))}"]')
            lines.extend(f"    {keys[name]} --> {keys[node.name]}" for name in node.inputs)
        return "\n".join(lines)

    def __repr__(self) -> str:
        rows = [f"  {node.name} = {node.layer!r} of {', '.join(node.inputs)}" for node in self.nodes]
        return "\n".join([f"Network({', '.join(self.inputs)}) -> {self.output}", *rows])


def _sort(nodes: list[Node], inputs: tuple[str, ...]) -> tuple[Node, ...]:
    """Return the nodes in topological order; nodes that are in order already stay as they are."""
    _check(nodes, inputs)
    places = {node.name: place for place, node in enumerate(nodes)}
    sorter = TopologicalSorter({node.name: [name for name in node.inputs if name in places] for node in nodes})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"the graph has a cycle: {' -> '.join(error.args[1])}") from None
    ordered: list[Node] = []
    ready: list[int] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heappush(ready, places[name])
        ordered.append(nodes[heappop(ready)])
        sorter.done(ordered[-1].name)
    return tuple(ordered)


def _check(nodes: list[Node], inputs: tuple[str, ...]) -> None:
    names = [*inputs, *(node.name for node in nodes)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    unknown = sorted({name for node in nodes for name in node.inputs} - set(names))
    if doubled or unknown or not nodes:
        raise ValueError(
            f"a network needs nodes with names of their own that read known values; doubled {doubled}, unknown {unknown}"
        )
    if len({id(node.layer) for node in nodes}) < len(nodes):
        raise ValueError("a network needs a layer object of its own at each node; one is at two nodes")


def _find_spent(nodes: tuple[Node, ...], output: str) -> dict[str, list[str]]:
    """Return for each node the values that no later node reads."""
    last = {name: node.name for node in nodes for name in node.inputs}
    return {node.name: [name for name, reader in last.items() if reader == node.name and name != output] for node in nodes}


def _given(inputs: Mapping[str, Array], name: str) -> Array:
    if name not in inputs:
        raise ValueError(f"input {name!r} is missing; given are {sorted(inputs)}")
    return inputs[name]


def _escape(text: str) -> str:
    """Return text as a quoted Mermaid label may hold it, with its entity codes for what would end or change it.

    >>> _escape('a "b" <c>')
    'a #quot;b#quot; #lt;c#gt;'
    """
    codes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"}
    return " ".join("".join(codes.get(letter, letter) for letter in text).splitlines())
