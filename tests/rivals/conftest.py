"""A mutation and its size come in; the attempt of a small smooth network with it goes out, as rivals are given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from harness.cases import make_problem
from harness.core import Case, NetworkSpec, NodeSpec
from harness.discovery import find_backends
from harness.mutations.mutation import find_mutation
from harness.mutations.reference import MutatedReference
from harness.rivals.rival import Attempt
from harness.shards import guard

NODES = (
    NodeSpec("affine1", "affine", ("x",), 4),
    NodeSpec("sigmoid1", "sigmoid", ("affine1",), 4),
    NodeSpec("affine2", "affine", ("sigmoid1",), 2),
    NodeSpec("loss", "mean_squared_error", ("affine2", "t"), 0),
)
SMOOTH = NetworkSpec({"x": 3, "t": 2}, NODES, batch=5)
AttemptMaker = Callable[..., Attempt]


@pytest.fixture(scope="session")
def attempt(layers: Mapping[str, Any]) -> AttemptMaker:
    """Return a function that makes an attempt: right where no mutation is named, else with it at the node."""

    def make(dtype: str = "float64", mutation: str = "", size: float = 0.0, node: str = "affine1", seed: int = 1) -> Attempt:
        problem = make_problem(Case(SMOOTH, dtype, seed), layers)
        planted = {node: (find_mutation(mutation), size)} if mutation else {}
        program = MutatedReference(mutations=planted).prepare(SMOOTH, dtype, layers)
        torch = find_backends()["torch"].prepare(SMOOTH, dtype, layers)
        return Attempt(problem, program.run, guard(program.run, problem), torch.run(problem))

    return make
