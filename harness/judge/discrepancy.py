"""Discrepancies: outcomes come in, how far each pair of backends is apart in each quantity goes out, without a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from harness.core import Array, Case, Discrepancy, Outcome
from harness.floats import find_spacing, is_float
from harness.strangers import RAISED


def compare_pairs(case: Case, outcomes: Mapping[str, Outcome]) -> list[Discrepancy]:
    """Return a row for each pair of backends and each quantity that both returned as numbers in the same shape."""
    good = {name: outcome for name, outcome in outcomes.items() if outcome.status == "ok" and not outcome.directions}
    whole = {name: _quantities(outcome) for name, outcome in good.items()}
    with np.errstate(all="ignore"):
        return [
            _compare(case, quantity, a, b, whole[a][quantity], whole[b][quantity])
            for a, b in combinations(whole, 2)
            for quantity in whole[a]
            if quantity in whole[b] and whole[a][quantity].shape == whole[b][quantity].shape
        ]


def _quantities(outcome: Outcome) -> dict[str, Array]:
    found = {name: _make_array(value) for name, value in {"y": outcome.y, **outcome.gradients}.items()}
    return {name: value for name, value in found.items() if is_float(value)}


def _make_array(value: Any) -> Array:
    """Return the array; one that holds no numbers where a stranger's layer gave what makes none, a ragged list for instance."""
    try:
        return np.asarray(value)
    except RAISED:
        return np.array(None)


def _compare(case: Case, quantity: str, a: str, b: str, left: Array, right: Array) -> Discrepancy:
    x, y = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    apart, size = np.abs(x - y), np.maximum(np.abs(x), np.abs(y))
    most, norm = float(apart.max(initial=0.0)), float(np.linalg.norm(x))
    spacing = find_spacing(size, case.dtype)
    return Discrepancy(
        case=case.id, dtype=case.dtype, quantity=quantity, backend_a=a, backend_b=b, n_compared=x.size, max_abs=most,
        max_relative_to_norm=_ratio(most, norm), max_ulps=float((apart / spacing).max(initial=0.0)),
        cosine=_ratio(float(x @ y), norm * float(np.linalg.norm(y))),
    )  # fmt: skip


def _ratio(part: Any, whole: float) -> float:
    return float(part) / whole if whole > 0 else float("nan")
