"""Floats in any precision come in; arrays of balls that hold the numbers exactly, and gradients derived by hand, go out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flint
import numpy as np

from harness.judge.double_double import DoubleDouble

BITS = 300


@contextmanager
def wide_balls(bits: int = BITS) -> Iterator[None]:
    """Let ball arithmetic work in so many bits, and put back what was set before."""
    kept = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = kept


def to_balls(value: Any) -> np.ndarray:
    """Return an array of exact balls (dtype object); a longdouble's upper and lower part are added in ball arithmetic."""
    if isinstance(value, DoubleDouble):
        return _ball(value.hi) + _ball(value.lo)
    value = np.asarray(value)
    if value.dtype != np.longdouble:
        return _ball(value)
    return _ball(value.astype(np.float64)) + _ball((value - value.astype(np.float64)).astype(np.float64))


def _ball(value: np.ndarray) -> np.ndarray:
    return np.asarray(_make_ball(np.asarray(value)), object)


_make_ball = np.frompyfunc(lambda number: flint.arb(float(number)), 1, 1)


def call(name: str, value: np.ndarray) -> np.ndarray:
    """Return a function of python-flint of every entry."""
    return np.asarray(np.frompyfunc(lambda ball: getattr(ball, name)(), 1, 1)(value), object)


def derive_affine(params: Any, x: Any, dy: Any) -> dict[str, Any]:
    W, b = params["W"], params["b"]
    return {"y": x @ W + b, "dx": dy @ W.T, "dW": x.T @ dy, "db": dy.sum(axis=0)}


def derive_relu(params: Any, x: Any, dy: Any) -> dict[str, Any]:
    is_open = np.frompyfunc(lambda ball: int(ball > 0), 1, 1)(x)
    return {"y": x * is_open, "dx": dy * is_open}


def derive_sigmoid(params: Any, x: Any, dy: Any) -> dict[str, Any]:
    y, rest = 1 / (1 + call("exp", -x)), 1 / (1 + call("exp", x))
    return {"y": y, "dx": dy * y * rest}


def derive_add(params: Any, a: Any, b: Any, dy: Any) -> dict[str, Any]:
    return {"y": a + b, "dx0": dy, "dx1": dy}


def derive_multiply(params: Any, a: Any, b: Any, dy: Any) -> dict[str, Any]:
    return {"y": a * b, "dx0": dy * b, "dx1": dy * a}


def derive_softmax_cross_entropy(params: Any, x: Any, t: Any, dy: Any) -> dict[str, Any]:
    if t.ndim == 1:
        t = _ball(np.eye(x.shape[1])[np.array([int(float(label)) for label in t])])
    e = call("exp", x)
    total = e.sum(axis=1, keepdims=True)
    loss = -(t * (x - call("log", total))).sum() / len(x)
    return {"y": loss, "dx": dy * (e / total * t.sum(axis=1, keepdims=True) - t) / len(x)}


def derive_mean_squared_error(params: Any, y: Any, t: Any, dy: Any) -> dict[str, Any]:
    return {"y": ((y - t) ** 2).sum() / (2 * len(y)), "dx": dy * (y - t) / len(y)}


DERIVATIONS = {name.removeprefix("derive_"): function for name, function in globals().items() if name.startswith("derive_")}
