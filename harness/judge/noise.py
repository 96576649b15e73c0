"""Calibrated noise: a problem and its true values come in, the spread that rounding gives each gradient goes out.

Worst-case (value, bound) pairs grow so fast with depth and width that they may no longer show a 1 % error. Where
no node can be seen, that leaves nothing; this check then judges instead. It runs the network K times in float64
with each node's results moved at random within that node's own bound (its sums by the square root of their length),
and takes the spread of the gradients.
The noise is a hash of the value at the dtype's precision and a seed, so that equal values are moved alike, as real
rounding does. float64 is simulated 2^23 times as coarsely, or its noise would drown in that of the simulation.
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
from harness.core import Array, NodeSpec, Problem
from harness.floats import find_format
from harness.judge.oracle import find_truth, lift
from harness.judge.propagate import NetworkBound, NetworkValues, branch_arguments, exact, flat, lower
from harness.judge.rounding import add_storage
from reference_layers import BackwardBound, Rounding

RUNS = 16
WEIGHT = 8
COARSER = 2.0**23
FLOOR = 1e-145
THRESHOLD = 16.0
Bounds = tuple[Array, BackwardBound]


def find_spread(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, pairs: NetworkBound, rounding_of: Callable[[Any], Rounding]
) -> dict[str, Array]:
    """Return THRESHOLD standard deviations of every gradient, by name, and of the output, by its node's name.

    Few runs estimate a spread badly, so that part of the weight goes to the pair bound's shape: with s the spread of
    the K runs, E the pair bound and m^2 = sum s^2 / sum E^2 over the tensor, sigma^2 = (K s^2 + 8 m^2 E^2) / (K + 8).
    """
    coarser = COARSER if problem.case.dtype == "float64" else 1.0
    bounds = _local_bounds(problem, layers, true, rounding_of, coarser)
    output = problem.case.network.output.name
    base = {name: lower(value) for name, value in {**true.gradients, output: true.values[output]}.items()}
    shapes = {**pairs.gradients, output: pairs.y}
    squares = {name: np.zeros(value.shape) for name, value in base.items()}
    with np.errstate(all="ignore"):
        for run in range(RUNS):
            for name, value in _run_noisy(problem, layers, true, bounds, run).items():
                squares[name] += ((value - base[name]) / coarser) ** 2 / RUNS
        return {name: np.maximum(THRESHOLD * _smooth(square, shapes[name]), FLOOR) for name, square in squares.items()}


def _smooth(square: Array, bound: Array) -> Array:
    shape = np.where(np.isfinite(bound), bound, 0.0)
    total = float(np.sum(shape**2))
    share = float(np.sum(square)) / total if total > 0 else 0.0
    out: Array = np.sqrt((RUNS * square + WEIGHT * share * shape**2) / (RUNS + WEIGHT))
    return out


def _local_bounds(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, rounding_of: Callable[[Any], Rounding], coarser: float
) -> dict[str, Bounds]:
    """Return how far each node's own rounding typically moves its results, at the true values."""
    bounds = {}
    for node in problem.case.network.nodes:
        kind, params = layers[node.layer], flat(problem.params[node.name])
        inputs, extra = [exact(true.values[name]) for name in node.inputs], branch_arguments(true.decisions, node.name)
        own = rounding_of(kind)
        rounding = replace(own, typical=True, u=coarser * own.u, ua=coarser * own.ua)
        with np.errstate(all="ignore"):
            y = kind.forward_bound(rounding, params, *inputs, *extra)
            backward = kind.backward_bound(rounding, params, *inputs, exact(true.dy[node.name]), *extra)
        bounds[node.name] = add_storage(rounding, y, lower(true.values[node.name])), _store_all(rounding, backward, true, node)
    return bounds


def _store_all(rounding: Rounding, bound: BackwardBound, true: NetworkValues, node: NodeSpec) -> BackwardBound:
    """Return the bounds of a node's gradients with the rounding that stores them."""
    truth = true.truths[node.name]
    dx = tuple(
        error if error is None or value is None else add_storage(rounding, error, lower(value))
        for error, value in zip(bound.dx, truth.dx, strict=True)
    )
    dparams = {key: add_storage(rounding, error, lower(truth.dparams[key])) for key, error in bound.dparams.items()}
    return BackwardBound(dx, dparams)


def _run_noisy(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, bounds: Mapping[str, Bounds], run: int
) -> dict[str, Array]:
    """Return the gradients of one run with noise at every node, with the same branches."""
    network, precision, dtype = problem.case.network, np.dtype(np.float64), problem.case.dtype
    values = {name: lift(value, precision) for name, value in problem.inputs.items()}
    for node in network.nodes:
        params = {key: lift(value, precision) for key, value in problem.params[node.name].items()}
        extra = {"decisions": true.decisions[node.name]} if node.name in true.decisions else {}
        inputs = [values[name] for name in node.inputs]
        y = np.asarray(layers[node.layer].formula(make_numpy_namespace(), params, *inputs, **extra))
        values[node.name] = _move(y, bounds[node.name][0], node.name, run, dtype)
    gradients: dict[str, Array] = {network.output.name: lift(problem.dy, precision)}
    named: dict[str, Array] = {}
    for node in reversed(network.nodes):
        received, back = tuple(values[name] for name in node.inputs), bounds[node.name][1]
        branches, own = true.decisions.get(node.name), problem.params[node.name]
        truth = find_truth(layers[node.layer], own, received, gradients[node.name], precision, branches)
        for key, value in truth.dparams.items():
            named[f"{node.name}.{key}"] = _move(value, back.dparams[key], key + node.name, run, dtype)
        for i, (name, dx) in enumerate(zip(node.inputs, truth.dx, strict=True)):
            error = back.dx[i]
            if dx is not None and error is not None:
                moved = _move(dx, error, f"{i}{node.name}", run, dtype)
                gradients[name] = gradients[name] + moved if name in gradients else moved
    output = network.output.name
    return {**named, **{name: gradients[name] for name in problem.inputs if name in true.gradients}, output: values[output]}


def _move(value: Array, error: Array, place: str, run: int, dtype: str) -> Array:
    """Return the value moved within its error by a hash of its bits in the dtype, the place and the run (splitmix64)."""
    kind = find_format(dtype)
    bits = np.dtype(f"u{min(kind.dtype.itemsize, 4)}")  # float64 is simulated as coarsely as float32 hashes
    rounded = np.atleast_1d(np.asarray(value)).astype(kind.dtype if bits.itemsize == kind.dtype.itemsize else np.float32)
    salt = np.uint64(zlib.crc32(f"{place}/{run}".encode()) << 32)
    state = rounded.view(bits).astype(np.uint64) + salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    moved: Array = value + error * (state.astype(np.float64) / 2.0**63 - 1.0).reshape(value.shape)
    return moved
