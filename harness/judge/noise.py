"""Calibrated noise: a float32 problem and its true values come in, the spread that rounding gives each gradient goes out.

Worst-case (value, bound) pairs grow so fast with depth and width that they may no longer show a 1 % error. Where
no node can be seen, that leaves nothing; this check then judges instead. It runs the network K times in float64
with each node's results moved at random within that node's own bound (its sums by the square root of their length),
and takes the spread of the gradients.
The noise is a hash of the value at float32 and a seed, so that equal values are moved alike, as real rounding does.
A real rounding is smaller than the bound of its node, so THRESHOLD times the spread is far from any correct run;
`benchmarks/calibration.py` measures how far, and prints it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import Array, Problem
from harness.judge.oracle import HIGHER, find_truth, lift
from harness.judge.propagate import NetworkBound, NetworkValues, branch_arguments, exact, flat
from reference_layers import BackwardBound, Rounding

RUNS = 8
THRESHOLD = 16.0
Bounds = tuple[Array, BackwardBound]


def find_spread(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, pairs: NetworkBound, rounding_of: Callable[[Any], Rounding]
) -> dict[str, Array]:
    """Return THRESHOLD standard deviations of every gradient, by name.

    Few runs estimate a spread badly, so that half the weight goes to the pair bound's shape: with s the spread of
    the K runs, E the pair bound and m^2 = sum s^2 / sum E^2 over the tensor, sigma^2 = (s^2 + m^2 E^2) / 2.
    """
    bounds = _local_bounds(problem, layers, true, rounding_of)
    squares = {name: np.zeros(value.shape) for name, value in true.gradients.items()}
    with np.errstate(all="ignore"):
        for run in range(RUNS):
            for name, value in _run_noisy(problem, layers, true, bounds, run).items():
                squares[name] += (value - true.gradients[name]) ** 2 / RUNS
        return {name: THRESHOLD * _smooth(square, pairs.gradients[name]) for name, square in squares.items()}


def _smooth(square: Array, bound: Array) -> Array:
    shape = np.where(np.isfinite(bound), bound, 0.0)
    total = float(np.sum(shape**2))
    share = float(np.sum(square)) / total if total > 0 else 0.0
    out: Array = np.sqrt((square + share * shape**2) / 2)
    return out


def _local_bounds(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, rounding_of: Callable[[Any], Rounding]
) -> dict[str, Bounds]:
    """Return how far each node's own rounding typically moves its results, at the true values."""
    bounds = {}
    for node in problem.case.network.nodes:
        kind, params = layers[node.layer], flat(problem.params[node.name])
        inputs, extra = [exact(true.values[name]) for name in node.inputs], branch_arguments(true.decisions, node.name)
        rounding = replace(rounding_of(kind), typical=True)
        with np.errstate(all="ignore"):
            y = kind.forward_bound(rounding, params, *inputs, *extra)
            bounds[node.name] = y, kind.backward_bound(rounding, params, *inputs, exact(true.dy[node.name]), *extra)
    return bounds


def _run_noisy(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, bounds: Mapping[str, Bounds], run: int
) -> dict[str, Array]:
    """Return the gradients of one run with noise at every node, with the same branches."""
    network, precision = problem.case.network, HIGHER[problem.case.dtype]
    values = {name: lift(value, precision) for name, value in problem.inputs.items()}
    for node in network.nodes:
        params = {key: lift(value, precision) for key, value in problem.params[node.name].items()}
        extra = {"decisions": true.decisions[node.name]} if node.name in true.decisions else {}
        inputs = [values[name] for name in node.inputs]
        y = np.asarray(layers[node.layer].formula(make_numpy_namespace(), params, *inputs, **extra))
        values[node.name] = _move(y, bounds[node.name][0], node.name, run)
    gradients: dict[str, Array] = {network.output.name: lift(problem.dy, precision)}
    named: dict[str, Array] = {}
    for node in reversed(network.nodes):
        received, back = tuple(values[name] for name in node.inputs), bounds[node.name][1]
        branches, own = true.decisions.get(node.name), problem.params[node.name]
        truth = find_truth(layers[node.layer], own, received, gradients[node.name], precision, branches)
        for key, value in truth.dparams.items():
            named[f"{node.name}.{key}"] = _move(value, back.dparams[key], key + node.name, run)
        for i, (name, dx) in enumerate(zip(node.inputs, truth.dx, strict=True)):
            error = back.dx[i]
            if dx is not None and error is not None:
                moved = _move(dx, error, f"{i}{node.name}", run)
                gradients[name] = gradients[name] + moved if name in gradients else moved
    return {**named, **{name: gradients[name] for name in problem.inputs if name in true.gradients}}


def _move(value: Array, error: Array, place: str, run: int) -> Array:
    """Return the value moved within its error by a hash of its float32 bits, the place and the run (splitmix64)."""
    salt = np.uint64(zlib.crc32(f"{place}/{run}".encode()) << 32)
    state = np.atleast_1d(np.asarray(value, np.float32)).view(np.uint32).astype(np.uint64) + salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    moved: Array = value + error * (state.astype(np.float64) / 2.0**63 - 1.0).reshape(value.shape)
    return moved
