"""Code in many idioms runs on noisy arrays; where the noise stays it has the size of the rounding, where it escapes it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.floats import find_format
from harness.judge.noisy_array import NoisyArray, make_noisy
from harness.judge.value_noise import Rounder

SINGLE = find_format("float32")
RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((6, 5)), RNG.standard_normal((5, 4))


def rounder(salt: int = 1) -> Rounder:
    return Rounder(SINGLE.digits, 2.0**-149, salt)


def spread(code: Callable[..., Any], *arrays: Any, runs: int = 24) -> Any:
    """Return the spread of the results over runs with other noise, in float32's unit roundoffs of the result."""
    found = []
    for salt in range(runs):
        own = rounder(salt)
        found.append(np.asarray(code(*[make_noisy(own, np.float32(value)) for value in arrays]), np.float64))
    right = np.asarray(code(*[np.float32(value).astype(np.float64) for value in arrays]))
    return np.std(found, axis=0) / (SINGLE.u * np.abs(right))


def in_zeros(x: Any) -> Any:
    out = np.zeros(x.shape, x.dtype)
    out[...] = x * 0.3
    return out


def in_zeros_like(x: Any) -> Any:
    out = np.zeros_like(x)
    out[...] = x * 0.3
    return out


def scatter(x: Any) -> Any:
    out = np.zeros_like(x[:3])
    np.add.at(out, np.array([0, 1, 2, 0, 1, 2]), x * 0.3)
    return out


def count_up(x: Any) -> Any:
    total = 0.0
    for number in x[0]:
        total = total + number * 0.3
    return total


KEPT = {
    "operators": lambda x, w: (x * 0.3 + 0.7) / 1.1,
    "functions": lambda x, w: np.exp(np.tanh(x)) + np.sqrt(np.abs(x)),
    "a product": lambda x, w: x @ w,
    "the dot method": lambda x, w: x.dot(w),
    "the dot method of a transposed array": lambda x, w: w.T.dot(x.T),
    "einsum": lambda x, w: np.einsum("ij,jk->ik", x, w),
    "tensordot": lambda x, w: np.tensordot(x, w, (1, 0)),
    "a sum": lambda x, w: x.sum(axis=0),
    "a mean": lambda x, w: np.mean(x, axis=1, keepdims=True),
    "a variance": lambda x, w: x.var(axis=0),
    "in place": lambda x, w: np.multiply(x, 0.3, out=x.copy()),
    "zeros_like and assignment": lambda x, w: in_zeros_like(x),
    "add.at": lambda x, w: scatter(x),
    "a scalar loop": lambda x, w: count_up(x),
    "ascontiguousarray of the input": lambda x, w: np.concatenate([x[:3], x[3:]]) * 0.3,
    "where": lambda x, w: np.where(x > 0, x * 0.3, x * 0.7),
    "a norm": lambda x, w: np.linalg.norm(x, axis=1),
}
ESCAPES = {
    "asarray": lambda x, w: np.asarray(x) * 0.3,
    "ascontiguousarray": lambda x, w: np.ascontiguousarray(x.T) * 0.3,
    "zeros(shape) and assignment": lambda x, w: in_zeros(x),
    "as_strided": lambda x, w: np.asarray(np.lib.stride_tricks.as_strided(x, (2, 5), x.strides)) * 0.3,
    "np.linalg": lambda x, w: np.linalg.inv(x[:5]),
    "float()": lambda x, w: np.array([float(x[0, 0]) * 0.3]),
}


@pytest.mark.parametrize("idiom", KEPT)
def test_the_noise_stays_and_is_as_large_as_rounding(idiom):
    found = spread(KEPT[idiom], X, W)
    assert (found > 0.01).all()
    assert np.median(found) < 30


@pytest.mark.parametrize("idiom", ESCAPES)
def test_where_the_noise_escapes_the_result_is_plain(idiom):
    result = ESCAPES[idiom](make_noisy(rounder(), X), make_noisy(rounder(), W))
    assert not isinstance(result, NoisyArray)


@pytest.mark.parametrize(
    "exact",
    [
        lambda x: x * 2, lambda x: -x, lambda x: x / 4, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, x, 0),
        lambda x: x - x, lambda x: np.abs(x), lambda x: x.T.copy(), lambda x: x[::-1], lambda x: x.max(axis=0), np.round,
        lambda x: np.float64(3) * np.round(x),
    ],
)  # fmt: skip
def test_what_is_exact_in_the_precision_is_left_as_it_is(exact):
    given = np.float32(X).astype(np.float64)
    assert np.array_equal(np.asarray(exact(make_noisy(rounder(), given))), exact(given))


def test_equal_numbers_are_rounded_alike_and_opposite_ones_oppositely():
    x = make_noisy(rounder(), np.array([0.1, 0.1, -0.1, 0.2]))
    y = np.asarray(x * 0.3)
    assert y[0] == y[1] == -y[2]
    assert y[3] == 2 * y[0]
    other = np.asarray(make_noisy(rounder(2), np.array([0.1])) * 0.3)
    assert other[0] != y[0]


def test_indices_masks_and_comparisons_are_plain():
    x = make_noisy(rounder(), X)
    assert type(x > 0) is np.ndarray or (x > 0).dtype == bool
    assert isinstance(x[x > 0], NoisyArray)
    assert x.argmax(axis=1).dtype.kind == "i"
    assert isinstance(x[0, 0], NoisyArray)


def test_a_cast_inside_is_seen():
    own = rounder()
    x = make_noisy(own, X)
    assert x.astype(np.float32).dtype == np.float64
    np.sum(x, dtype=np.float16)
    assert own.casts == {"float32", "float16"}
