"""The audit: a problem and the rows of a backend come in, a failing row for each quantity that was passed over goes out.

What must have been judged is read from the problem's own arrays, by other code than the judge's: a judge that
skips a name, or compares fewer numbers than there are, would otherwise look like one that found nothing wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.core import PASSING, Backend, Comparison, Outcome, Problem

Key = tuple[str, str]


def find_unjudged(problem: Problem, backend: Backend, outcome: Outcome, rows: Sequence[Comparison]) -> list[Comparison]:
    """Return a row `missing` for the output and for each gradient that no row judged in whole."""
    if outcome.status != "ok" or outcome.directions:
        return []
    compared = {(row.node, row.quantity): row.n_compared if row.verdict in PASSING else -1 for row in rows}
    return [
        _row(problem, backend, key, f"the judge compared {max(compared.get(key, 0), 0)} of {size} numbers: it passed them over")
        for key, size in _count_numbers(problem, outcome).items()
        if compared.get(key) not in (size, -1)
    ]


def _count_numbers(problem: Problem, outcome: Outcome) -> dict[Key, int]:
    """Return how many numbers each quantity has; witnesses that estimate their own error give no output to judge."""
    inputs = {(name, "dx"): value.size for name, value in problem.inputs.items() if name not in problem.constants}
    params = {(node, f"d{key}"): value.size for node, group in problem.params.items() for key, value in group.items()}
    output = {} if outcome.uncertainty else {(problem.case.network.output.name, "y"): problem.dy.size}
    return {**output, **params, **inputs}


def _row(problem: Problem, backend: Backend, key: Key, message: str) -> Comparison:
    case, (node, quantity) = problem.case, key
    layer = {spec.name: spec.layer for spec in case.network.nodes}.get(node, "input")
    return Comparison(
        case=case.id, network=case.network.digest, hazards="+".join(case.hazards), backend=backend.name,
        variant=backend.variant, dtype=case.dtype, node=node, layer=layer, quantity=quantity, check="none",
        verdict="missing", decides=backend.decides, message=message,
    )  # fmt: skip
