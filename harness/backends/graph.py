"""Evaluation of a graph by formula: values by name come in, the values of all nodes go out, in any framework's arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core import NetworkSpec, Problem


@dataclass(frozen=True)
class Casts:
    """How a framework widens a float array to the dtype of the computation, and rounds it to that of storage."""

    widen: Callable[[Any], Any]
    store: Callable[[Any], Any]


Params = Mapping[str, Mapping[str, Any]]


def evaluate(network: NetworkSpec, call: Callable[..., Any], params: Params, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return every value of the graph; `call(node, params, *arguments)` evaluates one node."""
    values = dict(inputs)
    for node in network.nodes:
        values[node.name] = call(node, params.get(node.name, {}), *[values[name] for name in node.inputs])
    return values


def decide(network: NetworkSpec, layers: Mapping[str, Any], xp: Any, params: Params, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the branches taken, by node, for the layers that have branches."""
    return {
        node.name: layers[node.layer].decisions(xp, params.get(node.name, {}), *[values[name] for name in node.inputs])
        for node in network.nodes
        if hasattr(layers[node.layer], "decisions")
    }


def pick_calls(
    network: NetworkSpec, layers: Mapping[str, Any], xp: Any, framework: str, module: Any, casts: Casts | None = None
) -> Callable[..., Any]:
    """Return a `call` for `evaluate`: the framework's own op where `module` is given and the layer has one, else the formula.

    With `casts`, formulas compute in a wider dtype than their values are stored in; own ops get what is stored.
    """

    def call(node: Any, params: Mapping[str, Any], *arguments: Any) -> Any:
        kind = layers[node.layer]
        if module is not None and framework in kind.native:
            return kind.native[framework](module, params, *arguments)
        if casts is None:
            return kind.formula(xp, params, *arguments)
        wide = {name: casts.widen(value) for name, value in params.items()}
        return casts.store(kind.formula(xp, wide, *map(casts.widen, arguments)))

    return call


def has_native(layers: Mapping[str, Any], network: NetworkSpec, framework: str) -> bool:
    """Whether any node of the network has an op of the framework's own."""
    return any(framework in layers[node.layer].native for node in network.nodes)


def split_inputs(problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs that are differentiated, and the constants."""
    variable = {name: value for name, value in problem.inputs.items() if name not in problem.constants}
    return variable, {name: problem.inputs[name] for name in problem.constants}


def name_gradients(params: Mapping[str, Mapping[str, Any]], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return gradients by name: node.parameter, and the input's own name."""
    named = {f"{node}.{key}": value for node, group in params.items() for key, value in group.items()}
    return {**named, **inputs}
