"""Float formats: the name of a dtype comes in, its NumPy dtype and the constants of its arithmetic go out.

NumPy has no bfloat16 of its own; ml_dtypes adds it, and its dtype's kind is not "f", so that whether an array
holds floats is asked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from harness.core import Array

NARROW = ("bfloat16", "float16")


@dataclass(frozen=True)
class FloatFormat:
    """One storage format: `u` is its unit roundoff, `least` its smallest subnormal, `tiny` its smallest normal number.

    `compute` is the dtype in which the layers of a network in this format compute: its own, or float32 where the
    format is too narrow to compute in, and values are rounded to it at the edges of the graph alone.
    """

    name: str
    dtype: np.dtype[Any]
    compute: np.dtype[Any]
    u: float
    tiny: float
    least: float
    largest: float
    digits: int

    @property
    def is_narrow(self) -> bool:
        """Whether values are stored in fewer bits than they are computed in."""
        return self.dtype != self.compute


@cache
def find_format(name: str) -> FloatFormat:
    """Return the format of a dtype's name.

    >>> find_format("bfloat16").u == 2.0**-8, find_format("bfloat16").compute
    (True, dtype('float32'))
    """
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    info: Any = np.finfo(dtype) if dtype.kind == "f" else ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # reason: ml_dtypes annotates it not
    compute = np.dtype(np.float32) if name in NARROW else dtype
    top = float(info.max) if np.isfinite(float(info.max)) else float(np.finfo(np.float64).max)
    return FloatFormat(
        name, dtype, compute, float(info.eps) / 2, float(info.tiny), float(info.smallest_subnormal), top, int(info.nmant) + 1
    )


def is_float(value: Any) -> bool:
    """Whether an array holds floats, bfloat16 among them.

    >>> is_float(np.zeros(1, ml_dtypes.bfloat16)), is_float(np.zeros(1, int))
    (True, False)
    """
    return bool(value.dtype.kind == "f" or value.dtype == ml_dtypes.bfloat16)


def find_spacing(size: Array, name: str) -> Array:
    """Return one ulp at each positive finite size, in float64: what `np.spacing` gives, for every format.

    >>> find_spacing(np.array([1.0, 3.0]), "bfloat16").tolist()
    [0.0078125, 0.015625]
    """
    kind = find_format(name)
    _, exponent = np.frexp(np.clip(size, kind.tiny, kind.largest))
    out: Array = np.ldexp(1.0, exponent - kind.digits)
    return np.maximum(out, kind.least)
