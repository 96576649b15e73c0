"""The canary: nothing comes in; that the judge still calls planted faults wrong, and a right outcome right, goes out.

A judge that has gone blind finds nothing wrong, and looks just like one that has nothing to find. So before a run
judges anything, it judges one small affine map whose gradients are made of the truth, rounded: as they are, and with
a fault in each of them in turn, which the local check and the check of the whole network must both see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.backends.autograd_hips import HipsAutograd
from harness.cases import make_problem
from harness.core import DTYPES, Array, Case, Comparison, NetworkSpec, NodeSpec, NodeTrace, Outcome, Problem, freeze
from harness.floats import find_format
from harness.isolation import quiet
from harness.judge.measure import measure
from harness.judge.propagate import find_values
from harness.judge.verdict import Bench, judge, split_name
from reference_layers import Affine

LAYERS: Mapping[str, Any] = {"affine": Affine}
GRAPH = NetworkSpec({"x": 4}, (NodeSpec("affine1", "affine", ("x",), 3),), 5)
FAULTS: Mapping[str, Callable[[Array, float], Array]] = {
    "a little too large": lambda value, little: (value.astype(np.float64) * (1 + little)).astype(value.dtype),
    "of the other sign": lambda value, little: -value,
    "NaN in one entry": lambda value, little: _put(value, np.nan),
    "infinite in one entry": lambda value, little: _put(value, np.inf),
    "wrong in one entry": lambda value, little: _put(value, float(value.flat[-1]) * (1 + little)),
}


class JudgeFault(Exception):
    """The judge lets a planted fault pass, or calls the truth wrong: nothing that it says can be trusted."""


def check_judge() -> None:
    """Raise JudgeFault, naming what passed, when the judge has gone blind or sees faults where none are."""
    for dtype in DTYPES:
        problem = make_problem(Case(GRAPH, dtype, seed=1), LAYERS)
        right = _round_truth(problem)
        if failing := [row for row in _judge(problem, right) if row.fails]:
            raise JudgeFault(f"the truth itself, rounded to {dtype}, is called {failing[0].verdict}: {failing[0].message}")
        little = max(0.01, 64 * find_format(dtype).u)  # 1 %, where no accumulation in the dtype itself explains it
        for name in right:
            for fault, plant in FAULTS.items():
                _expect(problem, right, {name: plant(right[name], little)}, f"{name} {fault} in {dtype}")
        ones = {name: value for name, value in _round_truth(_with_ones(problem)).items() if name != "y"}
        _expect(problem, right, ones, f"the gradients of a cotangent of ones in {dtype}")
        _check_joining(problem)
        _check_precision(problem, right)


def _expect(problem: Problem, right: Mapping[str, Array], planted: Mapping[str, Array], fault: str) -> None:
    """Raise JudgeFault unless both checks see the planted gradients, and tell the truth from what they got."""
    rows = {(row.node, row.quantity): row for row in _judge(problem, {**right, **planted})}
    for name in planted:
        row = rows.get(("affine1", "y") if name == "y" else split_name(name))
        if row is None or not (row.fails and row.local_error_in_bounds > 1 and row.network_error_in_bounds > 1):
            raise JudgeFault(f"a planted fault passes for right: {fault}")
        told = float(right[name][tuple(map(int, row.worst_index.split()))])
        if not abs(row.expected - told) <= 2 * find_format(problem.case.dtype).u * abs(told):  # what rounding the truth does
            raise JudgeFault(f"the truth is told as {row.expected!r}, it is {told!r}: {fault}")


def _check_joining(problem: Problem) -> None:
    """Raise JudgeFault unless gradients fail that fit what the node received, which is not what the network was given."""
    other = replace(problem, inputs={"x": freeze(-problem.inputs["x"])})
    rows = {(row.node, row.quantity): row for row in _judge(problem, _round_truth(other), other.inputs["x"])}
    row = rows["affine1", "dW"]
    if not (row.fails and row.local_error_in_bounds <= 1 < row.network_error_in_bounds):
        raise JudgeFault("what one check alone sees passes for right")


def _check_precision(problem: Problem, right: Mapping[str, Array]) -> None:
    """Raise JudgeFault when rounding the truth to the dtype leaves no error: then the comparison is no finer than the dtype."""
    truth = find_values(problem, LAYERS).gradients["affine1.W"]
    if measure(right["affine1.W"], truth, np.zeros(truth.shape), problem.case.dtype).n_wrong == 0:
        raise JudgeFault(f"errors are measured no finer than {problem.case.dtype} itself")


def _judge(problem: Problem, named: Mapping[str, Array], received: Array | None = None) -> list[Comparison]:
    """Return the rows of an outcome and a trace that both hold these numbers; `received` is what the node got in place of x."""
    gradients = {name: value for name, value in named.items() if name != "y"}
    dparams = {key: gradients[f"affine1.{key}"] for key in ("W", "b")}
    x = problem.inputs["x"] if received is None else received
    seen = NodeTrace((x,), named["y"], problem.dy, (gradients["x"],), dparams)
    with quiet():
        return judge(Bench(problem, LAYERS), HipsAutograd(), Outcome("ok", named["y"], gradients), {"affine1": seen})


def _round_truth(problem: Problem) -> dict[str, Array]:
    """Return the true output and gradients in the case's dtype."""
    true = find_values(problem, LAYERS)
    named, dtype = {"y": true.values["affine1"], **true.gradients}, find_format(problem.case.dtype).dtype
    return {name: value.astype(dtype) for name, value in named.items()}


def _with_ones(problem: Problem) -> Problem:
    return replace(problem, dy=freeze(np.ones_like(problem.dy)))


def _put(value: Array, number: float) -> Array:
    changed = value.copy()
    changed.flat[-1] = number
    return changed
