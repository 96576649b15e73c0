"""Small graphs for wrong wirings: what they are made of comes in, their problems go out."""

from __future__ import annotations

from functools import cache
from typing import Any

from harness.cases import make_problem, plan_cases
from harness.core import Case, NetworkSpec, NodeSpec, Problem
from harness.discovery import find_layers

MOST_NUMBERS = 100
RESIDUAL = NetworkSpec(
    {"x": 4, "z": 4, "t": 4},
    (
        NodeSpec("affine1", "affine", ("x",), 4),
        NodeSpec("sigmoid1", "sigmoid", ("affine1",), 4),
        NodeSpec("affine2", "affine", ("sigmoid1",), 4),
        NodeSpec("multiply1", "multiply", ("sigmoid1", "affine2"), 4),
        NodeSpec("add1", "add", ("multiply1", "z"), 4),
        NodeSpec("loss1", "mean_squared_error", ("add1", "t"), 0),
    ),
    3,
)


def make_residual(dtype: str = "float64", **settings: Any) -> Problem:
    """Return the problem of a graph with a residual, a product, a second input and a loss, all of one width."""
    return make_problem(Case(RESIDUAL, dtype, **{"seed": 1, **settings}), find_layers())


@cache
def random_cases(dtype: str, count: int = 40) -> tuple[Case, ...]:
    """Return the small ones of seeded random networks."""
    plan = plan_cases(count, 11, find_layers(), dtypes=(dtype,), hazards=(), draws=1)
    return tuple(case for (case,) in plan if max(case.network.widths.values()) * case.network.batch < MOST_NUMBERS)
