"""Hypothesis strategies: layer classes come in, strategies of networks, cases and problems that shrink go out.

They are the generators of `harness.networks` and `harness.cases` with Hypothesis making the choices: an example
shrinks to fewer blocks, smaller sizes and no hazards. Needs Hypothesis, which nothing else of the harness does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

from harness.cases import SHAPE_HAZARDS, list_hazards, make_problem
from harness.core import LABELS, USUAL_DTYPES, Case, NetworkSpec, Problem
from harness.discovery import find_layers
from harness.networks import draw_network, draw_single, resize

T = TypeVar("T")
SMALL = 8
SCALES = (1.0, 0.01, 100.0)
GAINS = (1.0, 0.3, 3.0)


@dataclass(frozen=True)
class DrawnChooser:
    """Choices that Hypothesis makes, and shrinks: to the first option, and to the smallest size."""

    draw: st.DrawFn

    def pick(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))

    def size(self, low: int, high: int) -> int:
        """Return a whole number from low to high; every other time a small one, for large ones are slow and say little more."""
        return self.draw(st.integers(low, min(max(low, SMALL), high)) | st.integers(low, high))


@st.composite
def networks(draw: st.DrawFn, layers: Mapping[str, Any] | None = None) -> NetworkSpec:
    """Draw a graph of the layer classes (all that are found, by default): one layer alone, or blocks of them ending in a loss."""
    known = find_layers() if layers is None else layers
    choose = DrawnChooser(draw)
    single = choose.pick([True, False])
    return draw_single(choose, known[choose.pick(list(known))]) if single else draw_network(choose, known)


@st.composite
def cases(
    draw: st.DrawFn,
    layers: Mapping[str, Any] | None = None,
    *,
    dtypes: Sequence[str] = USUAL_DTYPES,
    hazards: Sequence[str] | None = None,
) -> Case:
    """Draw a case of a drawn graph; `hazards` names those that may be planted, all by default and none when it is empty."""
    known = find_layers() if layers is None else layers
    allowed = list(list_hazards(known)) if hazards is None else list(hazards)
    network = draw(networks(known))
    planted = draw(_planted(network, known, allowed))
    for name in planted:
        if name in SHAPE_HAZARDS:
            network = resize(network, known, batch=SHAPE_HAZARDS[name].batch, width=SHAPE_HAZARDS[name].width)
    storages = [SHAPE_HAZARDS[name].storage for name in planted if name in SHAPE_HAZARDS]
    return Case(
        network=network,
        dtype=draw(st.sampled_from(list(dtypes))),
        seed=draw(st.integers(0, 2**31 - 1)),
        scale=draw(st.sampled_from(SCALES)),
        gain=draw(st.sampled_from(GAINS)),
        labels=draw(st.sampled_from(LABELS)),
        storage=next((storage for storage in storages if storage != "C"), "C"),
        hazards=planted,
        origin="hypothesis",
    )


@st.composite
def problems(
    draw: st.DrawFn,
    layers: Mapping[str, Any] | None = None,
    *,
    dtypes: Sequence[str] = USUAL_DTYPES,
    hazards: Sequence[str] | None = None,
) -> Problem:
    """Draw the arrays of a drawn case, which `Problem.case` holds."""
    known = find_layers() if layers is None else layers
    return make_problem(draw(cases(known, dtypes=dtypes, hazards=hazards)), known)


@st.composite
def _planted(draw: st.DrawFn, network: NetworkSpec, layers: Mapping[str, Any], allowed: Sequence[str]) -> tuple[str, ...]:
    """Draw at most one hazard of shape, one of storage and one of values that a layer of the network declares."""
    declared = {hazard.name for node in network.nodes for hazard in layers[node.layer].hazards}
    groups = (
        [name for name in allowed if name in SHAPE_HAZARDS and SHAPE_HAZARDS[name].storage == "C"],
        [name for name in allowed if name in SHAPE_HAZARDS and SHAPE_HAZARDS[name].storage != "C"],
        [name for name in allowed if name in declared],
    )
    chosen = [draw(st.none() | st.sampled_from(group)) for group in groups if group]
    return tuple(name for name in chosen if name is not None)
