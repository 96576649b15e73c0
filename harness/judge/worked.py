"""Worked values: layers with numbers that were worked out by hand come in, how their formula and passes meet them goes out.

A formula is the truth by which everything else is judged, so a mistake that it shares with the hand-written layer
looks like agreement. Numbers that no code made are a witness against both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.backends.numpy_reference import NumpyReference
from harness.core import DTYPES, PASSING, Arithmetic, Array, Case, Comparison, NetworkSpec, NodeSpec, Problem, Status, freeze
from harness.floats import find_format, is_float
from harness.isolation import quiet
from harness.judge.double_double import WideDtype
from harness.judge.local import name_node
from harness.judge.measure import Measure, measure
from harness.judge.oracle import HIGHER, NodeTruth, find_truth, narrow
from harness.judge.propagate import branch_arguments, flat, lower
from harness.judge.rounding import add_storage, make_rounding
from harness.strangers import RAISED, tell
from reference_layers import Pair, Rounding
from reference_layers.layer import Worked

NODE = "worked"
ARITHMETIC = Arithmetic(flushes=False)
LONG: np.dtype[Any] = np.dtype(np.longdouble)
EXACT, HALF_ULP = np.float32, 2.0**-53
Quantities = Mapping[str, Any]


def judge_worked(layers: Mapping[str, Any], dtypes: Sequence[str] = DTYPES) -> list[Comparison]:
    """Return a row for each quantity of each worked example, of the layer's formula and of its hand-written passes.

    What the formula and the layer raise becomes a row. A row that passes decides nothing: it is no case of a run. A layer
    without worked values gets a row that says what may then go unseen.
    """
    with quiet():
        return [row for kind in layers.values() for dtype in dtypes for row in _judge_all(kind, dtype)]


def _judge_all(kind: Any, dtype: str) -> list[Comparison]:
    examples = getattr(kind, "worked", ())
    found = [[*judge_formula(kind, worked, dtype, i), *_judge_layer(kind, worked, dtype, i)] for i, worked in enumerate(examples)]
    return [row for rows in found for row in rows] or [_tell_unpinned(kind, dtype)]


def _tell_unpinned(kind: Any, dtype: str) -> Comparison:
    """Return the row of a layer that nobody worked out values for."""
    frameworks = sorted(getattr(kind, "native", {}))
    shared = "a mistake that the formula and the hand-written layer share"
    message = f"{kind.name} has no worked values and no framework an op of its own for it: {shared} cannot be found"
    if frameworks:
        message = f"{kind.name} has no worked values: {shared} is left to the own ops of {' and '.join(frameworks)} to find"
    return Comparison(
        case=f"worked-{kind.name}", network="", hazards="", backend="formula", variant="formula", dtype=dtype, node="all",
        layer=kind.name, quantity="all", check="worked", verdict="powerless", decides=False, message=message,
    )  # fmt: skip


def lose_worked(layer: str, dtype: str, status: Status, message: str) -> Comparison:
    """Return the row of a layer that never came back from its worked values."""
    return Comparison(
        case=f"worked-{layer}", network="", hazards="", backend="numpy", variant="layer", dtype=dtype, node="all", layer=layer,
        quantity="all", check="worked", verdict=status, decides=True, culprit="your layer", message=message,
    )  # fmt: skip


def meets_worked(kind: Any) -> bool | None:
    """Whether the formula of the layer gives its worked values, in float64; None where there are none, or they show nothing."""
    with quiet():
        rows = [row for i, worked in enumerate(getattr(kind, "worked", ())) for row in judge_formula(kind, worked, "float64", i)]
    if any(row.fails and row.verdict != "vacuous" for row in rows):
        return False
    return None if not rows or any(row.fails for row in rows) else True


def judge_formula(kind: Any, worked: Worked, dtype: str, index: int = 0) -> list[Comparison]:
    """Return the rows of the formula, differentiated as the oracle does it for the dtype."""
    precision = (LONG if isinstance(HIGHER[dtype], WideDtype) else HIGHER[dtype]).name

    def evaluate(problem: Problem) -> NodeTruth:
        truth = find_truth(kind, problem.params[NODE], tuple(problem.inputs.values()), problem.dy, HIGHER[dtype])
        dx = tuple(None if value is None else narrow(value) for value in truth.dx)
        return NodeTruth(narrow(truth.y), dx, {name: narrow(value) for name, value in truth.dparams.items()})

    rounding = make_rounding(precision, ARITHMETIC, "formula")
    return _judge(kind, worked, dtype, index, "formula", evaluate, rounding, precision)


def _judge_layer(kind: Any, worked: Worked, dtype: str, index: int) -> list[Comparison]:
    """Return the rows of the hand-written passes, run as a network of this one layer runs them."""

    def evaluate(problem: Problem) -> Any:
        program = NumpyReference().prepare(problem.case.network, dtype, {kind.name: kind})
        assert program is not None, "only the native variant has nothing of its own"
        return program.trace(problem)[NODE]

    return _judge(kind, worked, dtype, index, "layer", evaluate, make_rounding(dtype, ARITHMETIC, "layer"), dtype)


def _judge(
    kind: Any, worked: Worked, dtype: str, index: int, variant: str, evaluate: Callable[[Problem], Any], rounding: Rounding,
    precision: str,
) -> list[Comparison]:  # fmt: skip
    """Return the rows; a formula is given the worked numbers unrounded, so that it is judged sharply in a narrow dtype too."""
    try:
        problem = _make_problem(kind, worked, dtype if variant == "layer" else "float64")
        constants = frozenset(i for i, name in enumerate(problem.inputs) if name in problem.constants)
        got = name_node(evaluate(problem), constants)
        true = _name_true(worked, constants)
        bounds = _bounds(kind, worked, problem, rounding, constants, true)
        found = {key: _measure(got.get(key), value, bounds[key], precision) for key, value in true.items()}
        found |= {key: Measure("missing", message="there is no worked number for it") for key in got if key not in true}
    except RAISED as error:  # reason: it is a stranger's code; what it raises is what there is to report
        found = {"all": Measure("error", message=tell(error))}
    return [_row(kind, worked, dtype, f"{kind.name}{index + 1}", variant, key, value) for key, value in found.items()]


def _measure(got: Any, true: Array, bound: Array, precision: str) -> Measure:
    """Return the measure; a bound under which half of the digits are not sure was widened, and lets anything pass."""
    found, largest = measure(got, true, bound, precision), float(np.abs(lower(true)).max(initial=0.0))
    if found.verdict not in PASSING or float(bound.max(initial=0.0)) <= np.sqrt(find_format(precision).u) * largest:
        return found
    message = f"its own bound of {bound.max():.3g} is too wide for a number of {largest!r}"
    return replace(found, verdict="vacuous", message=message)


def _make_problem(kind: Any, worked: Worked, dtype: str) -> Problem:
    """Return the problem of a network of this one layer, its numbers rounded to the dtype."""
    names = [f"x{i}" for i in range(len(worked.inputs))]
    network = NetworkSpec(dict.fromkeys(names, 0), (NodeSpec(NODE, kind.name, tuple(names), 0),), 0)

    def store(value: Any) -> Array:
        array = np.asarray(value)
        return freeze(array.astype(find_format(dtype).dtype) if is_float(array) else array)

    return Problem(
        case=Case(network, dtype, seed=0),
        params={NODE: {name: store(value) for name, value in worked.params.items()}},
        inputs={name: store(value) for name, value in zip(names, worked.inputs, strict=True)},
        constants=frozenset(name for name, dx in zip(names, worked.dx, strict=True) if dx is None),
        dy=store(worked.dy),
    )


def _name_true(worked: Worked, constants: frozenset[int]) -> dict[str, Array]:
    """Return the worked numbers by quantity, wide enough to be subtracted from what any precision gives."""

    def raise_one(value: Any) -> Any:
        return None if value is None else np.asarray(value, np.float64).astype(LONG)

    dparams = {name: raise_one(value) for name, value in worked.dparams.items()}
    return name_node(NodeTruth(raise_one(worked.y), tuple(map(raise_one, worked.dx)), dparams), constants)


def _bounds(
    kind: Any, worked: Worked, problem: Problem, rounding: Rounding, constants: frozenset[int], true: Mapping[str, Array]
) -> dict[str, Array]:
    """Return what rounding explains: that of the numbers that went in, of the passes, and of the worked numbers themselves."""
    xp, params = make_numpy_namespace(), flat(problem.params[NODE])
    given = [_pair(value, stored) for value, stored in zip(worked.inputs, problem.inputs.values(), strict=True)]
    taken = {NODE: kind.decisions(xp, params, *[pair.value for pair in given])} if hasattr(kind, "decisions") else {}
    extra = branch_arguments(taken, NODE)
    with np.errstate(all="ignore"):
        y = kind.forward_bound(rounding, params, *given, *extra)
        backward = kind.backward_bound(rounding, params, *given, _pair(worked.dy, problem.dy), *extra)
    bounds = name_node(NodeTruth(y, backward.dx, backward.dparams), constants)
    return {key: add_storage(rounding, bounds[key], lower(value)) + _own_rounding(lower(value)) for key, value in true.items()}


def _pair(value: Any, stored: Array) -> Pair:
    """Return the number that is meant, with how far the stored one may lie from it; labels are exact."""
    meant = np.asarray(value)
    if not is_float(meant):
        return Pair(meant, np.zeros(meant.shape))
    return Pair(meant, np.abs(meant - lower(stored)) + _own_rounding(meant))


def _own_rounding(value: Array) -> Array:
    """Return how far a number may lie from the one that is meant: not at all where float32 holds it exactly."""
    out: Array = np.where(value.astype(EXACT) == value, 0.0, HALF_ULP * np.abs(value))
    return out


def _row(kind: Any, worked: Worked, dtype: str, node: str, variant: str, quantity: str, found: Measure) -> Comparison:
    fails, who = found.verdict not in PASSING, "formula" if variant == "formula" else "your layer"
    return Comparison(
        case=f"worked-{kind.name}", network="", hazards="", backend="numpy" if variant == "layer" else "formula",
        variant=variant, dtype=dtype, node=node, layer=kind.name, quantity=quantity, check="worked", verdict=found.verdict,
        decides=fails, error_in_bounds=found.error_in_bounds, ulps=found.ulps, relative_to_norm=found.relative_to_norm,
        power=found.power, seen_percent=found.seen_percent, seen_millionth=found.seen_millionth, n_compared=found.n_compared,
        n_wrong=found.n_wrong, worst_index=" ".join(map(str, found.worst_index)), got=found.got, expected=found.expected,
        culprit=who if fails else "", message=_describe(kind.name, quantity, who, found, worked.source) if fails else "",
    )  # fmt: skip


def _describe(layer: str, quantity: str, who: str, found: Measure, source: str) -> str:
    """Return in words what was given, what it must be, and where that comes from."""
    subject = "the formula" if who == "formula" else "the hand-written layer"
    if found.message:
        return f"{layer}.{quantity}: {subject}, at its worked values ({source}): {found.message}"
    where = "".join(f"[{i}]" for i in found.worst_index)
    return (
        f"{layer}.{quantity}: {subject} gives {quantity}{where} = {found.got!r}, worked out it is {found.expected!r} ({source})"
    )
