"""The lifted re-run: a problem and the same hand-written code come in, what it computes one precision up goes out, measured.

In a higher precision rounding vanishes and what is wrong in a formula stays: N - 1 for N hides in bfloat16, whose own
roundings are as large, and stands out in float64. float32 and narrower are lifted to float64, float64 to longdouble.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.core import Array, NodeTrace, Problem, Verdict, freeze
from harness.floats import find_format, is_float
from harness.judge.local import find_error, judge_nodes
from harness.judge.measure import Measure
from harness.judge.rounding import reduce_accumulator
from reference_layers import Rounding

LIFTED = {"float64": np.dtype(np.longdouble).name, "float32": "float64", "bfloat16": "float64", "float16": "float64"}
JUDGED = ("ok", "powerless", "mismatch", "nonfinite")
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
    and within its bound in that dtype a cast does, if other last bits of the inputs give another error.
    """
    trace = run(lifted)
    if trace is None:
        return {}
    strict = judge_nodes(lifted, layers, trace, lambda kind: rounding_of(lifted.case.dtype, kind))
    found = {key: value for key, value in strict.items() if value.verdict in JUDGED}
    if not any(value.verdict in ("mismatch", "nonfinite") for value in found.values()):
        return found
    compute = find_format(dtype).compute.name
    constant = judge_nodes(lifted, layers, trace, lambda kind: rounding_of(lifted.case.dtype, kind), 2 * find_format(compute).u)
    casts = [_find_casts(name, lifted, layers, trace, run, rounding_of) for name in dict.fromkeys((compute, dtype))]
    return {key: _name(key, value, compute, constant[key], casts) for key, value in found.items()}


@dataclass(frozen=True)
class _Casts:
    """Which quantities a cast to a dtype inside the layer explains."""

    dtype: str
    keys: frozenset[Key]


def _find_casts(
    dtype: str, lifted: Problem, layers: Mapping[str, Any], trace: Trace, run: Callable[[Problem], Trace | None],
    rounding_of: Callable[[str, Any], Rounding],
) -> _Casts:  # fmt: skip
    """Return what lies within the bounds of a layer that computes in the dtype, and moves as its roundings do."""
    bounds = judge_nodes(lifted, layers, trace, lambda kind: reduce_accumulator(rounding_of(dtype, kind)))
    jittered = _jitter(lifted, dtype)
    again = run(jittered)
    explained = {
        key for key, value in bounds.items()
        if value.verdict in ("ok", "powerless") and again is not None
        and not _stays(key, layers, (lifted, trace), (jittered, again))
    }  # fmt: skip
    return _Casts(dtype, frozenset(explained))


def _name(key: Key, found: Measure, compute: str, constant: Measure, casts: Sequence[_Casts]) -> Measure:
    """Return the measure with what it says of the formula."""
    if found.verdict not in ("mismatch", "nonfinite"):
        return found
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


def _jitter(problem: Problem, dtype: str) -> Problem:
    """Return the problem with inputs and parameters moved by some units in the last place of the dtype."""
    rng, size = np.random.default_rng(problem.case.seed), 16 * find_format(dtype).u

    def move(value: Array) -> Array:
        return freeze((value * (1 + size * rng.uniform(-1, 1, value.shape))).astype(value.dtype)) if is_float(value) else value

    params = {node: {key: move(value) for key, value in group.items()} for node, group in problem.params.items()}
    inputs = {name: value if name in problem.constants else move(value) for name, value in problem.inputs.items()}
    return replace(problem, params=params, inputs=inputs)


def _stays(key: Key, layers: Mapping[str, Any], *runs: tuple[Problem, Trace]) -> bool:
    """Whether the error of a quantity is the same on both problems, as a formula's is: its entries agree up to a tenth.

    Errors of casts are other ones where the last bits are.
    """
    first, second = (find_error(problem, layers, trace, *key) for problem, trace in runs)
    if first is None or second is None:
        return True
    apart, size = np.linalg.norm(first - second), max(np.linalg.norm(first), np.linalg.norm(second))
    return not apart > size / 10


def _size(found: Measure) -> str:
    apart = abs(found.got - found.expected)
    return f"{apart / abs(found.expected):.3g} of {found.expected!r}" if found.expected else f"{apart:.3g} where the truth is 0"
