"""Which precision judges: a dtype and the size of its largest matrix product come in, the oracle's precision goes out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from harness.core import Array
from harness.judge.double_double import WIDE, WideDtype, widen
from harness.judge.wide_arrays import find_error

Precision = np.dtype[Any] | WideDtype

# From 128 x 128 x 128 multiplications on, slices on BLAS beat longdouble, which NumPy multiplies by loops of its own
# (affine, forward and backward: 4 times longdouble's time at width 16, 1.3 at 64, 0.9 at 128, 0.45 at 256; sigmoid
# and softmax take 5 times longdouble's at every width, and matter less the wider the network is).
CROSS_OVER = 1 << 21
ENOUGH = 1e-18


def choose_oracle(dtype: str, multiplications: int = 0, longdouble_eps: float | None = None) -> Precision:
    """Return the precision that judges the dtype where the largest product of matrices has so many multiplications.

    float32 and narrower are judged in float64; float64 in longdouble where it is finer than 1e-18 (`longdouble_eps`
    is this machine's unless given) and the products are small, else in double-double.

    >>> choose_oracle("bfloat16"), choose_oracle("float64", 1 << 24).name
    (dtype('float64'), 'double-double')
    """
    if dtype != "float64":
        return np.dtype(np.float64)
    eps = float(np.finfo(np.longdouble).eps) if longdouble_eps is None else longdouble_eps
    return np.dtype(np.longdouble) if eps < ENOUGH and multiplications < CROSS_OVER else WIDE


def refine(precision: Precision, multiplications: int) -> Precision | None:
    """Return the oracle's next precision, by which what looks wrong is judged once more; None above double-double.

    >>> refine(np.dtype(np.float64), 1 << 24).name, refine(WIDE, 1)
    ('double-double', None)
    """
    if isinstance(precision, WideDtype):
        return None
    return choose_oracle("float64", multiplications) if precision == np.dtype(np.float64) else WIDE


@cache
def find_eps(precision: Precision) -> float:
    """Return the relative error that one operation in the precision may make, twice over: its machine epsilon.

    >>> find_eps(np.dtype(np.float64)), find_eps(WIDE)
    (2.220446049250313e-16, 7.888609052210118e-31)
    """
    return precision.eps if isinstance(precision, WideDtype) else float(np.finfo(precision).eps)


def find_share(dtype_eps: float, precision: Precision) -> float:
    """Return which part of the bound of a differentiated formula, at the dtype's eps, bounds the oracle's error, twice over.

    >>> find_share(2.0**-52, WIDE) == 2.0**-47
    True
    """
    return 2.0 * find_eps(precision) / dtype_eps


def find_distance(given: Array, truth: Any) -> Array:
    """Return |given - truth| in float64 for a truth in any precision, without losing the truth's last digits."""
    if isinstance(truth.dtype, WideDtype):
        return find_error(given, truth)
    apart: Array = np.asarray(np.subtract(given, truth, dtype=truth.dtype, order="C"))
    return np.abs(apart, out=apart).astype(np.float64, copy=False)


def raise_to(value: Any, precision: Precision) -> Any:
    """Return a float array in the precision, whatever it was in: double-double to longdouble is rounded, the rest is exact."""
    if isinstance(precision, WideDtype):
        return widen(value)
    return value if value.dtype == precision else value.astype(precision)
