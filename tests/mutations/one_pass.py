"""A layer class, right or with a fault, comes in; what one pass of it received and returned goes out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.cases import make_problem
from harness.core import Array, Case, NetworkSpec, NodeSpec, Problem
from harness.discovery import find_layers
from tests.mutations.rms_norm import RMSNorm

LAYERS: Mapping[str, Any] = {**find_layers(), RMSNorm.name: RMSNorm}


@dataclass(eq=False)
class Given:
    """What a lone layer gets: its parameters, its inputs and dy."""

    params: dict[str, Array]
    inputs: tuple[Array, ...]
    dy: Any


@dataclass(eq=False)
class Seen:
    """What one pass of a layer returned, and whether it raised."""

    y: Any = None
    gradients: dict[Any, Any] = field(default_factory=dict)
    raised: str = ""


def lone_problem(kind: Any, dtype: str = "float64", *, batch: int = 5, width: int = 4, **settings: Any) -> Problem:
    """Return the problem of a network of one node, square where it projects."""
    names = ("x", "t") if kind.place == "loss" else ("x", "z")[: len(kind.differentiable)]
    node = NodeSpec("node", kind.name, names, 0 if kind.place == "loss" else width)
    case = Case(NetworkSpec(dict.fromkeys(names, width), (node,), batch), dtype, **{"seed": 3, **settings})
    return make_problem(case, LAYERS)


def give(kind: Any, dtype: str = "float64", **settings: Any) -> Given:
    """Return the arrays of such a problem, writable copies."""
    problem = lone_problem(kind, dtype, **settings)
    inputs = tuple(np.array(problem.inputs[name]) for name in problem.case.network.nodes[0].inputs)
    return Given({key: np.array(value) for key, value in problem.params["node"].items()}, inputs, np.array(problem.dy)[()])


def run_pass(layer: Any, given: Given) -> Seen:
    """Return output and gradients of one pass of a layer object, by place and name."""
    with np.errstate(all="ignore"):
        y = layer.forward(*given.inputs)
        try:
            returned = layer.backward(given.dy)
        except FloatingPointError as error:
            return Seen(y, raised=str(error))
    parts = returned if isinstance(returned, tuple) else (returned,)
    return Seen(y, {**dict(enumerate(parts)), **layer.grads})


def run_once(kind: Any, given: Given) -> Seen:
    """Return what a fresh layer of the class returns on copies of what is given."""
    copied = copy.deepcopy(given)
    return run_pass(kind(**copied.params), copied)
