"""Wiring: a network of right layers comes in, the same nodes joined in a wrong way go out.

Like any mutant it may be equivalent on some network, as two swapped gradients that are the same, and must then be
left out of the count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.core import Array, NetworkSpec
from harness.mutations.sites import (
    Site,
    find_fan_outs,
    find_inputs,
    find_maps,
    find_merges,
    find_others,
    find_output,
    find_shared_nodes,
)
from reference_layers import Network, Node


class Wired(Network):
    """A network that asks `read` for what a node receives, and `hand_on` to add what it returned to the gradients."""

    site: Site = Site("")

    def forward(self, inputs: Mapping[str, Array]) -> Array:
        values = {name: inputs[name] for name in self.inputs}
        for node in self.nodes:
            node.layer.cache, node.layer.grads = (), {}
        for node in self.nodes:
            values[node.name] = node.layer.forward(*[values[self.read(node, i)] for i in range(len(node.inputs))])
        return values[self.output]

    def backward(self, dy: Array | float) -> dict[str, Array]:
        gradients: dict[str, Any] = {self.output: dy}
        for node in reversed(self.nodes):
            if node.name in gradients:
                self.step(gradients, node, gradients.pop(node.name))
            else:
                node.layer.grads = _zeros(node)
        return {name: gradients[name] for name in self.inputs if name in gradients}

    def step(self, gradients: dict[str, Any], node: Node, dy: Any) -> None:
        """Run one node backward and hand on what it returned."""
        returned = node.layer.backward(dy)
        parts = returned if isinstance(returned, tuple) else (returned,)
        self.hand_on(gradients, node, list(zip(node.inputs, parts, strict=False)))

    def read(self, node: Node, place: int) -> str:
        """Return the name of the value that the node receives there."""
        return node.inputs[place]

    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        """Add what the node returned to the gradients of the values that it read."""
        for name, part in parts:
            gradients[name] = gradients[name] + part if name in gradients else part


def _zeros(node: Node) -> dict[str, Array]:
    return {name: np.zeros_like(value) for name, value in node.layer.params.items()}


class _LastWins(Wired):
    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        gradients.update(parts)


class _FirstWins(Wired):
    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        for name, part in parts:
            gradients.setdefault(name, part)


class _AddsTwice(Wired):
    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        again = [part for i, part in enumerate(parts) if node.name == self.site.node and i == self.site.place]
        super().hand_on(gradients, node, [*parts, *again])


class _Averages(Wired):
    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        for name, part in parts:
            gradients[name] = (gradients[name] + part) / part.dtype.type(2) if name in gradients else part


class _Drops(Wired):
    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        kept = [part for i, part in enumerate(parts) if node.name != self.site.node or i != self.site.place]
        super().hand_on(gradients, node, kept)


class _Swaps(Wired):
    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        if node.name == self.site.node:
            parts = list(zip([name for name, _ in parts][::-1], [part for _, part in parts], strict=True))
        super().hand_on(gradients, node, parts)


class _Misdirects(Wired):
    def hand_on(self, gradients: dict[str, Any], node: Node, parts: list[tuple[str, Any]]) -> None:
        if node.name == self.site.node:
            parts = [(self.site.other if i == self.site.place else name, part) for i, (name, part) in enumerate(parts)]
        super().hand_on(gradients, node, parts)


class _Skips(Wired):
    def step(self, gradients: dict[str, Any], node: Node, dy: Any) -> None:
        if node.name != self.site.node:
            return super().step(gradients, node, dy)
        node.layer.grads = _zeros(node)
        return self.hand_on(gradients, node, [(node.inputs[0], dy)])


class _RunsTooEarly(Wired):
    """Runs a node backward once for each part that arrives, and keeps the parameter gradients of the last part alone."""

    def backward(self, dy: Array | float) -> dict[str, Array]:
        makers, found = {node.name: node for node in self.nodes}, dict[str, Any]()
        waiting: list[tuple[str, Any]] = [(self.output, dy)]
        for node in self.nodes:
            node.layer.grads = _zeros(node)
        while waiting:
            name, part = waiting.pop()
            if name in makers:
                returned = makers[name].layer.backward(part)
                parts = returned if isinstance(returned, tuple) else (returned,)
                waiting += [pair for pair in zip(makers[name].inputs, parts, strict=False) if pair[1] is not None]
            else:
                found[name] = found[name] + part if name in found else part
        return {name: found[name] for name in self.inputs if name in found}


class _ReadsAnother(Wired):
    def read(self, node: Node, place: int) -> str:
        wrong = node.name == self.site.node and place == self.site.place
        return self.site.other if wrong else node.inputs[place]


class _SeedsWithOnes(Wired):
    def backward(self, dy: Array | float) -> dict[str, Array]:
        return super().backward(np.ones_like(dy)[()])


class _ForgetsInput(Wired):
    def backward(self, dy: Array | float) -> dict[str, Array]:
        found = super().backward(dy)
        return {name: value for name, value in found.items() if name != self.site.other}


@dataclass(frozen=True)
class Wiring:
    """One kind of fault of a graph. `sites` returns where it can be in a network; it fits where there is one.

    Found are what the layers receive from and return to one another; the layers are right.
    """

    name: str
    why: str
    network: type[Wired]
    sites: Callable[[NetworkSpec], list[Site]]
    family: str = "wiring"

    def fits(self, network: NetworkSpec) -> bool:
        """Whether the network has a place for the fault."""
        return bool(self.sites(network))

    def plant(self, network: Network, spec: NetworkSpec, seed: int = 0) -> Network:
        """Return a network of the same nodes with the fault at one of its sites, picked by the seed."""
        sites = self.sites(spec)
        faulty = self.network(network.nodes, network.inputs, network.output)
        faulty.site = sites[int(np.random.default_rng(seed).integers(len(sites)))]
        return faulty

    def __reduce__(self) -> tuple[Any, ...]:
        return find_wiring, (self.name,)


def find_wirings() -> tuple[Wiring, ...]:
    """Return every kind of wrong wiring."""
    return WIRINGS


def find_wiring(name: str) -> Wiring:
    """Return the wiring fault of that name. Raises KeyError, naming it, when there is none."""
    return {wiring.name: wiring for wiring in WIRINGS}[name]


WIRINGS = (
    Wiring("residual added twice", "a skip connection that is counted in two places", _AddsTwice, find_fan_outs),
    Wiring("fan-out not summed, the last use wins", "= for += where a value is used twice", _LastWins, find_fan_outs),
    Wiring("fan-out not summed, the first use wins", "a gradient that is kept once it is there", _FirstWins, find_fan_outs),
    Wiring("fan-out averaged", "a mean over the uses of a value", _Averages, find_fan_outs),
    Wiring("a use left out", "a branch that is detached", _Drops, find_fan_outs),
    Wiring("gradients handed to each other's input", "returned in one order, unpacked in another", _Swaps, find_merges),
    Wiring("gradient handed to another value", "a wrong name or index in the graph", _Misdirects, find_others),
    Wiring("node skipped backward", "an activation that is applied forward alone", _Skips, find_maps),
    Wiring("a node run before all its gradients are there", "backward in another order than the reverse", _RunsTooEarly,
           find_shared_nodes),
    Wiring("another value read", "a wrong name or a stale buffer of the same shape", _ReadsAnother, find_others),
    Wiring("cotangent replaced by ones", "backward() without its argument", _SeedsWithOnes, find_output),
    Wiring("gradient of an input left out", "an input that nobody asked the gradient of", _ForgetsInput, find_inputs),
)  # fmt: skip
