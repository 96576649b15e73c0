"""Rounding: a dtype, a backend and a rule come in, the constants that the layers' bounds need go out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from harness.core import Arithmetic, Array
from harness.floats import find_format
from harness.judge.oracle import HIGHER
from harness.judge.precision import find_eps
from reference_layers import Rounding


def make_rounding(dtype: str, arithmetic: Arithmetic, rule: Any) -> Rounding:
    """Return unit roundoff, accumulator roundoff and smallest normal number of the dtype, as this backend computes.

    In a narrow dtype, layers and formulas compute in float32 between edges that are stored; a framework's own ops
    round every result to the narrow dtype, and accumulate in float32.
    """
    stored = find_format(dtype)
    kind = find_format("float32") if stored.is_narrow and rule != "native" else stored
    accumulator = min(kind.u, find_format("float32").u)
    tiny = kind.tiny if kind.largest > 1e30 else kind.least  # float16 has too few exponents for anybody to flush it
    store, least = (stored.u, stored.least) if stored.is_narrow else (0.0, 0.0)
    return Rounding(
        u=kind.u, ua=accumulator, tiny=tiny, elementary=arithmetic.elementary, rule=rule, largest=kind.largest, store=store,
        least=least,
    )  # fmt: skip


def reduce_accumulator(rounding: Rounding) -> Rounding:
    """Return the same arithmetic with sums and products accumulated in the narrow format in which results are stored."""
    return replace(rounding, ua=max(rounding.ua, rounding.store), u=max(rounding.u, rounding.store))


def add_storage(rounding: Rounding, bound: Array, value: Array) -> Array:
    """Return the bound of a value that is rounded once more, to be stored; what is exact can be stored exactly."""
    if not rounding.store:
        return bound
    out: Array = np.where(bound == 0, 0.0, bound + rounding.store * (np.abs(value) + bound) + rounding.least)
    return out


def oracle_share(dtype: str) -> float:
    """Return which part of the bound of a differentiated formula bounds the oracle's own error, twice over.

    The oracle evaluates the same formula in a precision finer by 2^11 (longdouble for float64) or 2^29
    (float64 for what is computed in float32).
    """
    return find_eps(HIGHER[dtype]) / _find_unit(dtype)


@cache
def _find_unit(dtype: str) -> float:
    """Return the unit roundoff of what networks in the dtype compute in."""
    return find_format(find_format(dtype).compute.name).u


def oracle_margin(dtype: str) -> float:
    """Return the factor by which bounds grow for the oracle's own error.

    It is enough where the bound of the differentiated formula is within 4 of that of the rule under judgment. Where
    a formula cancels and the rule does not, as x / (1 + |x|) does far from 0, it is not: before anything is called
    wrong, the share of the formula's bound itself is added.
    """
    return 1.0 + 4.0 * oracle_share(dtype)
