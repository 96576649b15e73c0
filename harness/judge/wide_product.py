"""Matrix products of double-double arrays: two arrays come in, their product, summed by BLAS without a rounding, goes out.

Each row of A and column of B is scaled by a power of two and cut into slices of so few bits that float64 sums
products of slices without rounding (Ozaki, Ogita, Oishi and Rump, Error-free transformations of matrix
multiplication by using fast routines of matrix multiplication); slices of one weight lie side by side, so that one
product on BLAS does them all. The error is at most UNIT |A| |B|, entry by entry, beside FLOOR times the inner length:
as many slices are cut as the smallest entry of |A| |B| needs, and where LIMIT slices are not enough, for rows or
columns whose entries span some 2^90, that entry is summed number by number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.judge.double_double import UNIT, DoubleDouble, multiply, scale, two_sum
from harness.judge.wide_arrays import map_parts, reduce_sum, where

FEWEST, LIMIT = 3, 9
FAINT = 2.0**-800
CHUNK = 1 << 20


@np.errstate(all="ignore")
def matmul(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a @ b, with NumPy's rules for vectors and stacks; infinite and NaN entries act as in float64."""
    if a.ndim == 1:
        return matmul(a[None, :], b)[..., 0, :] if b.ndim > 1 else matmul(a[None, :], b[:, None])[0, 0]
    if b.ndim == 1:
        return matmul(a, b[:, None])[..., 0]
    fine_a, fine_b = np.asarray(np.isfinite(a.hi)), np.asarray(np.isfinite(b.hi))
    if fine_a.all() and fine_b.all():
        return _multiply_finite(a, b)
    plain = a.hi @ b.hi
    rows, columns = fine_a.all(axis=-1, keepdims=True), fine_b.all(axis=-2, keepdims=True)
    return where(rows & columns, _multiply_finite(where(fine_a, a, 0.0), where(fine_b, b, 0.0)), plain)


def _multiply_finite(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    rows, left = _scale_down(a, -1)
    columns, right = _scale_down(b, -2)
    shape = (*np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2]), a.shape[-2], b.shape[-1])
    if 0 in (*shape, a.shape[-1]):
        return DoubleDouble(np.zeros(shape))
    sizes = np.abs(rows.hi) @ np.abs(columns.hi)
    needed = _count_slices(sizes, a.shape[-1])
    count = int(np.clip(needed, FEWEST, LIMIT).max())
    product = scale(_multiply_slices(rows, columns, count), left + right)
    faint = (sizes < FAINT) & ((a.hi != 0).astype(np.float64) @ (b.hi != 0) > 0) if (sizes < FAINT).any() else False
    slow = np.broadcast_to((needed > LIMIT) | faint, shape)
    return _mend(product, a, b, slow) if slow.any() else product


def _scale_down(x: DoubleDouble, axis: int) -> tuple[DoubleDouble, Array]:
    """Return the rows (axis -1) or columns (axis -2) scaled to at most 1/2, and the exponents."""
    _, exponent = np.frexp(np.abs(x.hi).max(axis=axis, keepdims=True, initial=0.0))
    return scale(x, -exponent - 1), exponent + 1


def count_bits(slices: int, length: int) -> int:
    """Return how many bits a slice may have: sums of slices * length products of two of them stay below 2^53.

    >>> count_bits(5, 256), count_bits(5, 4096), count_bits(3, 1)
    (22, 20, 26)
    """
    return (55 - math.ceil(math.log2(slices * length))) // 2


def _count_slices(sizes: Array, length: int) -> Array:
    """Return how many slices bring each entry's error below UNIT times its size; LIMIT + 1 where LIMIT do not.

    What s slices of b bits leave out is at most length 2^(-s b) (s + 2) / 4 of rows and columns scaled to 1/2.
    """
    needed = np.full(sizes.shape, LIMIT + 1)
    for count in range(LIMIT, FEWEST - 1, -1):
        left_out = length * 2.0 ** (-count * count_bits(count, length)) * (count + 2) / 4
        needed[(left_out <= UNIT / 2 * sizes) | (sizes == 0)] = count
    return needed


def _multiply_slices(a: DoubleDouble, b: DoubleDouble, count: int) -> DoubleDouble:
    """Return the sum of the products of slices i and j with i + j <= count + 1, lightest first."""
    bits = count_bits(count, a.shape[-1])
    rows, columns = list(_cut(a, count, bits)), list(_cut(b, count, bits))
    total = DoubleDouble(np.zeros(()))
    for weight in range(min(count, len(rows) + len(columns) - 1), 0, -1):
        pairs = [(i, weight - 1 - i) for i in range(weight) if i < len(rows) and weight - 1 - i < len(columns)]
        wide = np.concatenate([rows[i] for i, _ in pairs], axis=-1) @ np.concatenate([columns[j] for _, j in pairs], axis=-2)
        top, rest = two_sum(wide, total.hi)
        total = DoubleDouble(*two_sum(top, rest + total.lo))
    return total


def _cut(x: DoubleDouble, count: int, bits: int) -> Iterator[Array]:
    """Yield slices of so many bits, the heaviest first, until nothing is left; to add and take away 1.5 2^52 units rounds."""
    for place in range(1, count + 1):
        shift = 1.5 * 2.0 ** (52 - bits * place)
        piece = (x.hi + shift) - shift
        x = DoubleDouble(*two_sum(x.hi - piece, x.lo))
        yield piece
        if not x.hi.any():
            return


def _mend(product: DoubleDouble, a: DoubleDouble, b: DoubleDouble, slow: Array) -> DoubleDouble:
    """Return the product with the entries marked `slow` summed number by number."""
    hi, lo = product.hi.copy(), product.lo.copy()
    a = map_parts(lambda part: np.broadcast_to(part, slow.shape[:-2] + part.shape[-2:]), a)
    b = map_parts(lambda part: np.swapaxes(np.broadcast_to(part, slow.shape[:-2] + part.shape[-2:]), -1, -2), b)
    where_slow = np.argwhere(slow)
    for chunk in np.array_split(where_slow, math.ceil(len(where_slow) * a.shape[-1] / CHUNK)):
        *stack, row, column = chunk.T
        sums = reduce_sum(multiply(a[(*stack, row)], b[(*stack, column)]), axis=-1)
        hi[(*stack, row, column)], lo[(*stack, row, column)] = sums.hi, sums.lo
    return DoubleDouble(hi, lo)
