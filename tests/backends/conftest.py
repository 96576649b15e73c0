"""Seeds come in; small random problems, whose graphs hold every kind of block, go out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pytest

from harness.cases import make_problem
from harness.core import Case, NetworkSpec, Problem
from harness.networks import SeededChooser, draw_network, draw_single

T = TypeVar("T")
LARGEST = 7


@dataclass(frozen=True)
class SmallChooser:
    """A seeded chooser that knows no large size."""

    seeded: SeededChooser

    def pick(self, options: Sequence[T]) -> T:
        return self.seeded.pick(options)

    def size(self, low: int, high: int) -> int:
        return self.seeded.size(low, min(high, LARGEST))


@pytest.fixture(scope="session")
def draw_small(layers) -> Callable[..., Problem]:
    """Return a function that makes a small problem of a seed: of a random graph, or of one layer alone where it is named."""

    def draw(seed: int, dtype: str = "float64", alone: str = "", batch: int | None = None, **changes: Any) -> Problem:
        choose = SmallChooser(SeededChooser(np.random.default_rng(seed)))
        network = draw_single(choose, layers[alone]) if alone else draw_network(choose, layers)
        sized = NetworkSpec(network.widths, network.nodes, network.batch if batch is None else batch)
        return make_problem(Case(sized, dtype, seed, **changes), layers)

    return draw
