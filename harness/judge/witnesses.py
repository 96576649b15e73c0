"""Witnesses: the rows of one case over all backends come in, who parts from the truth and who does not goes out.

What runs the formula, in whatever framework, is one witness of it; the hand-written layers, a framework's own ops and
the values that were worked out by hand are others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core import PASSING, Comparison
from harness.judge.local import FAN_OUT
from harness.judge.worked import meets_worked

COMPARED = frozenset({"mismatch", "nonfinite", "shape", "dtype", "missing"})
NO_LAYERS = frozenset({"input", FAN_OUT, "network"})


@dataclass(frozen=True)
class Evidence:
    """Who parts from the truth in one case and who does not: the hand-written layers, and frameworks by what they run.

    `natives` count only where they have an own op for the layers in doubt, and pass only where they would have shown an
    error as large as the one that was found. `pinned` says whether the formula meets its worked values there, None where
    nobody worked any out. `elsewhere` says that the hand-written layers part from the truth at other nodes than the
    frameworks' own ops do: then those are two faults.
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


def weigh(rows: Sequence[Comparison], layers: Mapping[str, Any]) -> Evidence:
    """Return the evidence of the rows of one case; witnesses, which decide nothing, are none."""
    deciding = [row for row in rows if row.decides]
    failing = [row for row in deciding if row.verdict in COMPARED and not is_overlooked(row)]
    wrong = {row.backend for row in failing if row.layer != FAN_OUT}
    right = {row.backend for row in deciding if row.n_compared and row.verdict in PASSING} - {
        row.backend for row in deciding if row.fails
    }
    doubted = _find_doubted(rows, failing)
    own_ops = [row for row in deciding if row.variant == "native" and _has_op(find_framework(row), doubted, layers)]
    sharp = right & _find_sharp(own_ops, failing)
    formulas = [row for row in deciding if row.variant not in ("layer", "native")]
    by_hand = [row for row in deciding if row.variant == "layer"]
    formulas_fail, natives_fail = _frameworks(formulas, wrong), _frameworks(own_ops, wrong)
    return Evidence(
        layer_fails=any(row.backend in wrong for row in by_hand),
        layer_passes=any(row.backend in right for row in by_hand),
        formulas_fail=formulas_fail,
        formulas_pass=_frameworks(formulas, right) - formulas_fail,
        natives_fail=natives_fail,
        natives_pass=_frameworks(own_ops, sharp) - natives_fail,
        pinned=_check_pinned(doubted, layers),
        elsewhere=_are_apart(_find_nodes(failing, "layer"), _find_nodes(failing, "native")),
        agree={name: _worst(deciding, name) for name in sorted(right, key=_own_last)},
        differ=tuple(sorted(wrong, key=_own_last)),
    )


def _find_doubted(rows: Sequence[Comparison], failing: Sequence[Comparison]) -> set[str]:
    """Return the layers in doubt: where a local check failed, of the frameworks' own ops first; else all of the case."""
    local = [row for row in failing if fails_locally(row)]
    natives = [row for row in local if row.variant == "native"]
    return {row.layer for row in natives or local} or {row.layer for row in rows} - NO_LAYERS


def fails_locally(row: Comparison) -> bool:
    """Whether the node itself is wrong, on what it received or one precision up."""
    is_right = row.local_error_in_bounds <= 1 and not row.lifted_error_in_bounds > 1
    return row.layer not in NO_LAYERS and "local" in row.check and not is_right


def _find_sharp(rows: Iterable[Comparison], failing: Sequence[Comparison]) -> set[str]:
    """Return the backends that pass a quantity in which they would have shown an error as large as another's is."""
    sizes: dict[tuple[str, str], float] = {}
    for row in failing:
        key = row.node, row.quantity
        sizes[key] = max(sizes.get(key, 0.0), _size(row))
    met = [row for row in rows if row.verdict == "ok" and (row.node, row.quantity) in sizes]
    return {row.backend for row in met if not row.power > sizes[row.node, row.quantity]}


def _size(row: Comparison) -> float:
    """Return the relative size of the error, infinite where it has none: of NaN, of another shape, of nothing at all."""
    return row.relative_to_norm if row.relative_to_norm == row.relative_to_norm else float("inf")


def find_causes(rows: Iterable[Comparison]) -> dict[str, list[str]]:
    """Return by backend where it goes wrong first hand: nodes that are wrong on what they received, and wrong connections."""
    causes: dict[str, list[str]] = {}
    for row in rows:
        if row.fails and row.verdict in COMPARED and (fails_locally(row) or row.layer == FAN_OUT):
            causes.setdefault(row.backend, []).append(f"{row.node}.{row.quantity}")
    return causes


def _find_nodes(failing: Iterable[Comparison], variant: str) -> set[str]:
    return {row.node for row in failing if row.variant == variant and (fails_locally(row) or row.layer == FAN_OUT)}


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


def find_framework(row: Comparison) -> str:
    """Return the framework of the row's backend: torch of `torch:native`."""
    return row.backend.partition(":")[0]


def _frameworks(rows: Iterable[Comparison], backends: set[str]) -> frozenset[str]:
    return frozenset(find_framework(row) for row in rows if row.backend in backends)


def _own_last(backend: str) -> tuple[bool, str]:
    return ":" in backend, backend


def _worst(rows: Iterable[Comparison], backend: str) -> float:
    found = [row.error_in_bounds for row in rows if row.backend == backend and row.verdict in ("ok", "powerless")]
    return max((error for error in found if error == error), default=0.0)


def is_overlooked(row: Comparison) -> bool:
    """Whether the judge passed the quantity over: then no backend is to blame."""
    return row.verdict == "missing" and row.check == "none"
