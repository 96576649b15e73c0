"""Shrinking networks: a case that a backend fails comes in, the smallest case found that it fails in the same way goes out.

Nodes are taken out, then batch and widths get smaller, and what is peculiar about the case goes. Hypothesis chooses what to
try, and whether a smaller case still fails the judge says each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core import BadInput, Case, Comparison, NetworkSpec, NodeSpec
from harness.discovery import find_layers
from harness.minimise import Choices, is_available, minimise
from harness.runner import replay_case

CALLS = 60
ELSEWHERE = ("input", "network", "fan-out")


@dataclass(frozen=True)
class Failure:
    """In which way a case fails: which backend, the layer, quantity and verdict of a row."""

    backend: str
    layer: str
    quantity: str
    verdict: str


def find_failures(case: Case, backends: Sequence[str]) -> list[Failure]:
    """Return in which ways the backends fail a case: first where a layer's own code errs, then what suffers from it."""
    rows = [row for row in replay_case(case, backends) if row.fails]
    return list(dict.fromkeys(_name(row) for row in sorted(rows, key=_rank)))


def shrink_case(case: Case, backends: Sequence[str]) -> Case:
    """Return the smallest case found on which a backend fails in the way in which it fails first; the same one each time.

    Raises BadInput where the case does not fail, or Hypothesis is not installed.
    """
    if not is_available():
        raise BadInput("--shrink: Hypothesis is not installed: pip install 'backprop-harness[shrink]'")
    failures = find_failures(case, backends)
    if not failures:
        raise BadInput(f"--shrink: {case.id} does not fail on {', '.join(backends)}; accepted is a case that fails")
    for step in (_remove_nodes, _make_usual, _narrow):
        case = step(case, failures[0])
    return replace(case, origin="small")


def _rank(row: Comparison) -> tuple[bool, bool]:
    errs = row.local_error_in_bounds > 1 or row.lifted_error_in_bounds > 1
    return row.layer in ELSEWHERE, row.verdict == "mismatch" and not errs


def _name(row: Comparison) -> Failure:
    return Failure(row.backend, row.layer, row.quantity, row.verdict)


def _fails(case: Case | None, failure: Failure) -> bool:
    """Whether the case fails in the same way; one that cannot be built fails in none."""
    if case is None:
        return False
    try:
        return failure in find_failures(case, [failure.backend])
    except BadInput:
        return False


def _remove_nodes(case: Case, failure: Failure) -> Case:
    """Take nodes out: choice 0 leaves a node out, and its readers read what it read first."""
    nodes = case.network.nodes

    def build(choices: Choices) -> Case | None:
        kept = [node for node, choice in zip(nodes, choices, strict=True) if choice]
        network = take_out(case.network, [node.name for node in kept]) if kept else None
        return replace(case, network=network) if network else None

    alone = next((node for node in nodes if node.layer == failure.layer), None)
    if alone and _fails(single := build(tuple(int(node is alone) for node in nodes)), failure):
        return single or case
    return build(minimise((1,) * len(nodes), lambda choices: _fails(build(choices), failure), CALLS)) or case


def _make_usual(case: Case, failure: Failure) -> Case:
    """Take what is peculiar about the case away, one by one: hazards, storage, scales and labels."""
    usual = Case(case.network, case.dtype, case.seed)
    for field in ("hazards", "storage", "scale", "gain", "labels"):
        plain = replace(case, **{field: getattr(usual, field)})
        if plain != case and _fails(plain, failure):
            case = plain
    return case


def _narrow(case: Case, failure: Failure) -> Case:
    """Lower the batch and every width that can be chosen: choice 0 is 1."""
    network = case.network
    free = [name for name in network.widths if not _is_target(network, name)] + _list_projections(network)
    sizes = {**network.widths, **{node.name: node.width for node in network.nodes}}
    start = (max(network.batch - 1, 0), *(max(sizes[name] - 1, 0) for name in free))

    def build(choices: Choices) -> Case | None:
        batch, *widths = choices
        chosen = {name: min(width + 1, sizes[name]) for name, width in zip(free, widths, strict=True)}
        narrow = set_widths(network, chosen, min(batch + 1, network.batch))
        return replace(case, network=narrow) if narrow else None

    return build(minimise(start, lambda choices: _fails(build(choices), failure), CALLS)) or case


def take_out(network: NetworkSpec, keep: Sequence[str]) -> NetworkSpec | None:
    """Return the network of the kept nodes that its last one needs; None where widths do not fit.

    >>> nodes = (NodeSpec("affine1", "affine", ("x",), 3), NodeSpec("relu1", "relu", ("affine1",), 3))
    >>> take_out(NetworkSpec({"x": 5}, nodes, 8), ["relu1"]).nodes
    (NodeSpec(name='relu1', layer='relu', inputs=('x',), width=5),)
    """
    source = {name: name for name in network.widths}
    nodes = list[NodeSpec]()
    for node in network.nodes:
        inputs = tuple(source[name] for name in node.inputs)
        source[node.name] = node.name if node.name in keep else inputs[0]
        if node.name in keep:
            nodes.append(replace(node, inputs=inputs))
    needed = {nodes[-1].name}
    for node in reversed(nodes):
        needed |= set(node.inputs) if node.name in needed else set()
    widths = {name: width for name, width in network.widths.items() if name in needed}
    return set_widths(NetworkSpec(widths, tuple(node for node in nodes if node.name in needed), network.batch), {}, network.batch)


def set_widths(network: NetworkSpec, chosen: Mapping[str, int], batch: int) -> NetworkSpec | None:
    """Return the network with the widths chosen for inputs and projections, and others as they follow from them.

    None where a node's inputs then differ in width; the targets of a loss follow what it judges.
    """
    layers = find_layers()
    widths = {name: chosen.get(name, width) for name, width in network.widths.items()}
    values, nodes = dict(widths), list[NodeSpec]()
    for node in network.nodes:
        place, first = layers[node.layer].place, values[node.inputs[0]]
        for other in node.inputs[1:]:
            if _is_target(network, other):
                widths[other] = values[other] = first
        if len({values[name] for name in node.inputs}) > 1:
            return None
        width = chosen.get(node.name, node.width) if place == "project" else 0 if place == "loss" else first
        values[node.name] = width
        nodes.append(replace(node, width=width))
    return NetworkSpec(widths, tuple(nodes), batch)


def _list_projections(network: NetworkSpec) -> list[str]:
    layers = find_layers()
    return [node.name for node in network.nodes if layers[node.layer].place == "project"]


def _is_target(network: NetworkSpec, name: str) -> bool:
    """Whether an input is read as the target of a loss alone."""
    layers: Mapping[str, Any] = find_layers()
    readers = [node for node in network.nodes if name in node.inputs]
    return name in network.widths and all(layers[node.layer].place == "loss" and node.inputs.index(name) > 0 for node in readers)
