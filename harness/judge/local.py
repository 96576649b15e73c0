"""The local strict check: what a node received and returned comes in, the measure of everything it returned goes out.

Every node is judged on the values it actually received, so that there are no kinks and no propagation, only the
rounding of that node; and the wiring is checked beside it: what a node received is bit for bit what another
returned, and where a value is used more than once the contributions of its uses are summed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import Array, NodeTrace, Problem
from harness.floats import find_format, is_float
from harness.judge.measure import Measure, measure
from harness.judge.memory import name_arrays, recall
from harness.judge.oracle import HIGHER, NodeTruth, choose_finer, choose_precision, find_truth, lift, pick_namespace
from harness.judge.propagate import branch_arguments, exact, flat, lower
from harness.judge.rounding import add_storage, oracle_margin, oracle_share, reduce_accumulator
from harness.judge.unbounded import NoiseUnknown
from reference_layers import Rounding

FAN_OUT = "fan-out"
REDUCED = "accumulates in reduced precision: {:.3g} times what an accumulation in float32 can move it"


def judge_nodes(
    problem: Problem, layers: Mapping[str, Any], trace: Mapping[str, NodeTrace], rounding_of: Callable[[Any], Rounding],
    slack: float = 0.0, only: Collection[str] | None = None,
) -> dict[tuple[str, str], Measure]:  # fmt: skip
    """Return the measure of every quantity of every node, or of `only` some, by node and quantity.

    `slack` is a relative error let pass.
    """
    measures: dict[tuple[str, str], Measure] = {}
    for node in (node for node in problem.case.network.nodes if only is None or node.name in only):
        if node.name not in trace:
            measures[node.name, "y"] = Measure("missing", message="the node was never run backward")
            continue
        kind = layers[node.layer]
        found = _judge_once(problem, kind, node.name, trace[node.name], rounding_of(kind), slack)
        measures.update({(node.name, quantity): value for quantity, value in found.items()})
    return measures


def _judge_once(problem: Problem, kind: Any, name: str, seen: NodeTrace, rounding: Rounding, slack: float) -> dict[str, Measure]:
    what = ("node", kind, name, problem.case.dtype, rounding, slack, seen.contract)
    given = {**name_arrays(seen), **{f"parameter {key}": value for key, value in problem.params[name].items()}}
    return recall(what, given, lambda: judge_node(problem, kind, name, seen, rounding, slack))


def judge_node(
    problem: Problem, kind: Any, name: str, seen: NodeTrace, rounding: Rounding, slack: float = 0.0
) -> dict[str, Measure]:
    """Return the measure of the output and of every gradient of one node, over the union of the names."""
    try:
        return _judge_node(problem, kind, name, seen, rounding, slack)
    except NoiseUnknown as unknown:
        return _judge_shapes(problem, kind, name, seen, str(unknown))


def _judge_shapes(problem: Problem, kind: Any, name: str, seen: NodeTrace, reason: str) -> dict[str, Measure]:
    """Return measures of a node whose noise is unknown: what is missing or has a wrong shape is so all the same.

    What is the truth itself, to the rounding by which it is stored, is right whatever the noise is.
    """
    dtype, constants = problem.case.dtype, find_constants(problem, name)
    truth = find_truth(kind, problem.params[name], seen.inputs, seen.dy, HIGHER[dtype])
    true, stored = name_node(truth, constants), find_format(dtype)
    nearest = {key: stored.u * np.abs(lower(value)) + stored.least for key, value in true.items()}
    return {
        key: replace(value, verdict="noise-unknown", message=reason) if value.verdict == "mismatch" else value
        for key, value in _measure_all(true, name_node(seen, constants), nearest, truth, kind, dtype).items()
    }


def _judge_node(problem: Problem, kind: Any, name: str, seen: NodeTrace, rounding: Rounding, slack: float) -> dict[str, Measure]:
    dtype, params, constants = problem.case.dtype, problem.params[name], find_constants(problem, name)
    decisions = kind.decisions(make_numpy_namespace(), params, *seen.inputs) if hasattr(kind, "decisions") else None
    if HIGHER[dtype] == np.float64:  # oracle and bounds then take the same numbers, converted once
        params, seen = flat(params), replace(seen, inputs=tuple(map(lower, seen.inputs)), dy=lower(seen.dy))
    precision = choose_precision(dtype, problem.case.network.batch, params.values())
    truth = find_truth(kind, params, seen.inputs, seen.dy, precision, decisions)
    replayed = {} if decisions is None else {name: decisions}
    true, got = name_node(truth, constants), name_node(seen, constants)
    bounds = _allow_received_infinities(_bounds(kind, params, seen, rounding, replayed, name, true), seen, true, got)
    if slack:
        bounds = {key: bound + slack * np.abs(lower(true[key])) for key, bound in bounds.items()}
    measures = _measure_all(true, got, bounds, truth, kind, dtype)
    if rounding.rule != "formula" and any(value.verdict == "mismatch" for value in measures.values()):
        own = _bound_formula(kind, params, seen, rounding, replayed, name, true)
        bounds = {quantity: bound + oracle_share(dtype) * own.get(quantity, 0.0) for quantity, bound in bounds.items()}
        measures = _measure_all(true, got, bounds, truth, kind, dtype)
    if any(value.verdict == "mismatch" for value in measures.values()):
        finer = choose_finer(precision, problem.case.network.batch, params.values())
        if finer is not None:
            truth = find_truth(kind, params, seen.inputs, seen.dy, finer, decisions)
            true = name_node(truth, constants)
            measures = _measure_all(true, got, bounds, truth, kind, dtype)
    if rounding.store and any(value.verdict == "mismatch" for value in measures.values()):
        coarse = _bounds(kind, params, seen, reduce_accumulator(rounding), replayed, name, true)
        measures = excuse_accumulator(measures, _measure_all(true, got, coarse, truth, kind, dtype))
    if decisions is not None and rounding.rule != "layer":
        _excuse_conventions(measures, problem, kind, name, seen, decisions, truth, bounds)
    if not seen.contract:
        return measures
    return {quantity: replace(value, verdict="contract", message=seen.contract) for quantity, value in measures.items()}


def _allow_received_infinities(
    bounds: dict[str, Array], seen: NodeTrace, true: Mapping[str, Any], got: Mapping[str, Any]
) -> dict[str, Array]:
    """Return the bounds, infinite where a node that received no number gave none and truly gives none.

    What comes of an infinity hangs on roundings: inf times a slope is an infinity, or NaN where the slope has underflowed.
    """
    if not is_beyond_numbers([*seen.inputs, seen.dy]):
        return bounds
    return {key: allow_infinities(bound, true[key], got.get(key)) if key in true else bound for key, bound in bounds.items()}


def is_beyond_numbers(received: Iterable[Any]) -> bool:
    """Whether something that came in is infinite or NaN."""
    return not all(bool(np.isfinite(value).all()) for value in map(lower, received) if is_float(value))


def allow_infinities(bound: Any, truth: Any, got: Any) -> Any:
    """Return the bound, infinite where neither the truth nor what came back is a number."""
    if got is None or np.shape(got) != truth.shape:
        return bound
    return np.where(~np.isfinite(lower(truth)) & ~np.isfinite(np.asarray(got, np.float64)), np.inf, bound)


def find_error(
    problem: Problem, layers: Mapping[str, Any], trace: Mapping[str, NodeTrace], name: str, quantity: str
) -> Array | None:
    """Return how far one quantity of a node is from its truth, entry by entry; None where the two cannot be subtracted."""
    node = next(node for node in problem.case.network.nodes if node.name == name)
    kind, params, seen, constants = layers[node.layer], problem.params[name], trace[name], find_constants(problem, name)
    decisions = kind.decisions(make_numpy_namespace(), params, *seen.inputs) if hasattr(kind, "decisions") else None
    precision = choose_precision(problem.case.dtype, problem.case.network.batch, params.values())
    true = name_node(find_truth(kind, params, seen.inputs, seen.dy, precision, decisions), constants)
    got = name_node(seen, constants).get(quantity)
    if got is None or quantity not in true or np.shape(got) != true[quantity].shape:
        return None
    with np.errstate(all="ignore"):
        error: Array = lower(lift(got, precision) - true[quantity])
    return error if bool(np.isfinite(error).all()) else None


def _measure_all(
    true: Mapping[str, Any], got: Mapping[str, Any], bounds: Mapping[str, Array], truth: NodeTruth, kind: Any, dtype: str
) -> dict[str, Measure]:
    """Return the measure of each quantity that either the truth or the node names."""
    measures = {}
    for quantity in [*true, *(key for key in got if key not in true)]:
        if quantity not in true:
            measures[quantity] = Measure("missing", message="a gradient came back that the formula does not have")
            continue
        found = measure(got.get(quantity), true[quantity], _allow_for_oracle(bounds[quantity], dtype), dtype)
        measures[quantity] = doubt(found, quantity, truth, kind)
    return measures


def _allow_for_oracle(bound: Array, dtype: str) -> Array:
    """Return the bound with the oracle's margin; one 0 repeated for all entries stays that, which costs nothing."""
    out: Array = bound * oracle_margin(dtype) if any(bound.strides) or bound.any() else bound
    return out


def excuse_accumulator(strict: Mapping[Any, Measure], coarse: Mapping[Any, Measure]) -> dict[Any, Measure]:
    """Return the strict measures, `reduced-precision` where accumulating in the narrow format alone explains a mismatch."""
    return {
        key: replace(value, verdict="reduced-precision", message=REDUCED.format(value.error_in_bounds))
        if value.verdict == "mismatch" and coarse[key].verdict in ("ok", "powerless")
        else value
        for key, value in strict.items()
    }


def doubt(found: Measure, quantity: str, truth: NodeTruth, kind: Any) -> Measure:
    """Return the measure, or `oracle-nonfinite` where the formula alone made the truth non-finite."""
    if quantity not in truth.unconfirmed.split(", "):
        return found
    message = f"the formula of {kind.name} gives {quantity} that is not finite where the function is: mend the formula"
    return replace(found, verdict="oracle-nonfinite", message=message)


def judge_wiring(
    problem: Problem, trace: Mapping[str, NodeTrace], gradients: Mapping[str, Array], y: Array, unit: float
) -> dict[tuple[str, str], Measure]:
    """Return measures of the wiring: one for each value used twice, and one for each connection that changed a number."""
    network, dtype = problem.case.network, problem.case.dtype
    stored = find_format(dtype).dtype
    made = {**problem.inputs, **{name: seen.y for name, seen in trace.items()}}
    measures: dict[tuple[str, str], Measure] = {}
    for node in (node for node in network.nodes if node.name in trace):
        for i, name in enumerate(node.inputs):
            received = trace[node.name].inputs[i]
            if name in made and not same_bits(received, made[name]):
                measures[node.name, f"x{i}"] = Measure("mismatch", message=f"received something else than what {name} returned")
    arrived: dict[str, Any] = {name: seen.dy for name, seen in trace.items()} | dict(gradients)
    for name in [*(name for name in problem.inputs if name not in problem.constants), *trace]:
        readers = [(node.name, i) for node in network.nodes for i, used in enumerate(node.inputs) if used == name]
        parts = [trace[reader].dx[i] for reader, i in readers if reader in trace]
        if len(parts) == 1 and parts[0] is not None and parts[0].dtype == stored and same_bits(arrived.get(name), parts[0]):
            continue
        if not parts and name != network.output.name and arrived.get(name) is not None:
            measures[name, "dy"] = Measure("mismatch", message="a gradient arrived that no node which reads it handed on")
            continue
        summed = problem.dy if name == network.output.name and not parts else _sum(parts, dtype)
        bound = unit * max(len(parts) - 1, 0) * _sum([np.abs(part) for part in parts if part is not None], dtype)
        if len(parts) > 1 or not same_bits(arrived.get(name), summed.astype(stored)):
            found = measure(arrived.get(name), summed, bound.astype(np.float64), dtype)
            measures[name, "dy"] = found
    if not same_bits(y, made.get(network.output.name)):
        measures[network.output.name, "y"] = Measure("mismatch", message="the network returned something else than its last node")
    return measures


def find_parted(trace: Mapping[str, NodeTrace], gradients: Mapping[str, Array]) -> list[str]:
    """Return the parameter gradients that one of two runs, the traced and the judged, gave otherwise than the other, or alone."""
    traced = {f"{node}.{key}": value for node, seen in trace.items() for key, value in seen.dparams.items()}
    judged = [name for name in gradients if name.partition(".")[0] in trace and "." in name]
    return [name for name in dict.fromkeys([*traced, *judged]) if not same_bits(traced.get(name), gradients.get(name))]


def describe_parting(trace: Mapping[str, NodeTrace], parted: list[str]) -> str:
    """Return in words that two runs gave different gradients, where, and what contracts were seen broken."""
    broken = [f"{name}: {seen.contract}" for name, seen in trace.items() if seen.contract]
    return "; ".join([f"two runs on the same arrays gave different gradients: {', '.join(parted)}", *broken])


def same_bits(a: Any, b: Any) -> bool:
    """Whether two arrays have the same shape, dtype and numbers, NaN being the same as NaN here alone."""
    if a is None or b is None:
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool((a == b).all()) or bool(np.array_equal(a, b, equal_nan=is_float(a)))


def name_node(node: NodeTruth | NodeTrace, constants: frozenset[int]) -> dict[str, Any]:
    """Return the output and gradients of a node by the quantity's name; gradients of constants are nobody's."""
    lone = len(node.dx) - len(constants) <= 1
    dx = {("dx" if lone else f"dx{i}"): value for i, value in enumerate(node.dx) if i not in constants and value is not None}
    return {"y": node.y, **dx, **{f"d{key}": value for key, value in node.dparams.items()}}


def find_constants(problem: Problem, name: str) -> frozenset[int]:
    """Return which inputs of the node are not differentiated."""
    node = next(node for node in problem.case.network.nodes if node.name == name)
    return frozenset(i for i, used in enumerate(node.inputs) if used in problem.constants)


def _bounds(
    kind: Any, params: Mapping[str, Array], seen: NodeTrace, rounding: Rounding, decisions: Mapping[str, Array], name: str,
    true: Mapping[str, Any],
) -> dict[str, Array]:  # fmt: skip
    """Return the bound of every quantity for inputs that carry no error, and for true values that are rounded to be stored."""
    pairs, extra = [exact(value) for value in seen.inputs], branch_arguments(decisions, name)
    with np.errstate(all="ignore"):
        backward = kind.backward_bound(rounding, flat(params), *pairs, exact(seen.dy), *extra)
        y = kind.forward_bound(rounding, flat(params), *pairs, *extra)  # what is estimated was found on the way back
    constants = frozenset(i for i, error in enumerate(backward.dx) if error is None)
    bounds = name_node(NodeTrace(seen.inputs, y, seen.dy, backward.dx, backward.dparams), constants)
    if not rounding.store:
        return bounds
    return {key: add_storage(rounding, bound, lower(true[key])) if key in true else bound for key, bound in bounds.items()}


def _bound_formula(
    kind: Any, params: Mapping[str, Array], seen: NodeTrace, rounding: Rounding, decisions: Mapping[str, Array], name: str,
    true: Mapping[str, Any],
) -> dict[str, Array]:  # fmt: skip
    """Return the bounds of the differentiated formula, in which the oracle's own error is a part; none where they are unknown."""
    try:
        return _bounds(kind, params, seen, replace(rounding, rule="formula"), decisions, name, true)
    except NoiseUnknown:
        return {}


def _excuse_conventions(
    measures: dict[str, Measure], problem: Problem, kind: Any, name: str, seen: NodeTrace, decisions: Array,
    truth: NodeTruth, bounds: Mapping[str, Array],
) -> None:  # fmt: skip
    """Turn a mismatch into `convention` where it lies only at exact kinks, between the gradients of both sides."""
    dtype, params, constants = problem.case.dtype, problem.params[name], find_constants(problem, name)
    ties = kind.undecided(flat(params), *[exact(value) for value in seen.inputs])
    if not ties.any():
        return
    precision = truth.y.dtype
    other = find_truth(kind, params, seen.inputs, seen.dy, precision, decisions ^ ties)
    ours, theirs, got = name_node(truth, constants), name_node(other, constants), name_node(seen, constants)
    for quantity in [key for key, value in measures.items() if value.verdict == "mismatch" and key in got and key in theirs]:
        value, slack = lift(got[quantity], precision), bounds[quantity] * oracle_margin(dtype)
        xp = pick_namespace(precision)
        low, high = xp.minimum(ours[quantity], theirs[quantity]) - slack, xp.maximum(ours[quantity], theirs[quantity]) + slack
        if ((low <= value) & (value <= high)).all():
            message = "at an exact kink another subgradient was taken than the formula's"
            measures[quantity] = replace(measures[quantity], verdict="convention", message=message)


def _sum(parts: list[Any], dtype: str) -> Any:
    given = [lift(part, HIGHER[dtype]) for part in parts if part is not None]
    return reduce(operator.add, given) if given else np.zeros(())
