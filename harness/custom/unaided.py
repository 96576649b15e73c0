"""Judging without a formula: a trial and a backend come in, rows that hold its gradients against its own forward pass go out.

The bound of an entry is what rounding may do to the layer, as for any layer that states none, and beside it how far the
reference itself may be off. What is accused by anything but differences is looked at by them once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from harness.core import Array, Backend, Comparison, NodeTrace, Outcome
from harness.custom.differences import NoSlope
from harness.custom.reference import (
    DIFFERENCES,
    Ground,
    Known,
    Reference,
    find_reference,
    open_ground,
    put_slope,
)
from harness.custom.trials import Trial
from harness.judge.culprit import name_culprits
from harness.judge.estimate import NoiseEstimate, find_noise
from harness.judge.layer_run import Experiment, Unrunnable, disturb, make_cast, run_layer
from harness.judge.local import describe_parting, find_constants, find_parted, name_node, same_bits
from harness.judge.measure import Measure, measure
from harness.judge.two_precisions import RUNS
from harness.judge.verdict import WORST_FIRST, Bench, judge, make_row
from harness.shards import guard
from harness.strangers import RAISED, tell

SOME, ULP = 32, 2.0**-52
CHECK = "reference"


def judge_unaided(trial: Trial, backend: Backend) -> tuple[list[Comparison], Reference | None]:
    """Return the rows of one trial of a layer without a formula, and the reference; None where there was none.

    The output is judged by nothing but its dtype: a row of it is there only where that is wrong.
    """
    problem = trial.problem
    layers = {trial.node: trial.kind}
    bench = Bench(problem, layers)
    program: Any = backend.prepare(problem.case.network, problem.case.dtype, layers)
    outcome = guard(program.run, problem)
    traced = guard(lambda given: Outcome("ok", gradients=program.trace(given)), problem)
    failed = next((one for one in (outcome, traced) if one.status != "ok"), None)
    if failed is not None:
        return judge(bench, backend, failed, None), None
    seen = traced.gradients.get(trial.node)
    try:
        measures, reference = _measure(trial, outcome, seen)
    except RAISED as error:  # reason: what strangers' code returned may be nothing that can be judged
        text = f"it cannot be judged: {tell(error)}"
        return judge(bench, backend, Outcome("error", message=text), None), None
    rows = [_make_row(bench, backend, trial.node, name, found) for name, found in measures.items()]
    return name_culprits(rows), reference


def _make_row(bench: Bench, backend: Backend, node: str, quantity: str, found: Measure) -> Comparison:
    """Return one row, with what there is to say of the measure behind what every row says."""
    row = make_row(bench, backend, (node, quantity), replace(found, message=""), {"check": CHECK})
    return replace(row, message="; ".join(filter(None, (row.message, found.message))))


def _measure(trial: Trial, outcome: Outcome, seen: Any) -> tuple[dict[str, Measure], Reference | None]:
    """Return the measures of a pass that ran; `seen` is what a second pass, behind one over other numbers, gave."""
    got = _name_gradients(trial, outcome)
    output = _look_at_output(trial, outcome.y)
    broken = _find_broken(trial, got, outcome, seen)
    kind, (params, inputs, dy) = trial.kind, _list_arrays(trial)
    try:
        reference = find_reference(kind, params, inputs, dy.astype(np.float64))
    except NoSlope as reason:
        nothing = Measure("vacuous", n_compared=0, message=f"no formula was given, and there is no reference: {reason}")
        return output | dict.fromkeys(got, nothing), None
    noise = _find_noise(trial)
    ground = open_ground(kind, params, inputs)
    wide = dy.astype(np.float64)
    measures = {
        name: _judge(ground, name, known, got.get(name), noise, wide, trial.problem.case.dtype)
        for name, known in reference.known.items()
    }
    extra = {
        name: Measure("missing", message="a gradient came back that nobody asked for") for name in got if name not in measures
    }
    found = measures | extra
    if broken:
        found = {name: replace(value, verdict="contract", message=broken) for name, value in found.items()}
    return output | found, reference


def _find_noise(trial: Trial) -> NoiseEstimate:
    """Return the rounding noise of the layer; in float64, where none is found, what inputs a few ulps apart do stands for it.

    Much code writes its output into a buffer of float64, in which noise cannot be followed. That the output is not judged
    leaves the gradients, which are moved at least as far by how they hang on their inputs.
    """
    (params, inputs, dy), dtype, constants = _list_arrays(trial), trial.problem.case.dtype, _find_constants(trial)
    noise = find_noise(trial.kind, params, inputs, dy, dtype, constants=constants)
    if noise.how != "unknown" or noise.is_biased or dtype != "float64":
        return noise
    experiment = Experiment(trial.kind, params, inputs, constants, dy)
    try:
        return NoiseEstimate(_spread(experiment), "scaled", noise.reason)
    except Unrunnable:
        return noise


def _spread(experiment: Experiment) -> dict[str, Array]:
    """Return the deviation of the output and each gradient over inputs a few ulps apart, at least an ulp of its size."""
    rng, same = np.random.default_rng(16), make_cast(np.dtype(np.float64))
    base = run_layer(experiment, same)
    runs = [run_layer(disturb(experiment, rng), same) for _ in range(RUNS)]
    sigma = {}
    for name, value in base.items():
        moved = np.array([run[name] for run in runs]) - value
        typical = float(np.sqrt(np.mean(np.square(value)))) if value.size else 0.0
        sigma[name] = np.sqrt(np.mean(np.square(moved), axis=0)) + ULP * np.maximum(np.abs(value), typical)
    return sigma


def _list_arrays(trial: Trial) -> tuple[Mapping[str, Array], tuple[Array, ...], Array]:
    problem = trial.problem
    return problem.params[trial.node], tuple(problem.inputs[name] for name in problem.case.network.output.inputs), problem.dy


def _find_constants(trial: Trial) -> frozenset[int]:
    return find_constants(trial.problem, trial.node)


def _name_gradients(trial: Trial, outcome: Outcome) -> dict[str, Any]:
    """Return the gradients by quantity, as the node's: dx or dx0, dx1 ..., dW ...."""
    names = trial.problem.case.network.output.inputs
    dx = tuple(outcome.gradients.get(name) for name in names)
    own = {name.partition(".")[2]: value for name, value in outcome.gradients.items() if "." in name}
    node = NodeTrace((), np.zeros(0), np.zeros(0), dx, own)
    return {name: value for name, value in name_node(node, _find_constants(trial)).items() if name != "y"}


def _look_at_output(trial: Trial, y: Any) -> dict[str, Measure]:
    """Return a measure of the output where it has the wrong dtype or shape: nothing tells what its numbers must be."""
    shape = trial.problem.dy.shape
    found = measure(y, np.zeros(shape), np.broadcast_to(np.inf, shape), trial.problem.case.dtype)
    return {"y": found} if found.verdict in ("missing", "shape", "dtype") else {}


def _find_broken(trial: Trial, got: Mapping[str, Any], outcome: Outcome, seen: Any) -> str:
    """Return in words in what a second pass behind other numbers differs from a single one, or what a pass changed."""
    if seen is None:
        return "a second pass behind one over other numbers never ran backward"
    again = {name: value for name, value in name_node(seen, _find_constants(trial)).items() if name != "y"}
    parted = find_parted({trial.node: seen}, outcome.gradients)
    parted += [name for name in got if name.startswith("dx") and not same_bits(got[name], again.get(name))]
    if parted:
        return describe_parting({trial.node: seen}, parted)
    return str(seen.contract)


def _judge(ground: Ground, name: str, known: Known, got: Any, noise: NoiseEstimate, dy: Array, dtype: str) -> Measure:
    """Return the measure of one gradient; where it is accused, the reference is looked at once more by differences."""
    sigma = noise.sigma.get(name)
    if noise.how == "unknown" or sigma is None:
        found = measure(got, known.value, np.broadcast_to(np.inf, known.value.shape), dtype)
        reason = f"the rounding noise of {ground.kind.name} in {dtype} is unknown: {noise.reason}"
        return replace(found, verdict="noise-unknown", message=reason) if found.verdict in ("ok", "powerless") else found
    rounding = noise.threshold * sigma
    found = measure_known(known, got, rounding, dtype)
    if found.verdict != "mismatch" or known.how == DIFFERENCES:
        return found
    return measure_known(_confirm(ground, name, known, np.asarray(got, np.float64), rounding, dy), got, rounding, dtype)


def measure_known(known: Known, got: Any, rounding: Array, dtype: str) -> Measure:
    """Return the measure of a gradient against what is known of it, for what rounding may do to each of its entries."""
    shape = known.value.shape
    if got is None or np.shape(got) != shape or not known.value.size:
        return measure(got, np.zeros(shape), np.zeros(shape), dtype)
    given = np.asarray(got)
    if not known.looked.any() and not known.kinks.any():
        nothing = Measure("powerless", power=float("inf"), n_compared=given.size)
        return replace(nothing, message="differences of the forward pass settle nowhere: its slope is not known")
    truth, bound = _fill_in(known, given.astype(np.float64), rounding)
    found = measure(given, truth, bound, dtype)
    compared = int(known.looked.sum() + known.kinks.sum())
    kinks = int(known.kinks.sum())
    words = f"{kinks} entries at kinks were held against the slopes to both sides" if kinks else ""
    found = replace(found, n_compared=min(found.n_compared, compared), message="; ".join(filter(None, (found.message, words))))
    return _measure_lines(known, given, rounding, found) if known.lines else found


def _fill_in(known: Known, given: Array, rounding: Array) -> tuple[Array, Array]:
    """Return truth and bound of every entry: what was not looked at, or lies between the slopes at a kink, agrees with itself."""
    slack = known.slack + rounding
    nearest = np.clip(given, known.low, known.high)
    between = known.kinks & (np.abs(given - nearest) <= slack)
    truth = np.where(known.looked, known.value, np.where(known.kinks, nearest, given))
    bound = np.where(known.looked, known.doubt + rounding, np.where(known.kinks & ~between, slack, np.inf))
    return truth, bound


def _measure_lines(known: Known, given: Array, rounding: Array, found: Measure) -> Measure:
    """Return the measure, or that of the slopes along random directions where these alone are wrong."""
    truth = np.array([slope.value for _, slope in known.lines])
    along = np.array([float(np.sum(part * given.astype(np.float64))) for part, _ in known.lines])
    bound = np.array([slope.doubt + float(np.sum(np.abs(part) * rounding)) for part, slope in known.lines])
    lines = measure(along, truth, bound, "float64")
    if WORST_FIRST.index(lines.verdict) >= WORST_FIRST.index(found.verdict):
        return found
    message = f"the sum over all {given.size} entries along a random direction is {lines.got!r}, and must be {lines.expected!r}"
    return replace(lines, message=message, n_compared=found.n_compared)


def _confirm(ground: Ground, name: str, known: Known, got: Array, rounding: Array, dy: Array) -> Known:
    """Return what is known, by differences wherever the gradient is accused and they do not agree with the accusation."""
    wrong = np.flatnonzero(known.looked & ~(np.abs(got - known.value) <= known.doubt + rounding))
    mended = replace(known, **{part: getattr(known, part).copy() for part in ("value", "doubt", "low", "high", "slack")})
    disagrees = [_put_other(ground, name, mended, int(i), dy) for i in wrong[:SOME]]
    if any(disagrees):
        for i in wrong[SOME:]:
            _put_other(ground, name, mended, int(i), dy)
    return mended


def _put_other(ground: Ground, name: str, known: Known, index: int, dy: Array) -> bool:
    """Put the slope by differences in place of another that it contradicts, and return whether it does."""
    slope = ground.differ(name, index, dy)
    apart = abs(slope.value - float(known.value.flat[index]))
    if not slope.is_kink and (apart <= slope.doubt + known.doubt.flat[index]):
        return False
    put_slope(known, index, slope)
    return True


def find_visible(rows: Iterable[Comparison]) -> dict[str, float]:
    """Return by dtype the smallest fault of a whole gradient that some trial would surely have shown, of the worst gradient."""
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.check == CHECK and row.quantity != "y" and row.verdict in ("ok", "powerless", "mismatch"):
            key = (row.dtype, row.quantity)
            best[key] = min(best.get(key, np.inf), row.power)
    visible: dict[str, float] = {}
    for (dtype, _), power in best.items():
        visible[dtype] = max(visible.get(dtype, 0.0), power)
    return visible
