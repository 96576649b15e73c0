"""Layers with one known fault each come in; that the diagnosis names that fault, and no other, must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.diagnose import NOTHING_FITS, diagnose_layer
from harness.custom.faults import CAUSES
from tests.custom.layers import Linear, Swish, linear
from tests.custom.spoilt import (
    FORMULAS,
    Change,
    Cumulative,
    Gained,
    Gelu,
    LayerNorm,
    RoundedGelu,
    Sigmoid,
    Softmax,
    draw,
    gelu,
    sigmoid,
    spoil,
)

FAULTS: list[tuple[Any, str, Change, str]] = [
    (Swish, "dx", lambda s, dy, g: 1.01 * g, "1.01 times the truth, a constant factor"),
    (Swish, "dx", lambda s, dy, g: -g, "its sign is wrong"),
    (Swish, "dx", lambda s, dy, g: 0 * g, "it is 0 everywhere"),
    (Swish, "dx", lambda s, dy, g: 2 * g, "twice the truth"),
    (Swish, "dx", lambda s, dy, g: g / 2, "half the truth"),
    (Swish, "dx", lambda s, dy, g: dy * 1, "the local derivative is missing"),
    (Swish, "dx", lambda s, dy, g: g / dy, "dy is ignored"),
    (Swish, "dx", lambda s, dy, g: g * dy, "dy is used twice"),
    (Swish, "dx", lambda s, dy, g: np.abs(g), "its signs are lost"),
    (Swish, "dx", lambda s, dy, g: g * s.x, "it has the factor x too much"),
    (Sigmoid, "dx", lambda s, dy, g: dy * s.x * (1 - s.x), "y (1 - y) is taken at the input"),
    (Sigmoid, "dx", lambda s, dy, g: dy * np.exp(-s.y) / (1 + np.exp(-s.y)) ** 2, "taken at the output instead of the input"),
    (Sigmoid, "dx", lambda s, dy, g: dy * s.y, "the factor 1 - y is missing"),
    (Softmax, "dx", lambda s, dy, g: dy * s.p * (1 - s.p), "only the diagonal of the Jacobian"),
    (Softmax, "dx", lambda s, dy, g: dy * s.p, "the term sum(dy * y, axis=-1) is missing"),
    (LayerNorm, "dx", lambda s, dy, g: _norm(s, dy, True, False), "the term h * mean(dy * g * h, axis=-1) is missing"),
    (LayerNorm, "dx", lambda s, dy, g: _norm(s, dy, False, True), "the term mean(dy * g, axis=-1) is missing"),
    (LayerNorm, "dx", lambda s, dy, g: _norm(s, dy, False, False), "there is dy * g alone"),
    (LayerNorm, "dg", lambda s, dy, g: dy.sum(0), "it is the gradient db instead"),
    (Gained, "dg", lambda s, dy, g: dy.sum(0), "dy summed over the axes [0], and nothing else"),
    (Linear, "db", lambda s, dy, g: dy.mean(0), "8 is the batch: a mean for a sum"),
    (Linear, "dW", lambda s, dy, g: g / len(dy), "8 is the batch: a mean for a sum"),
    (Linear, "dW", lambda s, dy, g: g * len(dy) / max(len(dy) - 1, 1), "8 is the batch: 7 for 8"),
    (Linear, "dW", lambda s, dy, g: (dy.T @ s.x).reshape(g.shape), "reshaped instead of transposed"),
    (Linear, "dW", lambda s, dy, g: s.x[:-1].T @ dy[:-1], "the last of 8"),
    (Linear, "dW", lambda s, dy, g: s.x[1:].T @ dy[1:], "the first of 8"),
    (Linear, "dW", lambda s, dy, g: _change_one(g), "a single entry is wrong, dW[1][1]"),
    (Linear, "dW", lambda s, dy, g: g * (np.arange(5) < 4)[:, None], "only index 4 of axis 0 is wrong which is 0"),
    (Linear, "dW", lambda s, dy, g: np.clip(g, -0.5, 0.5), "it is clipped at 0.5"),
    (Cumulative, "dx", lambda s, dy, g: dy.cumsum(1), "runs along axis 1 in the wrong direction"),
    (Linear, "dW", lambda s, dy, g: _multiply_in_single(s.x.T, dy), "a cast or a constant in float32"),
]  # fmt: skip


def _norm(layer: Any, dy: Any, mean: bool, spread: bool) -> Any:
    dh = dy * layer.params["g"]
    through_mean, through_spread = dh.mean(-1, keepdims=True), layer.h * (dh * layer.h).mean(-1, keepdims=True)
    return (dh - mean * through_mean - spread * through_spread) / layer.s


def _change_one(gradient: Any) -> Any:
    out = gradient.copy()
    out[1, 1] *= 1.5
    return out


def _multiply_in_single(a: Any, b: Any) -> Any:
    return (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize(("base", "quantity", "change", "words"), FAULTS, ids=[words for *_, words in FAULTS])
def test_each_known_fault_is_named(base: Any, quantity: str, change: Change, words: str) -> None:
    found = diagnose_layer(draw(spoil(base, quantity, change), FORMULAS[base]), quantity)
    assert words in found.words
    assert found.cause in CAUSES


STRANGE: list[tuple[Any, str, Change]] = [
    (Swish, "dx", lambda s, dy, g: g + 1e-3 * np.sin(7 * s.x) * dy),
    (Linear, "dW", lambda s, dy, g: g + 0.1 * np.cos(g)),
    (LayerNorm, "dx", lambda s, dy, g: g + 0.01 * s.h**3),
    (Softmax, "dx", lambda s, dy, g: g * (1 + 0.01 * s.p**2)),
]


@pytest.mark.parametrize(("base", "quantity", "change"), STRANGE)
def test_where_nothing_fits_nothing_is_made_up(base: Any, quantity: str, change: Change) -> None:
    assert diagnose_layer(draw(spoil(base, quantity, change), FORMULAS[base]), quantity) == NOTHING_FITS


class HalfGelu(Gelu):
    slope = 2.0


class GeluWithoutTerm(Gelu):
    slope = 0.0


class Clamp:
    """x between -0.5 and 1, else those limits."""

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.minimum(np.maximum(x, -0.5), 1.0)

    def backward(self, dy: Any) -> Any:
        return dy * ((self.x > -0.5) & (self.x < 1))


def clamp(xp: Any, params: Any, x: Any) -> Any:
    return xp.minimum(xp.maximum(x, -0.5), 1.0)


class OneSidedClamp(Clamp):
    def backward(self, dy: Any) -> Any:
        return dy * (self.x > -0.5)


class TurnedClamp(Clamp):
    def backward(self, dy: Any) -> Any:
        return dy * ((self.x < -0.5) & (self.x < 1))


class Cell:
    """tanh(x W) V: an inner activation between two products."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.params = {"W": rng.standard_normal((5, 4)), "V": rng.standard_normal((4, 3))}
        self.grads: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        self.x, self.h = x, np.tanh(x @ self.params["W"])
        return self.h @ self.params["V"]

    def backward(self, dy: Any) -> Any:
        dh = (dy @ self.params["V"].T) * self.local()
        self.grads = {"V": self.h.T @ dy, "W": self.x.T @ dh}
        return dh @ self.params["W"].T

    def local(self) -> Any:
        return 1 - self.h**2


def cell(xp: Any, params: Any, x: Any) -> Any:
    return xp.tanh(x @ params["W"]) @ params["V"]


class CellWithoutSlope(Cell):
    def local(self) -> Any:
        return 1.0


class CellAtOutput(Cell):
    def local(self) -> Any:
        return 1 - np.tanh(self.h) ** 2


class CellAtInput(Cell):
    def local(self) -> Any:
        return 1 - (self.x @ self.params["W"]) ** 2


class CellOfWrongSign(Cell):
    def local(self) -> Any:
        return 1 + self.h**2


INNER: list[tuple[Any, Any, str, str, str]] = [
    (RoundedGelu, gelu, "dx", "constant", "0.0447 instead of 0.044715"),
    (HalfGelu, gelu, "dx", "missing-factor", "1 instead of 0.5"),
    (
        GeluWithoutTerm,
        gelu,
        "dx",
        "missing-term",
        "the term 0.5 * x * (...) * 0.797885 * (...) is missing",
    ),
    (OneSidedClamp, clamp, "dx", "mask", "1 instead of 0, in the derivative where(maximum(x, -0.5) < 1,"),
    (TurnedClamp, clamp, "dx", "mask", "the wrong way round"),
    (CellWithoutSlope, cell, "dx", "missing-factor", "the derivative of xp.tanh(x @ W) is missing"),
    (CellAtOutput, cell, "dW", "at-output", "xp.tanh(x @ W) is taken at its output"),
    (CellOfWrongSign, cell, "dW", "sign", "xp.tanh(x @ W) is 1 + y^2 instead of 1 - y^2"),
    (CellAtInput, cell, "dx", "at-input", "1 - y^2 of xp.tanh(x @ W) is taken at its input"),
]


@pytest.mark.parametrize(
    ("kind", "formula", "quantity", "cause", "words"), INNER, ids=lambda part: getattr(part, "__name__", None)
)
def test_faults_inside_a_formula_are_named(kind: Any, formula: Any, quantity: str, cause: str, words: str) -> None:
    found = diagnose_layer(draw(kind, formula), quantity)
    assert found.cause == cause
    assert words in found.words


@pytest.mark.parametrize(("kind", "formula"), [(Gelu, gelu), (Clamp, clamp), (Cell, cell)])
def test_right_layers_with_insides_have_no_diagnosis(kind: Any, formula: Any) -> None:
    assert diagnose_layer(draw(kind, formula), "dx") == NOTHING_FITS


class Mish:
    """x tanh(log(1 + exp(x))), with its derivative by hand: t + x (1 - t^2) s."""

    def forward(self, x: Any) -> Any:
        self.x, self.s, self.t = x, 1 / (1 + np.exp(-x)), np.tanh(np.log(1 + np.exp(x)))
        return x * self.t

    def backward(self, dy: Any) -> Any:
        return dy * (self.t + self.x * (1 - self.t * self.t) * self.s)


def mish(xp: Any, params: Any, x: Any) -> Any:
    return x * xp.tanh(xp.log1p(xp.exp(x)))


def _round(value: Any, dtype: Any = np.float16) -> Any:
    return value.astype(dtype).astype(value.dtype)


HAND_WRITTEN: list[tuple[Any, Any, Change, str]] = [
    (Mish, mish, lambda s, dy, g: dy * (s.t - s.x * (1 - s.t * s.t) * s.s), "sign"),
    (Mish, mish, lambda s, dy, g: dy * s.t, "missing-term"),
    (Mish, mish, lambda s, dy, g: dy * (s.t + s.x * (1 - s.t) * s.s), "missing-factor"),
    (Mish, mish, lambda s, dy, g: dy * (s.t + s.x * (1 - s.t * s.t) * s.s**2), "extra-factor"),
    (Mish, mish, lambda s, dy, g: dy * (s.t + s.x * (1.02 - s.t * s.t) * s.s), "constant"),
    (Sigmoid, sigmoid, lambda s, dy, g: dy * s.y * (1 + s.y), "sign"),
    (Sigmoid, sigmoid, lambda s, dy, g: dy * s.y * (1.01 - s.y), "constant"),
    (Sigmoid, sigmoid, lambda s, dy, g: dy * s.y * (1 - s.x), "at-input"),
    (Sigmoid, sigmoid, lambda s, dy, g: dy * _round(s.y) * (1 - _round(s.y)), "cast"),
]


@pytest.mark.parametrize(("base", "formula", "change", "cause"), HAND_WRITTEN)
def test_a_mistake_in_a_derivative_written_by_hand_is_named(base: Any, formula: Any, change: Change, cause: str) -> None:
    found = diagnose_layer(draw(spoil(base, "dx", change), formula), "dx")
    assert found.cause == cause


def test_a_wrong_threshold_in_a_derivative_written_by_hand_is_a_mask() -> None:
    def backward(layer: Any, dy: Any, gradient: Any) -> Any:
        return dy * (layer.x > 0.3)

    class Ramp:
        def forward(self, x: Any) -> Any:
            self.x = x
            return np.maximum(x, 0)

        def backward(self, dy: Any) -> Any:
            return dy * (self.x > 0)

    assert (
        diagnose_layer(draw(spoil(Ramp, "dx", backward), lambda xp, _, x: xp.maximum(x, xp.zeros_like(x))), "dx").cause == "mask"
    )


@pytest.mark.parametrize("weight", [0.01, 0.003])
def test_a_small_multiple_of_an_array_at_hand_is_no_cast(weight: float) -> None:
    decayed = spoil(Linear, "dW", lambda s, dy, g: g + weight * s.params["W"])
    assert diagnose_layer(draw(decayed, linear), "dW").cause != "cast"
