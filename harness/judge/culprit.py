"""Culprits: the rows of one case over all backends come in, the same rows, each saying who is wrong, go out.

The oracle differentiates the layer's formula, and so do torch, JAX and autograd: they can agree with one another in
a mistake of the formula. The hand-written layer has an author in common with it. Only the frameworks' own ops and
the worked values know nothing of the formula. So who is wrong is read from who parts from whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.core import PASSING, Comparison
from harness.judge.local import FAN_OUT
from harness.judge.witnesses import COMPARED, Evidence, fails_locally, find_causes, find_framework, is_overlooked, weigh

YOURS, FORMULA, UNKNOWN, JUDGE = "your layer", "formula", "unknown", "the judge"
CONVENTION, ARITHMETIC = "nobody (convention)", "nobody (arithmetic)"
NOBODY: Mapping[str, str] = {"convention": CONVENTION, "reduced-precision": ARITHMETIC, "constant": ARITHMETIC}
OWN = frozenset({"error", "crash", "timeout", "memory", "contract"})
MOST_TOLD = 3
UNUSABLE, UNJUDGED = "the formula cannot serve as truth", "it cannot be judged"


def name_culprits(rows: Sequence[Comparison], layers: Mapping[str, Any] | None = None) -> list[Comparison]:
    """Return the rows of one case with `culprit` filled where something is wrong, and who agrees with whom in the message.

    `layers` tells which layers have an op of a framework's own and worked values; without it every framework has its own
    op for all of them, and nothing is worked out.
    """
    if all(row.verdict in ("ok", "powerless", "unsupported", "unavailable") for row in rows):
        return list(rows)
    evidence, causes = weigh(rows, layers or {}), find_causes(rows)
    return [_name(row, evidence, rows, causes.get(row.backend, [])) for row in rows]


def _name(row: Comparison, evidence: Evidence, rows: Sequence[Comparison], causes: Sequence[str]) -> Comparison:
    if row.verdict in PASSING:
        return replace(row, culprit=NOBODY.get(row.verdict, ""))
    if row.verdict == "oracle-nonfinite" or row.message.startswith(UNUSABLE):
        return replace(row, culprit=FORMULA)
    if row.verdict in OWN:
        return replace(row, culprit=_blame_alone(row, rows))
    if row.verdict not in COMPARED or is_overlooked(row):
        return replace(row, culprit=JUDGE if is_overlooked(row) else UNKNOWN)
    culprit = blame(row, evidence)
    said = [row.message, _point_at(row, causes), _describe(evidence, culprit, row)]
    return replace(row, culprit=culprit, message="; ".join(filter(None, said)))


def blame(row: Comparison, seen: Evidence) -> str:
    """Return who is wrong where the row is: the owner of its backend, unless the evidence is against the formula.

    How a backend sums what its own nodes return is held against itself alone, not against the formula.
    """
    if row.layer == FAN_OUT:
        return _owner(row)
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
    """Whether what knows nothing of the formula parts from it: two frameworks' own ops, one and the layer, or worked values.

    Where the formula itself gives another thing in a framework, that framework is wrong, unless nobody else meets the truth.
    """
    if seen.formulas_fail:
        return not seen.agree and (len(seen.formulas_fail | seen.natives_fail) > 1 or seen.pinned is False)
    if len(seen.natives_fail) > 1:
        return True
    if seen.natives_pass:
        return False
    by_hand_too = bool(seen.natives_fail) and seen.layer_fails and not seen.elsewhere
    return by_hand_too or seen.pinned is False


def _is_split(seen: Evidence) -> bool:
    """Whether one stands against the formula and one for it with nothing to settle it, or all is mixed."""
    if len(seen.natives_fail) > 1:
        return True
    if seen.formulas_fail:
        return seen.layer_fails and not seen.agree and seen.pinned is None
    return bool(seen.natives_fail) and not seen.natives_pass and seen.pinned is None


def _blame_alone(row: Comparison, rows: Sequence[Comparison]) -> str:
    """Return who is wrong where a backend gave nothing that could be compared: its owner, unless all fare the same."""
    unjudged = {other.backend: other.message.startswith(UNJUDGED) for other in rows if other.decides}
    if len(unjudged) > 1 and all(unjudged.values()):
        return UNKNOWN
    return FORMULA if _all_formulas_raise(row, rows) else _owner(row)


def _all_formulas_raise(row: Comparison, rows: Sequence[Comparison]) -> bool:
    """Whether every framework that runs the formula raises, and what does not run it does not."""
    formulas = [other for other in rows if other.decides and other.variant not in ("layer", "native")]
    raised = {find_framework(other) for other in formulas if other.verdict == "error"}
    spared = any(other.decides and other.variant in ("layer", "native") and other.n_compared for other in rows)
    whole = all(other.verdict == "error" for other in formulas) and len(raised) > 1
    return row.verdict == "error" and row.variant not in ("layer", "native") and whole and spared


def _owner(row: Comparison) -> str:
    return YOURS if row.variant == "layer" else find_framework(row)


def _point_at(row: Comparison, causes: Sequence[str]) -> str:
    """Return where the error comes from that a node hands on, which is right on what it received; the last first."""
    if not causes or fails_locally(row) or row.layer in (FAN_OUT, "network") or f"{row.node}.{row.quantity}" in causes:
        return ""
    return f"what reaches it is wrong, first hand {_list(causes[: -1 - MOST_TOLD : -1])}"


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
