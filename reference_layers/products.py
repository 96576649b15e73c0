"""Products: the factors of inner products come in, how far rounding may move each product goes out.

For each of n roundings an inner product may err by u |a| |b|, in any order of summation (Higham, Accuracy and Stability
of Numerical Algorithms, 2nd edition, equation 3.5); what is flushed to zero comes on top.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reference_layers.layer import Array, Pair, Rounding

SINGLE = 2.0**-23


def reach(pair: Pair) -> Array:
    """Return numbers as large as the computed ones may be; of an exact pair the values, whose signs do not matter here."""
    return pair.value if pair.is_exact else pair.size


@np.errstate(over="ignore")  # what overflows float32 is computed once more in float64
def bound_products(r: Rounding, a: Array, b: Array, roundings: int, bias: Array | float = 0.0) -> Array:
    """Return gamma(roundings) (|a| |b| + bias), and what flushing subnormal inputs and products to zero may take from a b.

    All of it is one product, of |a| and |b| with two more columns and rows. Its own roundings are made up for twice
    over, so that float32 is enough where float32 or less is judged; what underflows is less than what is flushed.
    """
    gamma, n = r.gamma(roundings), roundings
    if not gamma < np.inf:
        return np.full((a.shape[0], b.shape[1]), np.inf)
    if r.u >= SINGLE / 2 and a.shape[1] < 2**16:
        left, right = _border(a, np.float32), _border(b.T, np.float32)
        largest = (left[:, -1].max(initial=0.0) + n) * (right[:, -1].max(initial=0.0) + 1) + np.max(bias, initial=0.0)
        if largest < 1e30:  # else float32 may overflow
            return _multiply_borders(r, left, right, gamma, n, bias)
    return _multiply_borders(r, _border(a, np.float64), _border(b.T, np.float64), gamma, n, bias)


def _border(a: Array, dtype: Any) -> Array:
    """Return |a| with a free column and one of the sums of its rows, in the memory order of a."""
    rows, columns = a.shape
    out = np.empty((rows, columns + 2), dtype, order="F" if a.flags.f_contiguous else "C")
    np.abs(a, out=out[:, :-2])
    out[:, :-2].sum(axis=1, out=out[:, -1])
    return out


def _multiply_borders(r: Rounding, left: Array, right: Array, gamma: float, n: int, bias: Array | float) -> Array:
    """Return gamma (|a| |b| + bias) + tiny (row sums of |a| + column sums of |b| + n) from both with their borders."""
    upwards = 1 + (left.shape[1] + 16) * float(np.finfo(left.dtype).eps)
    left[:, -2] = r.tiny * (left[:, -1] + n)
    left[:, :-2] *= gamma
    left *= upwards
    left[:, -1] = upwards
    right[:, -2] = 1.0
    right[:, -1] = r.tiny * right[:, -1] + gamma * bias
    out: Array = left @ right.T
    return out
