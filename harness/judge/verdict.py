"""Verdicts: a problem and what the backends made of it come in, one comparison for every backend and quantity goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.backends.numerical import draw_directions
from harness.cases import SHAPE_HAZARDS
from harness.core import PROJECTIONS, Array, Backend, Case, Comparison, NodeTrace, Outcome, Problem
from harness.floats import find_format
from harness.judge.local import (
    FAN_OUT,
    allow_infinities,
    describe_parting,
    excuse_accumulator,
    find_parted,
    is_beyond_numbers,
    judge_nodes,
    judge_wiring,
)
from harness.judge.measure import SEEN, Measure, measure
from harness.judge.noise import find_spread
from harness.judge.oracle import choose_finer, choose_precision, pick_namespace
from harness.judge.propagate import NetworkBound, NetworkValues, find_bounds, find_values, list_params, lower
from harness.judge.rounding import make_rounding, oracle_margin, oracle_share, reduce_accumulator
from harness.judge.unbounded import NoiseUnknown, equip, is_estimated
from reference_layers import Rounding

Key = tuple[str, str]
WORST_FIRST = (
    "contract", "missing", "shape", "dtype", "oracle-nonfinite", "nonfinite", "mismatch", "noise-unknown", "vacuous",
    "reduced-precision", "constant", "convention", "powerless", "ok",
)  # fmt: skip


@dataclass(eq=False)
class Bench:
    """One problem before the judge, with the true values found so far: they are found once for each set of branches."""

    problem: Problem
    layers: Mapping[str, Any]
    values: dict[bytes, NetworkValues] = field(default_factory=dict)
    bounds: dict[tuple[bytes, Any], NetworkBound] = field(default_factory=dict)
    spreads: dict[tuple[bytes, Any], dict[str, Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = equip(self.layers)

    @property
    def is_bounded(self) -> bool:
        """Whether every layer of the network has bounds that tell what it makes of errors that come in."""
        return not any(is_estimated(self.layers[node.layer]) for node in self.problem.case.network.nodes)


def judge(
    bench: Bench, backend: Backend, outcome: Outcome, trace: Mapping[str, NodeTrace] | None,
    lifted: Mapping[Key, Measure] | None = None,
) -> list[Comparison]:  # fmt: skip
    """Return a row for every quantity of one backend's outcome; a failed outcome is one row with its failure.

    `lifted` holds the measures of the same code one precision up.
    """
    if outcome.status != "ok":
        return [make_row(bench, backend, ("network", "all"), Measure(outcome.status, message=outcome.message), {})]
    if outcome.directions:
        return _judge_projections(bench, backend, outcome)
    rounding_of = _rounding_of(bench, backend)
    local: dict[Key, Measure] = {}
    wiring: dict[Key, Measure] = {}
    parted = find_parted(trace, outcome.gradients) if trace is not None and backend.decides else []
    usable = trace is not None and not parted
    if trace is not None and usable:
        local = judge_nodes(bench.problem, bench.layers, trace, rounding_of)
        unit = max(rounding_of(None).u, rounding_of(None).store)
        wiring = judge_wiring(bench.problem, trace, outcome.gradients, np.asarray(outcome.y), unit) if backend.decides else {}
    decisions = _decisions(bench, outcome, trace if usable else None)
    network, nowhere = dict[Key, Measure](), dict[Key, Measure]()
    if bench.is_bounded or outcome.uncertainty:
        is_unexplained = all(value.verdict != "mismatch" for value in local.values())
        network, nowhere = _judge_network(bench, backend, outcome, decisions, is_unexplained)
    network = _follow_convention(bench.problem, network, local)
    if trace is not None and parted:
        nowhere["network", "trace"] = Measure("contract", message=describe_parting(trace, parted))
    local |= _hand_on(bench.problem, local, wiring) if usable else {}
    raised = dict(lifted or {})
    raised |= _hand_on(bench.problem, raised, {})
    blunt = _find_blunt(local, network) if bench.is_bounded else _list_quantities(bench)
    noise = _judge_noise(bench, backend, outcome, decisions, blunt)
    noise = {key: value for key, value in noise.items() if value.verdict != "noise-unknown" or key not in local}
    keys = list(dict.fromkeys([*local, *network, *({} if bench.is_bounded else noise)]))
    noise = _follow_convention(bench.problem, noise, local)
    checks = {"local": local, "lifted": raised, "network": network, "noise": noise}
    rows = [_join(bench, backend, key, {name: found[key] for name, found in checks.items() if key in found}) for key in keys]
    rows += [make_row(bench, backend, key, value, {"check": "local", "layer": FAN_OUT}) for key, value in wiring.items()]
    return rows + [make_row(bench, backend, key, value, {"check": "network"}) for key, value in nowhere.items()]


def _rounding_of(bench: Bench, backend: Backend) -> Callable[[Any], Rounding]:
    dtype = bench.problem.case.dtype
    return lambda kind: make_rounding(dtype, backend.arithmetic, "formula" if kind is None else backend.rule(kind))


def _decisions(bench: Bench, outcome: Outcome, trace: Mapping[str, NodeTrace] | None) -> dict[str, Array]:
    """Return the branches that the backend took: those it returned, or those of the values its nodes received."""
    if trace is None:
        return dict(outcome.decisions)
    kinds = {node.name: bench.layers[node.layer] for node in bench.problem.case.network.nodes}
    return {
        name: kinds[name].decisions(make_numpy_namespace(), bench.problem.params[name], *seen.inputs)
        for name, seen in trace.items()
        if hasattr(kinds[name], "decisions")
    }


def _follow_convention(problem: Problem, network: Mapping[Key, Measure], local: Mapping[Key, Measure]) -> dict[Key, Measure]:
    """Return the measures of the whole network; behind a node that took another subgradient, what differs is that convention too.

    The oracle cannot replay a subgradient between its branches, but every node was judged on what it received. What the
    node's gradient does not reach is no part of it.
    """
    nodes = [node for (node, _), value in local.items() if value.verdict == "convention"]
    if not nodes:
        return dict(network)
    reached = _find_reached(problem, nodes)
    message = f"another subgradient was taken at an exact kink of {', '.join(nodes)}"
    followed: dict[Key, Measure] = {
        key: replace(value, verdict="convention", message=message)
        for key, value in network.items()
        if value.verdict == "mismatch" and key[0] in reached and key[1] != "y"
    }
    return {**network, **followed}


def _find_reached(problem: Problem, nodes: list[str]) -> set[str]:
    """Return the nodes and all that they are computed from, which is where their gradients go."""
    reached = set(nodes)
    for node in reversed(problem.case.network.nodes):
        if node.name in reached:
            reached.update(node.inputs)
    return reached


def _hand_on(problem: Problem, local: Mapping[Key, Measure], wiring: Mapping[Key, Measure]) -> dict[Key, Measure]:
    """Return what the local check says of the inputs' gradients: that of their one reader, or of the sum over their readers."""
    found = {}
    for name in (name for name in problem.inputs if name not in problem.constants):
        readers = [(node, i) for node in problem.case.network.nodes for i, used in enumerate(node.inputs) if used == name]
        parts = [local[node.name, key] for node, i in readers for key in ("dx", f"dx{i}") if (node.name, key) in local]
        if (name, "dy") in wiring:
            parts.append(wiring[name, "dy"])
        if parts and len(parts) >= len(readers):
            found[name, "dx"] = min(parts, key=_badness)
    return found


def _power(key: Key, local: Mapping[Key, Measure], network: Mapping[Key, Measure]) -> float:
    return min(network[key].power, local[key].power if key in local else float("inf"))


def _find_blunt(local: Mapping[Key, Measure], network: Mapping[Key, Measure]) -> set[Key]:
    """Return the gradients of which no proven bound could show a 1 % error."""
    return {key for key in network if SEEN < _power(key, local, network) < np.inf and key[1] != "y"}


def _list_quantities(bench: Bench) -> set[Key]:
    """Return the output and every gradient of the problem."""
    problem = bench.problem
    inputs = {(name, "dx") for name in problem.inputs if name not in problem.constants}
    params = {(node, f"d{key}") for node, group in problem.params.items() for key in group}
    return {(problem.case.network.output.name, "y"), *inputs, *params}


def _judge_noise(
    bench: Bench, backend: Backend, outcome: Outcome, decisions: Mapping[str, Array], blunt: set[Key]
) -> dict[Key, Measure]:
    """Return measures of some quantities against calibrated noise; where that cannot be found, the reason."""
    if not blunt or outcome.uncertainty:
        return {}
    try:
        return _judge_spread(bench, backend, outcome, decisions, blunt)
    except NoiseUnknown as unknown:
        return {key: Measure("noise-unknown", message=str(unknown)) for key in sorted(blunt)}


def _judge_spread(
    bench: Bench, backend: Backend, outcome: Outcome, decisions: Mapping[str, Array], blunt: set[Key]
) -> dict[Key, Measure]:
    found = _measure_noise(bench, backend, outcome, decisions, blunt, _rounding_of(bench, backend))
    if any(value.verdict == "mismatch" for value in found.values()):
        finer = find_finer(bench, decisions)
        found = _measure_noise(bench, backend, outcome, decisions, blunt, _rounding_of(bench, backend), finer)
    if not _stores_narrow(bench) or all(value.verdict != "mismatch" for value in found.values()):
        return found
    strict = _rounding_of(bench, backend)
    coarse = _measure_noise(bench, backend, outcome, decisions, blunt, lambda kind: reduce_accumulator(strict(kind)))
    return excuse_accumulator(found, coarse)


def _measure_noise(
    bench: Bench, backend: Backend, outcome: Outcome, decisions: Mapping[str, Array], blunt: set[Key],
    rounding_of: Callable[[Any], Rounding], finer: NetworkValues | None = None,
) -> dict[Key, Measure]:  # fmt: skip
    """Return measures against the spread of the noise that this arithmetic makes; it is found once.

    Where a finer truth is given it counts, and what is left of the oracle's own noise is added to the spread.
    """
    true, bound = find_network(bench, backend, decisions)
    output, spread = bench.problem.case.network.output.name, _find_spread(bench, true, bound, decisions, rounding_of)
    if finer is not None:
        share = oracle_share(bench.problem.case.dtype)
        own = _find_spread(bench, true, bound, decisions, lambda kind: replace(rounding_of(kind), rule="formula"))
        true, spread = finer, {name: value + share * own[name] for name, value in spread.items()}
    known = {
        split_name(name): (outcome.gradients.get(name), value, bound.gradients[name], name)
        for name, value in true.gradients.items()
    }
    known[output, "y"] = (outcome.y, true.values[output], bound.y, output)
    return {
        quantity: _measure_network(got, truth, np.where(np.isposinf(error), np.inf, spread[name]), bench.problem.case)
        for quantity, (got, truth, error, name) in known.items()
        if quantity in blunt
    }


def _find_spread(
    bench: Bench, true: NetworkValues, bound: NetworkBound, decisions: Mapping[str, Array], rounding_of: Callable[[Any], Rounding]
) -> dict[str, Array]:
    """Return the spread of the output and each gradient under these branches, in this arithmetic; it is found once."""
    kinds = {node.layer: bench.layers[node.layer] for node in bench.problem.case.network.nodes}
    key = (_branch_key(decisions), tuple((name, rounding_of(kind)) for name, kind in kinds.items()))
    if key not in bench.spreads:
        bench.spreads[key] = find_spread(bench.problem, bench.layers, true, bound, rounding_of)
    return bench.spreads[key]


def _branch_key(decisions: Mapping[str, Array]) -> bytes:
    return b"".join(name.encode() + np.packbits(value).tobytes() for name, value in sorted(decisions.items()))


def _rules_key(bench: Bench, backend: Backend) -> Any:
    kinds = {node.layer: bench.layers[node.layer] for node in bench.problem.case.network.nodes}
    return backend.arithmetic, tuple((name, backend.rule(kind)) for name, kind in kinds.items())


def find_network(bench: Bench, backend: Backend, decisions: Mapping[str, Array]) -> tuple[NetworkValues, NetworkBound]:
    """Return the true values under these branches, and the bounds for this backend's arithmetic; each is found once.

    Where a layer has no bound of its own there are none: in their place are the sizes, the shape of a relative error.
    """
    key = _branch_key(decisions)
    if key not in bench.values:
        bench.values[key] = find_values(bench.problem, bench.layers, decisions)
    if not bench.is_bounded:
        return bench.values[key], _find_sizes(bench, bench.values[key])
    arithmetic = (key, _rules_key(bench, backend))
    if arithmetic not in bench.bounds:
        bench.bounds[arithmetic] = find_bounds(bench.problem, bench.layers, bench.values[key], _rounding_of(bench, backend))
    return bench.values[key], bench.bounds[arithmetic]


def find_finer(bench: Bench, decisions: Mapping[str, Array]) -> NetworkValues | None:
    """Return the true values in the precision above the oracle's own, for before anything is called wrong; None above the last.

    Where a formula cancels and the code under judgment does not, the oracle's own rounding is the larger one.
    """
    key, problem = b"finer" + _branch_key(decisions), bench.problem
    if key not in bench.values:
        params, batch = list_params(problem), problem.case.network.batch
        finer = choose_finer(choose_precision(problem.case.dtype, batch, params), batch, params)
        if finer is None:
            return None
        bench.values[key] = find_values(problem, bench.layers, decisions, finer)
    return bench.values[key]


def _find_sizes(bench: Bench, true: NetworkValues) -> NetworkBound:
    y = true.values[bench.problem.case.network.output.name]
    return NetworkBound(np.abs(lower(y)), {name: np.abs(lower(value)) for name, value in true.gradients.items()}, {})


def _judge_network(
    bench: Bench, backend: Backend, outcome: Outcome, decisions: Mapping[str, Array], is_unexplained: bool
) -> tuple[dict[Key, Measure], dict[Key, Measure]]:
    """Return the measures of the whole network's output and gradients, and of what belongs to no quantity.

    What no wrong node explains is judged by a finer truth before it is called wrong.
    """
    true, bound = find_network(bench, backend, decisions)
    measures = _measure_outcome(bench, outcome, true, bound)
    if not outcome.uncertainty and any(value.verdict == "mismatch" for value in measures.values()):
        bound = _allow_for_oracle(bench, backend, true, bound)
        measures = _measure_outcome(bench, outcome, true, bound)
        if is_unexplained and any(value.verdict == "mismatch" for value in measures.values()):
            measures = _measure_outcome(bench, outcome, find_finer(bench, decisions) or true, bound)
    branches = {(node, "branch"): Measure("mismatch", message=message) for node, message in bound.branches.items()}
    if _stores_narrow(bench) and any(value.verdict == "mismatch" for value in [*measures.values(), *branches.values()]):
        coarse = _coarsen(bench, backend, true)
        measures = excuse_accumulator(measures, _measure_outcome(bench, outcome, true, coarse))
        branches = {
            key: value if key[0] in coarse.branches else replace(value, verdict="reduced-precision")
            for key, value in branches.items()
        }
    doubted = {node: truth.unconfirmed for node, truth in true.truths.items() if truth.unconfirmed}
    if doubted:
        message = "the formula is not finite where the function is, at " + "; ".join(f"{k}: {v}" for k, v in doubted.items())
        measures = {key: replace(value, verdict="oracle-nonfinite", message=message) for key, value in measures.items()}
    return measures, branches


def _measure_outcome(bench: Bench, outcome: Outcome, true: NetworkValues, bound: NetworkBound) -> dict[Key, Measure]:
    """Return the measure of the output and of each gradient that either the truth or the outcome names."""
    case, output = bench.problem.case, bench.problem.case.network.output.name
    errors = outcome.uncertainty or bound.gradients
    dtype = "float64" if outcome.uncertainty else case.dtype  # a witness with a doubt of its own computes in float64
    beyond = is_beyond_numbers(true.dy.values())
    measures = {} if outcome.uncertainty else {(output, "y"): _measure_network(outcome.y, true.values[output], bound.y, case)}
    for name in [*true.gradients, *(name for name in outcome.gradients if name not in true.gradients)]:
        if name not in true.gradients:
            measures[split_name(name)] = Measure("missing", message="a gradient came back that nobody asked for")
            continue
        error = np.asarray(errors.get(name, np.nan), np.float64)
        wide = error * oracle_margin(case.dtype)
        if beyond:  # what comes of an infinity hangs on roundings: 0 * inf is NaN, and with a slope just above 0 it is inf
            wide = allow_infinities(wide, true.gradients[name], outcome.gradients.get(name))
        measures[split_name(name)] = measure(outcome.gradients.get(name), true.gradients[name], wide, dtype)
    return measures


def _stores_narrow(bench: Bench) -> bool:
    return find_format(bench.problem.case.dtype).is_narrow


def _coarsen(bench: Bench, backend: Backend, true: NetworkValues) -> NetworkBound:
    """Return the bounds of a backend that accumulates in the narrow dtype in which it stores."""
    strict = _rounding_of(bench, backend)
    return find_bounds(bench.problem, bench.layers, true, lambda kind: reduce_accumulator(strict(kind)))


def _allow_for_oracle(bench: Bench, backend: Backend, true: NetworkValues, bound: NetworkBound) -> NetworkBound:
    """Return the bounds with the oracle's own error added, for before anything is called wrong."""
    dtype = bench.problem.case.dtype
    rounding, share = make_rounding(dtype, backend.arithmetic, "formula"), oracle_share(dtype)
    own = find_bounds(bench.problem, bench.layers, true, lambda kind: rounding)
    gradients = {name: error + share * own.gradients[name] for name, error in bound.gradients.items()}
    return replace(bound, y=bound.y + share * own.y, gradients=gradients)


def _measure_network(got: Any, truth: Array, bound: Array, case: Case) -> Measure:
    return measure(got, truth, bound * oracle_margin(case.dtype), case.dtype)


def _judge_projections(bench: Bench, backend: Backend, outcome: Outcome) -> list[Comparison]:
    """Return the row of a witness that projects the gradients on random directions."""
    true, _ = find_network(bench, backend, {})
    xp = pick_namespace(next(iter(true.gradients.values())).dtype)
    directions = draw_directions(bench.problem, outcome.directions)
    truth = xp.stack([sum(xp.sum(true.gradients[name] * part) for name, part in one.items()) for one in directions], axis=0)
    found = measure(outcome.gradients[PROJECTIONS], truth, outcome.uncertainty[PROJECTIONS], "float64")
    return [make_row(bench, backend, ("network", PROJECTIONS), found, {"check": "network"})]


def split_name(name: str) -> Key:
    """Return node and quantity of a gradient's name.

    >>> split_name("affine1.W"), split_name("x")
    (('affine1', 'dW'), ('x', 'dx'))
    """
    node, dot, key = name.partition(".")
    return (node, f"d{key}") if dot else (name, "dx")


def _join(bench: Bench, backend: Backend, key: Key, checks: Mapping[str, Measure]) -> Comparison:
    """Return the row of a quantity: the worse verdict of the checks that ran, powerless only where no check had power.

    The lifted re-run tells of the formula alone: it can make a row worse, and gives none power.
    """
    own = [value for name, value in checks.items() if name != "lifted"]
    sharpest = min(own, key=lambda value: value.power)
    strong = [value for value in own if value.verdict != "powerless"] or own
    lifted = [value for name, value in checks.items() if name == "lifted" and value.verdict not in ("ok", "powerless")]
    worst = min(strong + lifted, key=_badness)
    found = replace(
        _tell_both(key, min(strong, key=_badness), worst), power=sharpest.power, seen_percent=sharpest.seen_percent,
        seen_millionth=sharpest.seen_millionth, n_compared=max(value.n_compared for value in own),
    )  # fmt: skip
    errors = {f"{name}_error_in_bounds": value.error_in_bounds for name, value in checks.items()}
    return make_row(bench, backend, key, found, {"check": "+".join(checks), **errors})


def _tell_both(key: Key, own: Measure, worst: Measure) -> Measure:
    """Return the worst measure; where the lifted re-run and another check both see an error, with the words of both."""
    if own is worst or own.verdict != worst.verdict or own.verdict != "mismatch":
        return worst
    return replace(own, message=f"{describe(key, own)}; {worst.message}")


def _badness(found: Measure) -> tuple[int, float]:
    """Return a key by which the worst measure comes first."""
    return WORST_FIRST.index(found.verdict), -float(np.nan_to_num(found.error_in_bounds))


def make_row(bench: Bench, backend: Backend, key: Key, found: Measure, extra: Mapping[str, Any]) -> Comparison:
    """Return one row of the table."""
    case, (node, quantity) = bench.problem.case, key
    found = _assert_declared(case, key, found)
    kinds = {spec.name: spec.layer for spec in case.network.nodes} | dict.fromkeys(case.network.widths, "input")
    values = {
        "case": case.id, "network": case.network.digest, "hazards": "+".join(case.hazards), "backend": backend.name,
        "variant": backend.variant, "dtype": case.dtype, "node": node, "layer": kinds.get(node, "network"), "quantity": quantity,
        "check": "none", "verdict": found.verdict, "decides": backend.decides, "error_in_bounds": found.error_in_bounds,
        "ulps": found.ulps, "relative_to_norm": found.relative_to_norm, "power": found.power, "seen_percent": found.seen_percent,
        "seen_millionth": found.seen_millionth, "n_compared": found.n_compared,
        "n_wrong": found.n_wrong, "worst_index": " ".join(map(str, found.worst_index)), "got": found.got,
        "expected": found.expected, "message": found.message or describe(key, found),
    }  # fmt: skip
    return Comparison(**{**values, **extra})


def _assert_declared(case: Case, key: Key, found: Measure) -> Measure:
    """Return `ok` where a hazard declares that there is nothing, exactly 0 or NaN, and that is so; a failure where it is not."""
    declared = {word for name in case.hazards if name in SHAPE_HAZARDS for word in SHAPE_HAZARDS[name].declares}
    if not declared or found.verdict not in ("vacuous", "powerless", "ok"):
        return found
    quantity = key[1]
    if found.verdict == "vacuous" and "empty" in declared:
        return replace(found, verdict="ok", message="declared empty")
    if quantity == "y" and "nan" in declared and np.isnan(found.expected) and np.isnan(found.got):
        return replace(found, verdict="ok", message="declared NaN: the mean over an empty batch")
    if quantity != "y" and "zero" in declared and found.n_compared and found.expected == 0 == found.error_in_bounds:
        return replace(found, verdict="ok", message="declared exactly zero")
    return found


def describe(key: Key, found: Measure) -> str:
    """Return in words what is wrong, nothing for a row that is right."""
    if found.verdict not in ("mismatch", "nonfinite"):
        return ""
    where = "".join(f"[{i}]" for i in found.worst_index)
    return (
        f"{key[0]}.{key[1]}: {found.n_wrong} of {found.n_compared} entries are further from the truth than rounding moves them; "
        f"worst {key[1]}{where} = {found.got!r}, truth {found.expected!r}, {found.error_in_bounds:.3g} times what rounding can do"
    )
