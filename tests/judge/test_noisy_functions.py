"""NumPy functions run on noisy arrays; what comes back is as far from the truth as float32 is, or it is plain and seen to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from harness.isolation import quiet
from harness.judge.noisy_array import NoisyArray, make_noisy
from harness.judge.value_noise import Rounder

PROBLEMS, RUNS = 6, 16
Code = Callable[[Any, Any], Any]


def rounder(salt: int) -> Rounder:
    return Rounder(24, 2.0**-149, salt)


def in_place(x: Any) -> Any:
    y = x.copy()
    y *= 0.3
    y += 0.7
    y /= 1.1
    y -= x
    return y


def scatter(ufunc: Any, x: Any) -> Any:
    out = x[:3].copy()
    ufunc.at(out, np.array([0, 1, 2, 0]), x[2:] * 0.3)
    return out


def fill(x: Any) -> Any:
    out = np.empty_like(x)
    np.copyto(out, x * 0.3)
    return out


def fill_flat(x: Any) -> Any:
    out = np.zeros_like(x)
    out.flat[:] = x * 0.3
    return out


NOISY: dict[str, Code] = {
    "add.at": lambda x, w: scatter(np.add, x),
    "apply_along_axis": lambda x, w: np.apply_along_axis(lambda row: row * 0.3, 1, x),
    "average": lambda x, w: np.average(x, axis=0, weights=np.abs(x[:, 0])),
    "clip": lambda x, w: np.clip(x * 0.3, -0.4, 0.4),
    "convolve": lambda x, w: np.convolve(x[0], w[:, 0]),
    "copyto": lambda x, w: fill(x),
    "cumprod": lambda x, w: np.cumprod(x, 1),
    "cumsum": lambda x, w: np.cumsum(x, 1),
    "diff": lambda x, w: np.diff(x * 0.3, axis=1),
    "divmod": lambda x, w: np.divmod(x, 0.3)[1],
    "dot into an array": lambda x, w: x.dot(w, out=np.zeros_like(x[:, :4])),
    "einsum of three": lambda x, w: np.einsum("ij,jk,lk->il", x, w, w, optimize=True),
    "einsum without an output": lambda x, w: np.einsum("ij,j", x, w[:, 0]),
    "expit": lambda x, w: special.expit(x),
    "flat": lambda x, w: fill_flat(x),
    "gradient": lambda x, w: np.gradient(x, axis=1),
    "hypot": lambda x, w: np.hypot(x, 0.3),
    "in place": lambda x, w: in_place(x),
    "inner": lambda x, w: np.inner(x, w.T),
    "kron": lambda x, w: np.kron(x, w),
    "log1p": lambda x, w: np.log1p(np.abs(x)),
    "logaddexp": lambda x, w: np.logaddexp(x, 0.3),
    "logsumexp": lambda x, w: special.logsumexp(x, axis=1),
    "maximum.accumulate": lambda x, w: np.maximum.accumulate(x * 0.3, axis=1),
    "mean of some": lambda x, w: np.mean(x, axis=0, where=x > -2),
    "multiply where": lambda x, w: np.multiply(x, 0.3, where=x > 0, out=np.zeros_like(x)),
    "multiply.at": lambda x, w: scatter(np.multiply, x),
    "multiply.outer": lambda x, w: np.multiply.outer(x[0], w[0]),
    "nansum": lambda x, w: np.nansum(x, axis=0),
    "near numbers": lambda x, w: (x * 0.3 + 1) - 1,
    "outer": lambda x, w: np.outer(x[0], w[0]),
    "percentile": lambda x, w: np.percentile(x, 37, axis=0),
    "piecewise": lambda x, w: np.piecewise(x, [x < 0, x >= 0], [lambda t: t * 0.3, lambda t: t * 0.7]),
    "power": lambda x, w: np.abs(x) ** 1.7,
    "prod": lambda x, w: np.prod(x, 1),
    "r_": lambda x, w: np.r_[x[0] * 0.3, x[1] * 0.7],
    "reduceat": lambda x, w: np.add.reduceat(x, [0, 2], axis=1),
    "std": lambda x, w: x.std(axis=0),
    "subtract.at": lambda x, w: scatter(np.subtract, x),
    "sum by Python": lambda x, w: sum(list(x)),
    "sum of numbers": lambda x, w: sum(number * 0.3 for number in x[0]),
    "tensordot": lambda x, w: np.tensordot(x, w, 1),
    "trace": lambda x, w: np.trace(x[:5]),
    "trapezoid": lambda x, w: np.trapezoid(x, axis=1),
    "vdot": lambda x, w: np.vdot(x, x),
}
PLAIN: dict[str, Code] = {
    "bincount": lambda x, w: np.bincount([0, 1, 0, 1, 2], weights=x[0] * 0.3),
    "cross": lambda x, w: np.cross(x[:, :3], x[:, 1:4]),
    "det": lambda x, w: np.linalg.det(x[:5]),
    "fft": lambda x, w: np.fft.rfft(x).real,
    "interp": lambda x, w: np.interp(x[0], np.sort(x[1]), x[2]),
    "item": lambda x, w: np.array([x.item(0) * 0.3]),
    "matrix_power": lambda x, w: np.linalg.matrix_power(x[:5], 3),
    "multi_dot": lambda x, w: np.linalg.multi_dot([x, w, w.T]),
    "norm of columns, 1": lambda x, w: np.linalg.norm(x, 1, axis=0),
    "pinv": lambda x, w: np.linalg.pinv(x),
    "solve": lambda x, w: np.linalg.solve(x[:5], x[:5]),
    "softmax of SciPy": lambda x, w: special.softmax(x, axis=1),
    "tolist": lambda x, w: np.array(x.tolist()) * 0.3,
    "vectorize": lambda x, w: np.vectorize(lambda number: number * 0.3)(x),
}
RNG = np.random.default_rng(0)
GIVEN = [
    (RNG.standard_normal((6, 5)).astype(np.float32), RNG.standard_normal((5, 4)).astype(np.float32)) for _ in range(PROBLEMS)
]


def run_noisy(code: Code, x: Any, w: Any, salt: int) -> Any:
    own = rounder(salt)
    with quiet():
        return code(make_noisy(own, x), make_noisy(own, w))


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_as_large_as_float32s_rounding(name):
    """The errors of float32 and the spread of the noise, both as root mean squares over some problems."""
    errors, spreads = [], []
    for i, (x, w) in enumerate(GIVEN):
        single, double = (np.asarray(NOISY[name](x.astype(dtype), w.astype(dtype))) for dtype in (np.float32, np.float64))
        runs = [run_noisy(NOISY[name], x, w, 100 * i + salt) for salt in range(RUNS)]
        assert single.dtype == np.float32
        assert all(isinstance(run, NoisyArray) for run in runs)
        errors.append(np.mean(np.square(single.astype(np.float64) - double)))
        spreads.append(np.mean(np.var([np.asarray(run) for run in runs], axis=0, ddof=1)))
    assert 0.05 < np.sqrt(np.mean(errors) / np.mean(spreads)) < 2


@pytest.mark.parametrize("name", PLAIN)
def test_what_noise_escapes_from_is_plain(name):
    result = run_noisy(PLAIN[name], *GIVEN[0], 1)
    assert not isinstance(result, NoisyArray)
    assert np.allclose(result, PLAIN[name](*(value.astype(np.float64) for value in GIVEN[0])), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*NOISY, *PLAIN])
def test_noise_changes_no_shape_and_little_of_the_numbers(name):
    code = {**NOISY, **PLAIN}[name]
    right, found = np.asarray(code(*(value.astype(np.float64) for value in GIVEN[1]))), run_noisy(code, *GIVEN[1], 1)
    assert np.shape(found) == right.shape
    assert np.max(np.abs(np.asarray(found) - right)) < 1e-3 * np.max(np.abs(right))


def test_each_partial_sum_hands_its_rounding_on():
    terms = np.random.default_rng(1).uniform(0.5, 1, 64)
    totals = [np.asarray(np.cumsum(make_noisy(rounder(salt), terms))) for salt in range(60)]
    off = np.array(totals) - np.cumsum(terms)
    assert (off[:, 0] == 0).all()
    assert np.abs(np.diff(off, axis=1)).max() <= 2.0**-19 + 1e-14  # half an ulp of numbers below 64 in float32
    assert np.corrcoef(off[:, 40], off[:, 44])[0, 1] > 0.6


def test_products_with_powers_of_two_are_exact():
    x, right = make_noisy(rounder(1), GIVEN[0][0]), GIVEN[0][0].astype(np.float64)
    assert np.array_equal(np.asarray(x * 0.25), right * 0.25)
    assert np.array_equal(np.asarray(x @ (np.eye(5) * 0.25)), right * 0.25)
    assert np.array_equal(np.asarray(np.add.reduce(np.round(x * 8), axis=0)), np.round(right * 8).sum(axis=0))
    assert not np.array_equal(np.asarray(x @ (np.eye(5) * 0.3)), right * 0.3)


def test_infinities_pass_through_sums_and_products():
    x = make_noisy(rounder(1), np.array([[1.3, np.inf], [0.1, 0.7]]))
    with quiet():
        found = np.asarray(x @ np.array([[1.1, 0.3], [0.2, 0.9]]))
    assert np.isinf(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_sums_may_start_elsewhere():
    x = make_noisy(rounder(1), np.full(5, 0.7))
    assert float(np.add.reduce(x, initial=2.0)) == pytest.approx(5.5, rel=1e-6)
    assert float(np.multiply.reduce(x, initial=2.0)) == pytest.approx(2 * 0.7**5, rel=1e-6)
