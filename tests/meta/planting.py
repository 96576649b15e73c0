"""Planting: a layer class and what to change of it come in, a faulty subclass and the rows of a run with it go out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from harness.cases import list_hazards, plan_cases
from harness.core import USUAL_DTYPES, Array, Case, Comparison
from harness.discovery import find_backends, find_layers
from harness.shards import run_shard

SEED, GRAPHS, MOST_NUMBERS = 5, 500, 2000


def alter_y(kind: Any, change: Callable[[Array], Any]) -> Any:
    """Return a subclass whose forward pass returns what `change` makes of the right output."""

    class Faulty(kind):
        def forward(self, *inputs: Array) -> Any:
            return change(super().forward(*inputs))

    return Faulty


def alter_dx(kind: Any, change: Callable[[Array], Any]) -> Any:
    """Return a subclass whose backward pass returns what `change` makes of the right (first) input gradient."""

    class Faulty(kind):
        def backward(self, dy: Array, cache: Any = None) -> Any:
            right = super().backward(dy, cache)
            return (change(right[0]), *right[1:]) if isinstance(right, tuple) else change(right)

    return Faulty


def alter_grads(kind: Any, change: Callable[[dict[str, Array]], dict[str, Any]]) -> Any:
    """Return a subclass whose backward pass leaves what `change` makes of the right parameter gradients."""

    class Faulty(kind):
        def backward(self, dy: Array, cache: Any = None) -> Any:
            right = super().backward(dy, cache)
            self.grads = {**change(dict(self.grads))}
            return right

    return Faulty


def replace_backward(kind: Any, backward: Callable[[Any, Array], Any]) -> Any:
    """Return a subclass with another backward pass, given the layer and dy; `inputs` holds what forward received."""

    class Faulty(kind):
        def forward(self, *inputs: Array) -> Any:
            self.inputs = inputs
            return super().forward(*inputs)

        def backward(self, dy: Array, cache: Any = None) -> Any:
            return backward(self, dy)

    return Faulty


def replace_forward(kind: Any, forward: Callable[..., Any]) -> Any:
    """Return a subclass with another forward pass, given the layer and the inputs."""

    class Faulty(kind):
        def forward(self, *inputs: Array) -> Any:
            return forward(self, *inputs)

    return Faulty


@cache
def small_cases(dtypes: tuple[str, ...] = USUAL_DTYPES, graphs: int = GRAPHS) -> tuple[Case, ...]:
    """Return the cases of a seeded plan with all hazards that are small enough to be judged in milliseconds."""
    layers = find_layers()
    plan = plan_cases(2 * graphs, SEED, layers, dtypes=dtypes, hazards=list(list_hazards(layers)), draws=2)
    return tuple(case for cases in plan for case in cases if _size(case) <= MOST_NUMBERS)


def _size(case: Case) -> int:
    widths = [*case.network.widths.values(), *(node.width for node in case.network.nodes)]
    return max(case.network.batch, 1) * max(widths) * len(case.network.nodes) + max(widths) ** 2


def cases_with(layer: str, dtypes: tuple[str, ...] = USUAL_DTYPES, graphs: int = GRAPHS) -> list[Case]:
    """Return the small cases whose network has the layer."""
    return [case for case in small_cases(dtypes, graphs) if any(node.layer == layer for node in case.network.nodes)]


def rows_of(
    cases: Sequence[Case], backends: Sequence[Any] = (), layers: Mapping[str, Any] | None = None
) -> Iterator[list[Comparison]]:
    """Yield the rows of each case, run as a run runs it; on the hand-written layers alone unless told otherwise."""
    chosen = list(backends) or [find_backends()["numpy"]]
    for case in cases:
        yield run_shard([case], chosen, layers or find_layers(), {}).comparisons


def find_red(cases: Sequence[Case], backends: Sequence[Any] = (), layers: Mapping[str, Any] | None = None) -> list[Comparison]:
    """Return the failing rows of the first case that has any, nothing when the run stays green."""
    failing = ([row for row in rows if row.fails] for rows in rows_of(cases, backends, layers))
    return next((rows for rows in failing if rows), [])


def find_red_with(faulty: Any) -> list[Comparison]:
    """Return the failing rows of a run of the small cases with a faulty layer in the place of the right one."""
    return find_red(cases_with(faulty.name), layers={**find_layers(), faulty.name: faulty})


def put(value: Any, index: int, number: float) -> Array:
    """Return a copy of the array with one number put in; an empty array as it is."""
    changed = np.array(value)
    if changed.size:
        changed.flat[index] = number
    return changed
