"""Sites: a network comes in, the places at which a fault of its wiring can be go out."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core import NetworkSpec, NodeSpec


@dataclass(frozen=True)
class Site:
    """Where a fault is: a node, which of its inputs, and another value that comes into it."""

    node: str
    place: int = 0
    other: str = ""


def _is_loss(node: NodeSpec) -> bool:
    return not node.width


def _edges(network: NetworkSpec) -> list[tuple[NodeSpec, int]]:
    """Return every connection along which a gradient comes back: the second input of a loss has none."""
    return [(node, i) for node in network.nodes for i in range(1 if _is_loss(node) else len(node.inputs))]


def _shared(network: NetworkSpec) -> list[str]:
    """Return the values that are used more than once."""
    used = [node.inputs[i] for node, i in _edges(network)]
    return sorted({name for name in used if used.count(name) > 1})


def find_fan_outs(network: NetworkSpec) -> list[Site]:
    """Return the connections that read a value which is used more than once."""
    return [Site(node.name, i) for node, i in _edges(network) if node.inputs[i] in _shared(network)]


def find_shared_nodes(network: NetworkSpec) -> list[Site]:
    """Return the connections that read a node's value which is used more than once."""
    made = {node.name for node in network.nodes}
    return [Site(node.name, i) for node, i in _edges(network) if node.inputs[i] in made.intersection(_shared(network))]


def find_merges(network: NetworkSpec) -> list[Site]:
    """Return the nodes that read two values or more."""
    return [Site(node.name) for node in network.nodes if len(set(node.inputs)) > 1 and not _is_loss(node)]


def _earlier(network: NetworkSpec, node: NodeSpec, place: int) -> list[str]:
    """Return the other values before the node that have the width of what it reads there, the targets of losses aside."""
    widths, names = dict(network.widths), [node.name for node in network.nodes]
    widths |= {node.name: node.width for node in network.nodes[: names.index(node.name)]}
    targets = {name for loss in network.nodes if _is_loss(loss) for name in loss.inputs[1:]}
    wanted = node.inputs[place]
    return [name for name, width in widths.items() if width == widths[wanted] and name != wanted and name not in targets]


def find_others(network: NetworkSpec) -> list[Site]:
    """Return the connections with another value of the same width that might have been meant."""
    return [Site(node.name, i, name) for node, i in _edges(network) for name in _earlier(network, node, i)]


def find_maps(network: NetworkSpec) -> list[Site]:
    """Return the nodes with one input, of the width of their output."""
    widths = {**network.widths, **{node.name: node.width for node in network.nodes}}
    lone = [node for node in network.nodes if len(node.inputs) == 1 and not _is_loss(node)]
    return [Site(node.name) for node in lone if widths[node.inputs[0]] == node.width]


def find_output(network: NetworkSpec) -> list[Site]:
    """Return the last node."""
    return [Site(network.output.name)]


def find_inputs(network: NetworkSpec) -> list[Site]:
    """Return the inputs of the network that have a gradient."""
    read = {node.inputs[i] for node, i in _edges(network)}
    return [Site("", 0, name) for name in network.widths if name in read]
