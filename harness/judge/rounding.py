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


def oracle_margin(dtype: str) -> float:
    """Return the factor by which bounds grow for the oracle's own rounding.

    The oracle evaluates the same formula in a precision finer by 2^11 (longdouble for float64) or 2^29, so its
    error is at most that fraction of the bound of a differentiated formula, itself within 8 of any rule's.
    """
    return 1.0 + 8.0 * float(np.finfo(HIGHER[dtype]).eps) / float(np.finfo(dtype).eps)
