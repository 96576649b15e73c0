"""Random graphs: choices come in (a seeded generator's or Hypothesis's), a NetworkSpec goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from harness.core import NetworkSpec, NodeSpec

T = TypeVar("T")
LARGEST_WIDTH, LARGEST_BATCH, DEEPEST = 256, 128, 6
FEWEST_ENTRIES = 8


class Chooser(Protocol):
    """Where choices come from."""

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        ...

    def size(self, low: int, high: int) -> int:
        """Return a whole number from low to high, small ones as likely as large ones on a log scale."""
        ...


@dataclass(frozen=True)
class SeededChooser:
    """Choices of a NumPy generator."""

    rng: np.random.Generator

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def size(self, low: int, high: int) -> int:
        return round(float(np.exp(self.rng.uniform(np.log(low), np.log(high)))))


@dataclass
class _Draft:
    """A graph while it grows: `tip` is the value that the next block reads."""

    choose: Chooser
    widths: dict[str, int]
    tip: str = "x"
    nodes: list[NodeSpec] = field(default_factory=list)

    def add(self, layer: str, *inputs: str, width: int) -> str:
        count = sum(node.layer == layer for node in self.nodes) + 1
        self.nodes.append(NodeSpec(f"{layer}{count}", layer, inputs, width))
        self.tip = self.nodes[-1].name
        return self.tip

    def width(self, value: str) -> int:
        return {**self.widths, **{node.name: node.width for node in self.nodes}}[value]


def draw_network(choose: Chooser, layers: Mapping[str, Any]) -> NetworkSpec:
    """Return a random graph of the given layer classes: chains, residual sums, gates, fan-out and a loss.

    Depth (blocks, the loss with its projection among them) is 1 to 6, widths 2 to 256, the batch 2 to 128.
    Widths and batches of 0 and 1 are hazards, see `harness.cases`.
    """
    batch = choose.size(2, LARGEST_BATCH)
    placed = {place: [name for name, kind in layers.items() if kind.place == place] for place in _PLACES}
    draft = _Draft(choose, {"x": choose.size(2, LARGEST_WIDTH)})
    if not placed["project"] and not placed["map"] and not placed["merge"]:
        return draw_single(choose, layers[choose.pick(list(layers))])
    for _ in range(choose.pick(range(1, DEEPEST)) if placed["loss"] else choose.pick(range(1, DEEPEST + 1))):
        blocks = [block for block, needs in _BLOCKS if all(placed[place] for place in needs)]
        choose.pick(blocks)(draft, placed)
    if placed["loss"]:
        _close(draft, placed)
    return NetworkSpec(widths=draft.widths, nodes=tuple(draft.nodes), batch=batch)


def draw_single(choose: Chooser, layer: Any) -> NetworkSpec:
    """Return a network of one node, with at least eight entries, so that some gate of a rectifier is open."""
    batch, width = choose.size(2, LARGEST_BATCH), choose.size(4, LARGEST_WIDTH)
    names = ("x", "t") if layer.place == "loss" else _name_inputs(len(layer.differentiable))
    out = choose.size(2, LARGEST_WIDTH) if layer.place == "project" else width
    node = NodeSpec(f"{layer.name}1", layer.name, names, 0 if layer.place == "loss" else out)
    return NetworkSpec(widths=dict.fromkeys(names, width), nodes=(node,), batch=batch)


def _name_inputs(count: int) -> tuple[str, ...]:
    return ("x", "z", "v", "w", *(f"v{i}" for i in range(4, count)))[:count]


def resize(network: NetworkSpec, layers: Mapping[str, Any], *, batch: int | None = None, width: int | None = None) -> NetworkSpec:
    """Return the same graph with another batch, or with every width the same (losses keep no width)."""
    if width is None:
        return NetworkSpec(network.widths, network.nodes, network.batch if batch is None else batch)
    nodes = tuple(
        NodeSpec(node.name, node.layer, node.inputs, 0 if layers[node.layer].place == "loss" else width) for node in network.nodes
    )
    return NetworkSpec(dict.fromkeys(network.widths, width), nodes, network.batch if batch is None else batch)


def _chain(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> None:
    """A projection to a new width, and a map behind it."""
    _project(draft, placed, draft.tip, draft.choose.size(2, LARGEST_WIDTH))
    _map(draft, placed)


def _residual(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> None:
    """A branch of the same width, merged with what went past it: the tip is used twice."""
    skipped = draft.tip
    _project(draft, placed, skipped, draft.width(skipped))
    _map(draft, placed)
    draft.add(draft.choose.pick(placed["merge"]), skipped, draft.tip, width=draft.width(skipped))


def _gate(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> None:
    """Two branches of one new width from the same value, the one gating the other."""
    source, width = draft.tip, draft.choose.size(2, LARGEST_WIDTH)
    straight = _project(draft, placed, source, width)
    _project(draft, placed, source, width)
    gate = _map(draft, placed)
    draft.add(draft.choose.pick(placed["merge"]), straight, gate, width=width)


def _side_input(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> None:
    """A second input from outside, merged with the tip."""
    name = f"z{len(draft.widths)}"
    draft.widths[name] = draft.width(draft.tip)
    draft.add(draft.choose.pick(placed["merge"]), draft.tip, name, width=draft.widths[name])


def _bare(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> None:
    """A projection with nothing behind it."""
    _project(draft, placed, draft.tip, draft.choose.size(2, LARGEST_WIDTH))


def _only_map(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> None:
    """A map of whatever is there, for runs that leave projections out."""
    _map(draft, placed)


def _project(draft: _Draft, placed: Mapping[str, Sequence[str]], source: str, width: int) -> str:
    return draft.add(draft.choose.pick(placed["project"]), source, width=width)


def _map(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> str:
    return draft.add(draft.choose.pick(placed["map"]), draft.tip, width=draft.width(draft.tip))


def _close(draft: _Draft, placed: Mapping[str, Sequence[str]]) -> None:
    """A last projection to the number of outputs, and the loss with its targets."""
    if placed["project"]:
        _project(draft, placed, draft.tip, draft.choose.size(2, LARGEST_WIDTH))
    draft.widths["t"] = draft.width(draft.tip)
    draft.add(draft.choose.pick(placed["loss"]), draft.tip, "t", width=0)


_PLACES = ("map", "merge", "project", "loss", "alone")
_Block = Callable[[_Draft, Mapping[str, Sequence[str]]], None]
_BLOCKS: tuple[tuple[_Block, tuple[str, ...]], ...] = (
    (_chain, ("project", "map")),
    (_chain, ("project", "map")),
    (_residual, ("project", "map", "merge")),
    (_gate, ("project", "map", "merge")),
    (_side_input, ("merge",)),
    (_bare, ("project",)),
    (_only_map, ("map",)),
)
