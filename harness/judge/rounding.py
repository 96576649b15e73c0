"""Rounding: a dtype, a backend and a rule come in, the constants that the layers' bounds need go out."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core import Arithmetic
from harness.judge.oracle import HIGHER
from reference_layers import Rounding


def make_rounding(dtype: str, arithmetic: Arithmetic, rule: Any) -> Rounding:
    """Return unit roundoff, accumulator roundoff and smallest normal number of the dtype, as this backend computes."""
    info = np.finfo(dtype)
    unit = float(info.eps) / 2
    return Rounding(u=unit, ua=unit, tiny=float(info.tiny), elementary=arithmetic.elementary, rule=rule)


def oracle_share(dtype: str) -> float:
    """Return which part of the bound of a differentiated formula bounds the oracle's own error, twice over.

    The oracle evaluates the same formula in a precision finer by 2^11 (longdouble for float64) or 2^29 (float64).
    """
    return 2.0 * float(np.finfo(HIGHER[dtype]).eps) / float(np.finfo(dtype).eps)


def oracle_margin(dtype: str) -> float:
    """Return the factor by which bounds grow for the oracle's own error.

    It is enough where the bound of the differentiated formula is within 4 of that of the rule under judgment. Where
    a formula cancels and the rule does not, as x / (1 + |x|) does far from 0, it is not: before anything is called
    wrong, the share of the formula's bound itself is added.
    """
    return 1.0 + 4.0 * oracle_share(dtype)
