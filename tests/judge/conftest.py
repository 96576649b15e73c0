"""A layer's name and a precision come in; a small problem of that layer alone goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from harness.cases import make_problem
from harness.core import Case, NetworkSpec, NodeSpec, Problem

LoneMaker = Callable[..., Problem]


@pytest.fixture(scope="session")
def make_lone(layers: Mapping[str, Any]) -> LoneMaker:
    """Return a function that makes the problem of one node: of a layer's name, or of a class."""

    def make(kind: Any, dtype: str = "float64", *, batch: int = 3, width: int = 4, **settings: Any) -> Problem:
        found = layers[kind] if isinstance(kind, str) else kind
        names = ("x", "t") if found.place == "loss" else ("x", "z")[: len(found.differentiable)]
        node = NodeSpec("node", found.name, names, 0 if found.place == "loss" else 2 if found.place == "project" else width)
        case = Case(NetworkSpec(dict.fromkeys(names, width), (node,), batch), dtype, **{"seed": 1, **settings})
        return make_problem(case, {**layers, found.name: found})

    return make
