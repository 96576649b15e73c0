"""Network: named arrays come in, the output of the last node goes out; backward returns the gradient of every input.

A network is a computational graph. Each node needs only its local derivative: forward runs in
topological order, backward in reverse, and where a value is used more than once the gradients of
its uses are summed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

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
    doubled name, an unknown input or a cycle.

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

    def forward(self, inputs: Mapping[str, Array]) -> Array:
        """Return the output for one array per input name. Raises ValueError when a name is missing."""
        values = {name: _given(inputs, name) for name in self.inputs}
        for node in self.nodes:
            values[node.name] = node.layer.forward(*[values[name] for name in node.inputs])
        return values[self.output]

    def backward(self, dy: Array | float) -> dict[str, Array]:
        """Return the gradient of every differentiable input; the layers' `grads` hold those of the parameters."""
        gradients: dict[str, Any] = {self.output: dy}
        for node in reversed(self.nodes):
            if node.name in gradients:
                returned = node.layer.backward(gradients[node.name])
                contributions = returned if isinstance(returned, tuple) else (returned,)
                for name, contribution in zip(node.inputs, contributions, strict=False):
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
        lines = ["flowchart TD", *(f"    {_key(name)}([{name}])" for name in self.inputs)]
        for node in self.nodes:
            lines.append(f'    {_key(node.name)}["{node.name}<br/>{node.layer!r}"]'.replace("[float", " [float"))
            lines.extend(f"    {_key(name)} --> {_key(node.name)}" for name in node.inputs)
        return "\n".join(lines)

    def __repr__(self) -> str:
        rows = [f"  {node.name} = {node.layer!r} of {', '.join(node.inputs)}" for node in self.nodes]
        return "\n".join([f"Network({', '.join(self.inputs)}) -> {self.output}", *rows])


def _sort(nodes: list[Node], inputs: tuple[str, ...]) -> tuple[Node, ...]:
    """Return the nodes in topological order, stable for nodes already in order."""
    names = [*inputs, *(node.name for node in nodes)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    unknown = sorted({name for node in nodes for name in node.inputs} - set(names))
    if doubled or unknown or not nodes:
        raise ValueError(
            f"a network needs nodes with names of their own that read known values; doubled {doubled}, unknown {unknown}"
        )
    by_name = {node.name: node for node in nodes}
    sorter = TopologicalSorter({node.name: [name for name in node.inputs if name in by_name] for node in nodes})
    try:
        return tuple(by_name[name] for name in sorter.static_order())
    except CycleError as error:
        raise ValueError(f"the graph has a cycle: {' -> '.join(error.args[1])}") from None


def _given(inputs: Mapping[str, Array], name: str) -> Array:
    if name not in inputs:
        raise ValueError(f"input {name!r} is missing; given are {sorted(inputs)}")
    return inputs[name]


def _key(name: str) -> str:
    return "v_" + re.sub(r"\W", "_", name)
