"""The lifted re-run: a problem and the same hand-written code come in, what it computes one precision up goes out, measured.

In a higher precision rounding vanishes and what is wrong in a formula stays: N - 1 for N hides in bfloat16, whose own
roundings are as large, and stands out in float64. float32 and narrower are lifted to float64, float64 to longdouble.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.core import Array, NetworkSpec, NodeTrace, Problem, Verdict, freeze
from harness.floats import find_format, is_float
from harness.judge.local import find_constants, find_error, judge_nodes, name_node, same_bits
from harness.judge.measure import Measure
from harness.judge.rounding import reduce_accumulator
from reference_layers import Rounding

LIFTED = {"float64": np.dtype(np.longdouble).name, "float32": "float64", "bfloat16": "float64", "float16": "float64"}
JUDGED = ("ok", "powerless", "mismatch", "nonfinite")
# Four of twelve directions must show an error that is smooth. Of a lone number a cast's error bends by less than 1e-3 of
# what is expected in 4 % of the directions at most, four times by a chance of 1 in 750; that of eight numbers and more
# bends by less than 0.05 of it in one direction of 100,000.
DIRECTIONS, ENOUGH, MANY = 12, 4, 8
BEND, BEND_OF_MANY = 1e-3, 0.05
Key = tuple[str, str]
Trace = Mapping[str, NodeTrace]


def can_lift(dtype: str) -> bool:
    """Whether there is a precision above the dtype's own; some machines' longdouble is float64."""
    return find_format(LIFTED[dtype]).u < find_format(dtype).u


def lift_problem(problem: Problem) -> Problem:
    """Return the same numbers in the higher precision, contiguous and read-only."""
    case = replace(problem.case, dtype=LIFTED[problem.case.dtype], storage="C")
    target = find_format(case.dtype).dtype

    def raise_one(value: Array) -> Array:
        return freeze(np.array(value, target if is_float(value) else value.dtype, order="C"))

    return Problem(
        case=case,
        params={node: {key: raise_one(value) for key, value in group.items()} for node, group in problem.params.items()},
        inputs={name: raise_one(value) for name, value in problem.inputs.items()},
        constants=problem.constants,
        dy=raise_one(problem.dy),
    )


def judge_lifted(
    lifted: Problem, dtype: str, layers: Mapping[str, Any], run: Callable[[Problem], Trace | None],
    rounding_of: Callable[[str, Any], Rounding],
) -> dict[Key, Measure]:  # fmt: skip
    """Return the measures of the lifted run of layers of the dtype, of each quantity that could be judged in it.

    `run` gives the trace of a lifted problem, `rounding_of(dtype, layer class)` the arithmetic. What stays may be the
    formula's, or the layer's way to compute it: below 2u of the dtype in which it computes a constant explains it,
    and within its bound in that dtype a cast does, if the error does not go smoothly along with the inputs.
    """
    raw = run(lifted)
    if raw is None:
        return {}
    trace, written = _widen_written(raw, lifted)
    strict = judge_nodes(lifted, layers, trace, lambda kind: rounding_of(lifted.case.dtype, kind))
    found = {key: value for key, value in strict.items() if value.verdict in JUDGED and key not in written}
    found |= _judge_written(written, lifted, layers, trace, rounding_of)
    doubted = {key for key, value in found.items() if value.verdict in ("mismatch", "nonfinite") and key not in written}
    if not doubted:
        return found
    compute, nodes = find_format(dtype).compute.name, {node for node, _ in doubted}
    slack = 2 * find_format(compute).u
    constant = judge_nodes(lifted, layers, trace, lambda kind: rounding_of(lifted.case.dtype, kind), slack, nodes)
    told = {key for key in doubted if found[key].verdict == "mismatch" and constant[key].verdict == "mismatch"}
    casts = [_find_casts(name, lifted, layers, trace, run, rounding_of, told) for name in dict.fromkeys((compute, dtype))]
    return {key: _name(key, value, compute, constant[key], casts) if key in doubted else value for key, value in found.items()}


def _widen_written(trace: Trace, lifted: Problem) -> tuple[dict[str, NodeTrace], dict[Key, str]]:
    """Return the trace with what came back in a narrower dtype widened, and which dtype is written into the code for it."""
    target, wide, written = find_format(lifted.case.dtype).dtype, dict[str, NodeTrace](), dict[Key, str]()

    def widen(value: Any) -> Any:
        narrow = value is not None and is_float(value) and value.dtype.itemsize < target.itemsize
        return value.astype(target) if narrow else value

    for name, seen in trace.items():
        dparams = {key: widen(value) for key, value in seen.dparams.items()}
        wide[name] = replace(seen, y=widen(seen.y), dx=tuple(map(widen, seen.dx)), dparams=dparams)
        constants = find_constants(lifted, name)
        after = name_node(wide[name], constants)
        for quantity, value in name_node(seen, constants).items():
            if after[quantity] is not value:
                written[name, quantity] = value.dtype.name
    return wide, written


def _judge_written(
    written: Mapping[Key, str],
    lifted: Problem,
    layers: Mapping[str, Any],
    trace: Trace,
    rounding_of: Callable[[str, Any], Rounding],
) -> dict[Key, Measure]:
    """Return the measures of what a dtype written into the code keeps narrow, against bounds of computing all of it there.

    Higher precision shows nothing finer of it; what those bounds do not explain, no rounding of a narrower dtype does.
    """
    found: dict[Key, Measure] = {}
    for dtype in sorted(set(written.values())):
        keys = [key for key, own in written.items() if own == dtype]
        compute = find_format(dtype).compute.name
        slack, nodes = 2 * find_format(dtype).u, {node for node, _ in keys}
        measures = judge_nodes(lifted, layers, trace, lambda kind, name=compute: rounding_of(name, kind), slack, nodes)  # type: ignore[misc]  # reason: mypy infers no default of a lambda
        for key in keys:
            if measures[key].verdict in ("mismatch", "nonfinite"):
                message = f"the formula is wrong, not its rounding: one precision up, where it keeps to {dtype}, it errs by "
                found[key] = replace(measures[key], message=message + _size(measures[key]))
            elif measures[key].verdict in JUDGED:
                found[key] = measures[key]
    return found


@dataclass(frozen=True)
class _Casts:
    """Which quantities a cast to a dtype inside the layer explains."""

    dtype: str
    keys: frozenset[Key]


def _find_casts(
    dtype: str, lifted: Problem, layers: Mapping[str, Any], trace: Trace, run: Callable[[Problem], Trace | None],
    rounding_of: Callable[[str, Any], Rounding], doubted: Collection[Key],
) -> _Casts:  # fmt: skip
    """Return what of the doubted lies within the bounds of a layer that computes in the dtype, and moves as its roundings do."""
    nodes = {node for node, _ in doubted}
    bounds = judge_nodes(lifted, layers, trace, lambda kind: reduce_accumulator(rounding_of(dtype, kind)), only=nodes)
    within = [key for key in doubted if bounds[key].verdict in ("ok", "powerless")]
    lost = {key for key in within if _is_underflow(key, lifted, dtype, layers, trace)}
    left = [key for key in within if key not in lost]
    return _Casts(dtype, frozenset(within) - _find_smooth(left, lifted, dtype, layers, trace, run))


def _is_underflow(key: Key, lifted: Problem, dtype: str, layers: Mapping[str, Any], trace: Trace) -> bool:
    """Whether the error is of numbers too small for what the layer computes in: what a cast flushes goes smoothly along."""
    error = find_error(lifted, layers, trace, *key)
    return error is not None and float(np.abs(error).max(initial=0.0)) <= find_format(find_format(dtype).compute.name).tiny


def _name(key: Key, found: Measure, compute: str, constant: Measure, casts: Sequence[_Casts]) -> Measure:
    """Return the measure of what stays with what it says of the formula."""
    if found.verdict == "mismatch" and constant.verdict != "mismatch":
        message = f"a constant in {compute} explains it: an error of {_size(found)}, below 2u, stays one precision up"
        return replace(found, verdict="constant", message=message)
    for cast in casts:
        if found.verdict == "mismatch" and key in cast.keys:
            verdict: Verdict = "constant" if cast.dtype == compute else "reduced-precision"
            message = f"a cast to {cast.dtype} inside explains it: an error of {_size(found)} stays one precision up"
            return replace(found, verdict=verdict, message=f"{message}, and moves as rounding does")
    message = f"the formula is wrong, not its rounding: run one precision up, the same code errs by {_size(found)}"
    return replace(found, message=message)


def _find_smooth(
    keys: Collection[Key], lifted: Problem, dtype: str, layers: Mapping[str, Any], trace: Trace,
    run: Callable[[Problem], Trace | None],
) -> set[Key]:  # fmt: skip
    """Return the quantities whose error goes smoothly along with the numbers, as a formula's does and a cast's does not.

    Each node runs alone, on what it received: what a network in front of it does to a small step does not matter. What
    cannot be told is the formula's: where the code fails on other numbers, or gives something else when it runs alone.
    """
    smooth: set[Key] = set()
    for name in dict.fromkeys(node for node, _ in keys):
        alone = _isolate(lifted, name, trace[name])
        quantities = [quantity for node, quantity in keys if node == name]
        smooth |= {(name, quantity) for quantity in _find_smooth_alone(quantities, alone, name, dtype, layers, trace, run)}
    return smooth


def _find_smooth_alone(
    quantities: Sequence[str], alone: Problem, name: str, dtype: str, layers: Mapping[str, Any], trace: Trace,
    run: Callable[[Problem], Trace | None],
) -> list[str]:  # fmt: skip
    again = run(alone)
    before = [find_error(alone, layers, trace, name, quantity) for quantity in quantities]
    now = [None if again is None else find_error(alone, layers, again, name, quantity) for quantity in quantities]
    seen = {quantity: 0 if same_bits(a, b) else ENOUGH for quantity, a, b in zip(quantities, before, now, strict=True)}
    for forth, back in _jitter(alone, dtype):
        left = [quantity for quantity, count in seen.items() if count < ENOUGH]
        if not left or again is None:
            break
        runs = [(alone, again), (forth, run(forth)), (back, run(back))]
        for quantity in left:
            seen[quantity] += _is_straight((name, quantity), layers, runs)
    return [quantity for quantity, count in seen.items() if count >= ENOUGH]


def _isolate(problem: Problem, name: str, seen: NodeTrace) -> Problem:
    """Return the problem of the node alone, on what it received in the network."""
    node = next(node for node in problem.case.network.nodes if node.name == name)
    names = tuple(f"x{i}" for i in range(len(node.inputs)))
    constants = [own for own, used in zip(names, node.inputs, strict=True) if used in problem.constants]
    widths = {own: value.shape[-1] if value.ndim > 1 else 0 for own, value in zip(names, seen.inputs, strict=True)}
    network = NetworkSpec(widths, (replace(node, inputs=names),), problem.case.network.batch)
    return Problem(
        case=replace(problem.case, network=network, hazards=()),
        params={name: problem.params[name]},
        inputs={own: freeze(value) for own, value in zip(names, seen.inputs, strict=True)},
        constants=frozenset(constants),
        dy=freeze(seen.dy),
    )


def _jitter(problem: Problem, dtype: str) -> Iterator[tuple[Problem, Problem]]:
    """Yield pairs of the problem moved by some units in the last place of the dtype, in some direction forth and back."""
    rng, size = np.random.default_rng(problem.case.seed), 4 * find_format(dtype).u
    inputs = {name: value for name, value in problem.inputs.items() if name not in problem.constants} | {"dy": problem.dy}
    for _ in range(DIRECTIONS):
        steps, own = _draw_steps(rng, inputs), {node: _draw_steps(rng, group) for node, group in problem.params.items()}
        forth, back = (_move_all(problem, inputs, steps, own, sign) for sign in (size, -size))
        yield forth, back


def _move_all(
    problem: Problem, inputs: Mapping[str, Array], steps: Mapping[str, Array], own: Mapping[str, Mapping[str, Array]], size: float
) -> Problem:
    moved = _move(inputs, steps, size)
    params = {node: _move(group, own[node], size) for node, group in problem.params.items()}
    dy = moved.pop("dy")
    return replace(problem, params=params, inputs={**problem.inputs, **moved}, dy=dy)


def _draw_steps(rng: np.random.Generator, group: Mapping[str, Array]) -> dict[str, Array]:
    return {name: rng.uniform(-1, 1, value.shape) for name, value in group.items()}


def _move(group: Mapping[str, Array], steps: Mapping[str, Array], size: float) -> dict[str, Array]:
    return {
        name: freeze((value * (1 + size * steps[name])).astype(value.dtype)) if is_float(value) else value
        for name, value in group.items()
    }


def _is_straight(key: Key, layers: Mapping[str, Any], runs: Sequence[tuple[Problem, Trace | None]]) -> bool:
    """Whether the error went along with the numbers, forth and back, as one that is smooth does.

    The second difference e(+) + e(-) - 2 e(0) of a smooth error is of second order; errors of casts are as good as
    independent where the last bits differ, and give it six times their variance.
    """
    errors = [None if trace is None else find_error(problem, layers, trace, *key) for problem, trace in runs]
    known = [error for error in errors if error is not None]
    if len(known) < len(runs):
        return True
    middle, forth, back = known
    squares = np.square(middle)
    many = float(squares.sum()) ** 2 > MANY * float(np.square(squares).sum())
    variance = sum(float(np.square(error).sum()) for error in known) / len(known)
    return float(np.square(forth + back - 2 * middle).sum()) <= (BEND_OF_MANY if many else BEND) * 6 * variance


def _size(found: Measure) -> str:
    apart = abs(found.got - found.expected)
    return f"{apart / abs(found.expected):.3g} of {found.expected!r}" if found.expected else f"{apart:.3g} where the truth is 0"
