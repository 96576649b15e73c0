"""Culprits: the rows of one case over all backends come in, the same rows, each saying who is wrong, go out.

The oracle differentiates the layer's formula, and so do torch, JAX and autograd: they can agree with one another in
a mistake of the formula. The hand-written layer has an author in common with it. Only the frameworks' own ops and
the worked values know nothing of the formula. So who is wrong is read from who parts from whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core import PASSING, Comparison
from harness.judge.worked import meets_worked

YOURS, FORMULA, UNKNOWN, JUDGE = "your layer", "formula", "unknown", "the judge"
CONVENTION, ARITHMETIC = "nobody (convention)", "nobody (arithmetic)"
NOBODY: Mapping[str, str] = {"convention": CONVENTION, "reduced-precision": ARITHMETIC, "constant": ARITHMETIC}
COMPARED = frozenset({"mismatch", "nonfinite", "shape", "dtype", "missing"})
OWN = frozenset({"error", "crash", "timeout", "contract"})
NO_LAYERS = frozenset({"input", "fan-out", "network"})
UNUSABLE = "the formula cannot serve as truth"


@dataclass(frozen=True)
class Evidence:
    """Who parts from the truth in one case and who does not: the hand-written layers, and frameworks by what they run.

    `natives` count only where they have an own op for the layers in doubt. `pinned` says whether the formula meets its
    worked values there, None where nobody worked any out. `elsewhere` says that the hand-written layers part from the
    truth at other nodes than the frameworks' own ops do: then those are two faults.
    """

    layer_fails: bool = False
    layer_passes: bool = False
    formulas_fail: frozenset[str] = frozenset()
    formulas_pass: frozenset[str] = frozenset()
    natives_fail: frozenset[str] = frozenset()
    natives_pass: frozenset[str] = frozenset()
    pinned: bool | None = None
    elsewhere: bool = False
    agree: Mapping[str, float] = field(default_factory=dict)
    differ: tuple[str, ...] = ()


def name_culprits(rows: Sequence[Comparison], layers: Mapping[str, Any] | None = None) -> list[Comparison]:
    """Return the rows of one case with `culprit` filled where something is wrong, and who agrees with whom in the message.

    `layers` tells which layers have an op of a framework's own and worked values; without it every framework has its own
    op for all of them, and nothing is worked out.
    """
    if all(row.verdict in ("ok", "powerless", "unsupported", "unavailable") for row in rows):
        return list(rows)
    evidence = weigh(rows, layers or {})
    return [_name(row, evidence, rows) for row in rows]


def weigh(rows: Sequence[Comparison], layers: Mapping[str, Any]) -> Evidence:
    """Return the evidence of the rows of one case; witnesses, which decide nothing, are none."""
    deciding = [row for row in rows if row.decides]
    failing = [row for row in deciding if row.verdict in COMPARED and not _is_overlooked(row)]
    wrong = {row.backend for row in failing}
    right = {row.backend for row in deciding if row.n_compared and row.verdict in PASSING} - {
        row.backend for row in deciding if row.fails
    }
    doubted = _find_doubted(rows, failing)
    own_ops = [row for row in deciding if row.variant == "native" and _has_op(_framework(row), doubted, layers)]
    formulas = [row for row in deciding if row.variant not in ("layer", "native")]
    by_hand = [row for row in deciding if row.variant == "layer"]
    formulas_fail, natives_fail = _frameworks(formulas, wrong), _frameworks(own_ops, wrong)
    return Evidence(
        layer_fails=any(row.backend in wrong for row in by_hand),
        layer_passes=any(row.backend in right for row in by_hand),
        formulas_fail=formulas_fail,
        formulas_pass=_frameworks(formulas, right) - formulas_fail,
        natives_fail=natives_fail,
        natives_pass=_frameworks(own_ops, right) - natives_fail,
        pinned=_check_pinned(doubted, layers),
        elsewhere=_are_apart(_find_nodes(failing, "layer"), _find_nodes(failing, "native")),
        agree={name: _worst(deciding, name) for name in sorted(right, key=_own_last)},
        differ=tuple(sorted(wrong, key=_own_last)),
    )


def _find_doubted(rows: Sequence[Comparison], failing: Sequence[Comparison]) -> set[str]:
    """Return the layers in doubt: where a local check failed, of the frameworks' own ops first; else all of the case."""
    local = [row for row in failing if _fails_locally(row)]
    natives = [row for row in local if row.variant == "native"]
    return {row.layer for row in natives or local} or {row.layer for row in rows} - NO_LAYERS


def _fails_locally(row: Comparison) -> bool:
    return row.layer not in NO_LAYERS and "local" in row.check and not row.local_error_in_bounds <= 1


def _find_nodes(failing: Iterable[Comparison], variant: str) -> set[str]:
    return {row.node for row in failing if row.variant == variant and (_fails_locally(row) or row.layer == "fan-out")}


def _are_apart(ours: set[str], theirs: set[str]) -> bool:
    return bool(ours and theirs) and not ours & theirs


def _has_op(framework: str, doubted: set[str], layers: Mapping[str, Any]) -> bool:
    known = [layers[name] for name in doubted if name in layers]
    return not known or any(framework in getattr(kind, "native", {}) for kind in known)


def _check_pinned(doubted: set[str], layers: Mapping[str, Any]) -> bool | None:
    """Whether the formulas in doubt all meet their worked values; None where one that might be wrong has none."""
    met = [meets_worked(layers[name]) for name in sorted(doubted) if name in layers]
    if False in met:
        return False
    return True if met and None not in met else None


def _framework(row: Comparison) -> str:
    return row.backend.partition(":")[0]


def _frameworks(rows: Iterable[Comparison], backends: set[str]) -> frozenset[str]:
    return frozenset(_framework(row) for row in rows if row.backend in backends)


def _own_last(backend: str) -> tuple[bool, str]:
    return ":" in backend, backend


def _worst(rows: Iterable[Comparison], backend: str) -> float:
    found = [row.error_in_bounds for row in rows if row.backend == backend and row.verdict in ("ok", "powerless")]
    return max((error for error in found if error == error), default=0.0)


def _is_overlooked(row: Comparison) -> bool:
    """Whether the judge passed the quantity over: then no backend is to blame."""
    return row.verdict == "missing" and row.check == "none"


def _name(row: Comparison, evidence: Evidence, rows: Sequence[Comparison]) -> Comparison:
    if row.verdict in PASSING:
        return replace(row, culprit=NOBODY.get(row.verdict, ""))
    if row.verdict == "oracle-nonfinite" or row.message.startswith(UNUSABLE):
        return replace(row, culprit=FORMULA)
    if row.verdict in OWN:
        return replace(row, culprit=FORMULA if _all_formulas_raise(row, rows) else _owner(row))
    if row.verdict not in COMPARED or _is_overlooked(row):
        return replace(row, culprit=JUDGE if _is_overlooked(row) else UNKNOWN)
    culprit = blame(row, evidence)
    said = _describe(evidence, culprit, row)
    return replace(row, culprit=culprit, message=f"{row.message}; {said}" if said and row.message else row.message or said)


def blame(row: Comparison, seen: Evidence) -> str:
    """Return who is wrong where the row is: the owner of its backend, unless the evidence is against the formula."""
    if row.variant == "layer" and seen.elsewhere:
        return YOURS
    if _is_formula_wrong(seen):
        return FORMULA
    if _is_split(seen):
        return UNKNOWN
    unstable = len(seen.formulas_fail) > 1 and not seen.formulas_pass and (seen.layer_passes or seen.natives_pass)
    if unstable and row.variant not in ("layer", "native"):
        return FORMULA
    return _owner(row)


def _is_formula_wrong(seen: Evidence) -> bool:
    """Whether what knows nothing of the formula parts from it: two frameworks' own ops, one and the layer, or worked values."""
    if not seen.agree and len(seen.formulas_fail | seen.natives_fail) + seen.layer_fails > 1 and seen.formulas_fail:
        return True
    if seen.formulas_fail:
        return False
    if len(seen.natives_fail) > 1:
        return True
    if seen.natives_pass:
        return False
    by_hand_too = bool(seen.natives_fail) and seen.layer_fails and not seen.elsewhere
    return by_hand_too or seen.pinned is False


def _is_split(seen: Evidence) -> bool:
    """Whether one framework's own op stands against formula and layer with nothing to settle it, or all is mixed."""
    if len(seen.natives_fail) > 1:
        return True
    alone = bool(seen.natives_fail) and not seen.natives_pass and not seen.formulas_fail
    return alone and seen.pinned is None


def _all_formulas_raise(row: Comparison, rows: Sequence[Comparison]) -> bool:
    """Whether every framework that runs the formula raises, and what does not run it does not."""
    formulas = [other for other in rows if other.decides and other.variant not in ("layer", "native")]
    raised = {_framework(other) for other in formulas if other.verdict == "error"}
    spared = any(other.decides and other.variant in ("layer", "native") and other.n_compared for other in rows)
    whole = all(other.verdict == "error" for other in formulas) and len(raised) > 1
    return row.verdict == "error" and row.variant not in ("layer", "native") and whole and spared


def _owner(row: Comparison) -> str:
    return YOURS if row.variant == "layer" else _framework(row)


def _describe(seen: Evidence, culprit: str, row: Comparison) -> str:
    """Return in words who agrees with the truth and who does not, nothing where nobody else was asked."""
    others = [name for name in seen.differ if name != row.backend]
    said = []
    if seen.agree:
        verb = "agree" if len(seen.agree) > 1 else "agrees"
        said.append(f"{_list(seen.agree)} {verb} with the truth to {max(seen.agree.values()):.2g} of {_whose(seen.agree)} bounds")
    if others:
        said.append(f"{_list(others)} {'differ' if len(others) > 1 else 'differs'} from it too")
    if culprit == FORMULA and seen.pinned is False:
        said.append("the formula does not meet its worked values")
    elif culprit == FORMULA and seen.natives_fail and not seen.formulas_fail:
        said.append(
            f"{_list(sorted(seen.natives_fail))}'s own ops, which know nothing of the formula that gives the truth, do not"
        )
    if culprit == UNKNOWN:
        said.append("nothing tells whether the formula or who differs from it is wrong")
    return ", ".join(said)


def _whose(names: Iterable[str]) -> str:
    return "their" if len(list(names)) > 1 else "its"


def _list(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
