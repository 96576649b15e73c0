"""Propagation: a problem and the branches a backend took come in, every true gradient with its end-to-end bound goes out.

The values are the oracle's, node by node with the branches replayed; the errors are (value, bound) pairs pushed
through the graph by the layers' own bounds, forward and then in reverse, fan-out summed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import Array, Problem
from harness.floats import find_format, is_float
from harness.judge.double_double import WIDE
from harness.judge.oracle import NodeTruth, choose_precision, find_truth, lift, pick_namespace
from harness.judge.precision import Precision
from harness.judge.rounding import add_storage
from reference_layers import Pair, Rounding


@dataclass(frozen=True, eq=False)
class NetworkValues:
    """The true values of a network: of every node its truth and upstream gradient, and the gradients by name."""

    values: Mapping[str, Array]
    truths: Mapping[str, NodeTruth]
    dy: Mapping[str, Array]
    gradients: Mapping[str, Array]
    decisions: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class NetworkBound:
    """How far rounding may move the output and each gradient, end to end; `branches` names branches no rounding explains."""

    y: Array
    gradients: Mapping[str, Array]
    branches: Mapping[str, str] = field(default_factory=dict)


def find_values(
    problem: Problem, layers: Mapping[str, Any], decisions: Mapping[str, Array] | None = None, precision: Precision | None = None
) -> NetworkValues:
    """Return the oracle's values of the whole network, replaying the given branches (its own where none are given).

    The precision is the one that judges the case's dtype unless one is given.
    """
    network = problem.case.network
    precision = precision or choose_precision(problem.case.dtype, network.batch, list_params(problem))
    values = {name: lift(value, precision) for name, value in problem.inputs.items()}
    taken = _forward(problem, layers, values, decisions, precision)
    gradients: dict[str, Array] = {network.output.name: lift(problem.dy, precision)}
    truths: dict[str, NodeTruth] = {}
    for node in reversed(network.nodes):
        inputs = tuple(values[name] for name in node.inputs)
        truth = find_truth(
            layers[node.layer], problem.params[node.name], inputs, gradients[node.name], precision, taken.get(node.name)
        )
        truths[node.name] = truth
        for name, dx in zip(node.inputs, truth.dx, strict=True):
            if dx is not None and name not in problem.constants:
                gradients[name] = gradients[name] + dx if name in gradients else dx
    named = {f"{node}.{key}": value for node, truth in truths.items() for key, value in truth.dparams.items()}
    wanted = {name: gradients[name] for name in problem.inputs if name in gradients}
    return NetworkValues(values, truths, gradients, {**named, **wanted}, taken)


def list_params(problem: Problem) -> list[Array]:
    """Return the parameters of all nodes."""
    return [value for group in problem.params.values() for value in group.values()]


def _forward(
    problem: Problem, layers: Mapping[str, Any], values: dict[str, Array], decisions: Mapping[str, Array] | None,
    precision: Precision,
) -> dict[str, Array]:  # fmt: skip
    """Fill `values` node by node and return the branches taken."""
    xp, taken = pick_namespace(precision), dict(decisions or {})
    for node in problem.case.network.nodes:
        kind, inputs = layers[node.layer], [values[name] for name in node.inputs]
        params = {key: lift(value, precision) for key, value in problem.params[node.name].items()}
        with np.errstate(all="ignore"):
            if hasattr(kind, "decisions") and node.name not in taken:
                taken[node.name] = kind.decisions(xp, params, *inputs)
            extra = {"decisions": taken[node.name]} if node.name in taken else {}
            y = kind.formula(xp, params, *inputs, **extra)
            values[node.name] = y if y.dtype == WIDE else np.asarray(y)
    return taken


def find_bounds(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, rounding_of: Callable[[Any], Rounding]
) -> NetworkBound:
    """Return the bound of every gradient; `rounding_of(layer class)` gives the arithmetic of the backend under judgment."""
    network = problem.case.network
    with np.errstate(all="ignore"):
        pairs = {name: exact(true.values[name]) for name in problem.inputs}
        branches: dict[str, str] = {}
        for node in network.nodes:
            kind, inputs = layers[node.layer], [pairs[name] for name in node.inputs]
            extra = branch_arguments(true.decisions, node.name)
            branches |= _check_branches(problem, kind, node, inputs, true)
            rounding, value = rounding_of(kind), lower(true.values[node.name])
            error = kind.forward_bound(rounding, flat(problem.params[node.name]), *inputs, *extra)
            pairs[node.name] = Pair(value, allow_overflow(add_storage(rounding, error, value), value, problem.case.dtype))
        gradients = _backward_bounds(problem, layers, true, pairs, rounding_of)
    return NetworkBound(pairs[network.output.name].error, gradients, branches)


def _backward_bounds(
    problem: Problem, layers: Mapping[str, Any], true: NetworkValues, pairs: Mapping[str, Pair],
    rounding_of: Callable[[Any], Rounding],
) -> dict[str, Array]:  # fmt: skip
    """Push the bounds back through the graph; a sum of k contributions adds k - 1 roundings."""
    network, named, dtype = problem.case.network, {}, problem.case.dtype
    parts: dict[str, list[Pair]] = {network.output.name: [exact(problem.dy)]}
    for node in reversed(network.nodes):
        kind, rounding = layers[node.layer], rounding_of(layers[node.layer])
        dy = add_up(parts[node.name], lower(true.dy[node.name]), rounding, dtype)
        extra = branch_arguments(true.decisions, node.name)
        bound = kind.backward_bound(rounding, flat(problem.params[node.name]), *[pairs[name] for name in node.inputs], dy, *extra)
        truth = true.truths[node.name]
        for key, error in bound.dparams.items():
            value = lower(truth.dparams[key])
            named[f"{node.name}.{key}"] = allow_overflow(add_storage(rounding, error, value), value, dtype)
        for name, error, dx in zip(node.inputs, bound.dx, truth.dx, strict=True):
            if error is not None and dx is not None:
                value = lower(dx)
                stored = allow_overflow(add_storage(rounding, error, value), value, dtype)
                parts.setdefault(name, []).append(Pair(value, stored))
    for name in problem.inputs:
        if name in parts and name not in problem.constants:
            named[name] = add_up(parts[name], lower(true.gradients[name]), rounding, dtype).error
    return named


def add_up(parts: list[Pair], total: Array, rounding: Rounding, dtype: str) -> Pair:
    """Return the sum of contributions, stored in the dtype, with its error."""
    error, more = np.sum([part.error for part in parts], axis=0), len(parts) - 1
    rounded = rounding.gamma(more) + 2 * more * rounding.store
    return Pair(total, allow_overflow(error + rounded * np.sum([part.size for part in parts], axis=0), total, dtype))


def allow_overflow(bound: Array, value: Array, dtype: str) -> Array:
    """Return the bound, infinite where the value may be too large for the dtype: what overflows may be anything from there on.

    >>> allow_overflow(np.array([1.0, 1.0]), np.array([2.0, 7e4]), "float16")
    array([ 1., inf])
    """
    largest = find_format(dtype).largest
    fits = (np.abs(value) + bound < largest) | (np.isinf(value) & (bound == 0)) | np.isnan(value)
    return bound if fits.all() else np.where(fits, bound, np.inf)


def exact(value: Array) -> Pair:
    """Return the value as a pair without error, in float64; the error is one read-only 0, repeated without memory."""
    lowered = lower(value)
    return Pair(lowered, np.broadcast_to(0.0, lowered.shape), is_exact=True)


def lower(value: Array) -> Array:
    """Return floats in float64, precise enough for bounds; integers as they are."""
    return value if value.dtype == np.float64 or not is_float(value) else value.astype(np.float64)


def flat(params: Mapping[str, Array]) -> dict[str, Array]:
    """Return parameters in float64."""
    return {name: lower(value) for name, value in params.items()}


def branch_arguments(decisions: Mapping[str, Array], node: str) -> tuple[Array, ...]:
    """Return the branches of the node as the last argument of its bounds, nothing for a node without branches."""
    return (decisions[node],) if node in decisions else ()


def _check_branches(problem: Problem, kind: Any, node: Any, inputs: list[Pair], true: NetworkValues) -> dict[str, str]:
    """Return a message when the backend took a branch that rounding cannot explain."""
    if node.name not in true.decisions:
        return {}
    params = flat(problem.params[node.name])
    own = kind.decisions(make_numpy_namespace(), params, *[true.values[name] for name in node.inputs])
    wrong = np.argwhere((own != true.decisions[node.name]) & ~kind.undecided(params, *inputs))
    if not len(wrong):
        return {}
    index = tuple(int(i) for i in wrong[0])
    at, error = float(inputs[0].value[index]), float(inputs[0].error[index])
    return {node.name: f"{len(wrong)} branches no rounding explains, first at {index}: {at!r} is known to {error:.3g}"}
