"""Layers with one known fault each come in; that the diagnosis names that fault, and no other, must hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.custom.diagnose import NOTHING_FITS, diagnose_layer, err_alike, find_families
from harness.custom.faults import CAUSES
from harness.custom.scene import run_once, set_scene
from harness.custom.spec import LayerSpec
from harness.custom.trials import draw_trials
from harness.isolation import quiet
from tests.custom.layers import Linear, Swish, linear, swish

Change = Callable[[Any, Any, Any], Any]


class Sigmoid:
    def forward(self, x: Any) -> Any:
        self.x, self.y = x, 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, dy: Any) -> Any:
        return dy * self.y * (1 - self.y)


def sigmoid(xp: Any, params: Any, x: Any) -> Any:
    return 1 / (1 + xp.exp(-x))


class Softmax:
    def forward(self, x: Any) -> Any:
        e = np.exp(x - x.max(-1, keepdims=True))
        self.p = e / e.sum(-1, keepdims=True)
        return self.p

    def backward(self, dy: Any) -> Any:
        return self.p * (dy - (dy * self.p).sum(-1, keepdims=True))


def softmax(xp: Any, params: Any, x: Any) -> Any:
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


class LayerNorm:
    def __init__(self) -> None:
        self.params = {"g": np.array([1.0, 2.0, 0.5, 1.5, -1.0]), "b": np.array([0.1, 0.2, 0.3, 0.4, 0.5])}
        self.grads: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        self.s = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        self.h = centred / self.s
        return self.h * self.params["g"] + self.params["b"]

    def backward(self, dy: Any) -> Any:
        self.grads = {"g": (dy * self.h).sum(0), "b": dy.sum(0)}
        dh = dy * self.params["g"]
        return (dh - dh.mean(-1, keepdims=True) - self.h * (dh * self.h).mean(-1, keepdims=True)) / self.s


def layer_norm(xp: Any, params: Any, x: Any) -> Any:
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * params["g"] + params["b"]


class Cumulative:
    def forward(self, x: Any) -> Any:
        return x.cumsum(1)

    def backward(self, dy: Any) -> Any:
        return dy[:, ::-1].cumsum(1)[:, ::-1]


def cumulative(xp: Any, params: Any, x: Any) -> Any:
    return xp.cumulative_sum(x, axis=1)


def spoil(base: Any, quantity: str, change: Change) -> Any:
    """Return the layer with one gradient changed: `change(layer, dy, gradient)` gives the wrong one."""

    class Spoilt(base):  # type: ignore[misc]  # reason: the base is only known here
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            if quantity == "dx":
                return change(self, dy, dx)
            self.grads[quantity[1:]] = change(self, dy, self.grads[quantity[1:]])
            return dx

    return Spoilt


FORMULAS = {Swish: swish, Linear: linear, Sigmoid: sigmoid, Softmax: softmax, LayerNorm: layer_norm, Cumulative: cumulative}
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


def draw(kind: Any, formula: Any) -> list[Any]:
    return list(draw_trials(LayerSpec(kind, formula, [(8, 5)]), "float64", 7, 0))


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


@pytest.mark.parametrize("base", list(FORMULAS))
def test_right_gradients_have_no_diagnosis(base: Any) -> None:
    trials = draw(base, FORMULAS[base])
    for quantity in ["dx", *(f"d{name}" for name in trials[0].problem.params[trials[0].node])]:
        assert diagnose_layer(trials, quantity) == NOTHING_FITS


def test_gradients_that_are_no_numbers_have_no_diagnosis() -> None:
    assert diagnose_layer(draw(spoil(Swish, "dx", lambda s, dy, g: g * np.nan), swish), "dx") == NOTHING_FITS
    assert diagnose_layer(draw(spoil(Linear, "dW", lambda s, dy, g: None), linear), "dx") == NOTHING_FITS


class Gelu:
    """The approximation of GELU by tanh."""

    constant, slope = 0.044715, 1.0

    def forward(self, x: Any) -> Any:
        self.x, self.t = x, np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
        return 0.5 * x * (1 + self.t)

    def backward(self, dy: Any) -> Any:
        c = 0.7978845608028654
        t = np.tanh(c * (self.x + self.constant * self.x**3))
        inner = c * (1 + 3 * self.constant * self.x * self.x)
        return dy * (0.5 * (1 + t) + self.slope * 0.5 * self.x * (1 - t * t) * inner)


def gelu(xp: Any, params: Any, x: Any) -> Any:
    return 0.5 * x * (1 + xp.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


class RoundedGelu(Gelu):
    constant = 0.0447


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


def _relu_then_matrix(xp: Any, params: Any, x: Any) -> Any:
    return xp.maximum(x, 0.0) @ params["W"]


def _one_class(xp: Any, params: Any, x: Any, t: Any) -> Any:
    return xp.mean(0.1 * x * x)


class Rippled:
    """Wrong by a ripple that nothing explains, whatever the formula."""

    def __init__(self) -> None:
        self.params = {"W": np.random.default_rng(0).standard_normal((5, 3))}
        self.grads: dict[str, Any] = {}

    def forward(self, x: Any, t: Any = None) -> Any:
        self.x = x
        return np.maximum(x, 0) @ self.params["W"] if t is None else np.mean(0.1 * x * x)

    def backward(self, dy: Any) -> Any:
        ripple = 1 + 0.3 * np.sin(7 * np.arange(self.x.size)).reshape(self.x.shape)
        if np.ndim(dy) == 0:
            return ripple * 0.2 * self.x * dy / self.x.size, None
        self.grads = {"W": np.maximum(self.x, 0).T @ dy}
        return ripple * (dy @ self.params["W"].T * (self.x > 0))


def _draw_one_class(rng: np.random.Generator) -> Any:
    return rng.standard_normal((5, 1)), rng.integers(0, 1, 5)


@pytest.mark.parametrize(("formula", "inputs"), [(_relu_then_matrix, [(8, 5)]), (_one_class, _draw_one_class)])
def test_no_family_fails_on_shapes_that_it_does_not_expect(formula: Any, inputs: Any) -> None:
    params = None if formula is _relu_then_matrix else {}
    (trial, *_) = draw_trials(LayerSpec(Rippled, formula, inputs, params), "float64", 1, 0)
    scene = set_scene(trial, "dx", run_once(trial)["dx"])
    with quiet():
        assert sum(len(list(predict(scene))) for predict in find_families()) > 20
    assert diagnose_layer([trial], "dx") == NOTHING_FITS


def test_what_a_family_raises_loses_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scene: Any) -> Any:
        yield from ()
        raise ValueError("more than it can take")

    families = (broken, *find_families())
    monkeypatch.setattr("harness.custom.diagnose.find_families", lambda: families)
    found = diagnose_layer(draw(spoil(Swish, "dx", lambda s, dy, g: -g), swish), "dx")
    assert found.cause == "sign"


class Leaky:
    """x where it is positive, else a hundredth of it; `gate` is where its backward pass takes x for positive."""

    def gate(self) -> Any:
        return self.x > 0

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.where(x > 0, x, 0.01 * x)

    def backward(self, dy: Any) -> Any:
        return np.where(self.gate(), dy, 0.01 * dy)


def leaky(xp: Any, params: Any, x: Any) -> Any:
    return xp.where(x > 0, x, 0.01 * x)


class LeakyByMagnitude(Leaky):
    """dy itself wherever |x| is more than 0.01: in a trial without any so small there is nothing else to see."""

    def gate(self) -> Any:
        return np.abs(self.x) > 0.01


def test_a_fault_that_another_trial_refutes_gives_way_to_one_that_fits_there_too() -> None:
    trials = draw(LeakyByMagnitude, leaky)
    small = [bool((np.abs(trial.problem.inputs["x"]) <= 0.01).any()) for trial in trials]
    seen = [trial for trial, one in zip(trials, small, strict=True) if not one]
    assert any(small)
    assert len(seen) > 2
    assert diagnose_layer(seen, "dx").cause == "identity"
    for order in (trials, [*seen, *(trial for trial in trials if trial not in seen)]):
        assert diagnose_layer(order, "dx").cause == "mask"


class LateRipple(Swish):
    """Its gradient is negated; where it is large, there is a ripple on it as well, which nothing explains."""

    def backward(self, dy: Any) -> Any:
        dx = -super().backward(dy)
        return dx * (1 + 0.3 * np.sin(7 * self.x)) if np.abs(self.x).max() > 10 else dx


def test_a_fault_that_some_trials_refute_is_told_with_the_number_of_those_that_have_it() -> None:
    trials = draw(LateRipple, swish)
    found = diagnose_layer(trials, "dx")
    assert found.cause == "sign"
    assert found.words == "its sign is wrong (so it is in 6 of 7 trials, and not quite so in the others)"
    assert diagnose_layer([trials[3], *trials[:2]], "dx") == NOTHING_FITS  # where few are looked at, it must fit in all


def test_what_rounding_leaves_in_a_narrow_dtype_refutes_nothing() -> None:
    found = diagnose_layer(list(draw_trials(LayerSpec(RoundedGelu, gelu, [(8, 5)]), "float32", 7, 0)), "dx")
    assert found.cause == "constant"
    assert "trials" not in found.words


class Filter:
    """Three weights moved along the rows; its backward pass moves them as the forward pass does, and must turn them round."""

    def forward(self, x: Any) -> Any:
        wide = np.pad(x, ((0, 0), (1, 1)))
        return sum(weight * wide[:, i : i + x.shape[1]] for i, weight in enumerate((0.5, 1.0, -0.3)))

    def backward(self, dy: Any) -> Any:
        return self.forward(dy)


def moved(xp: Any, params: Any, x: Any) -> Any:
    edge = xp.zeros_like(x[:, :1])
    wide = xp.concat([edge, x, edge], axis=1)
    return 0.5 * wide[:, :-2] + 1.0 * wide[:, 1:-1] + -0.3 * wide[:, 2:]


def test_weights_that_are_not_turned_round_do_not_run_in_a_direction() -> None:
    found = diagnose_layer(draw(Filter, moved), "dx")
    assert found.cause == "transposed"
    assert "direction" not in found.words


class BatchNorm:
    """Over the batch: in a batch of 1 nothing flows back, and one wrong axis is like another."""

    def forward(self, x: Any) -> Any:
        c = x - x.mean(0)
        self.s = np.sqrt((c * c).mean(0) + 1e-5)
        self.h = c / self.s
        return self.h

    def backward(self, dy: Any) -> Any:
        return (dy - dy.mean(1, keepdims=True) - self.h * (dy * self.h).mean(0)) / self.s


def batch_norm(xp: Any, params: Any, x: Any) -> Any:
    c = x - xp.mean(x, axis=0)
    return c / xp.sqrt(xp.mean(c * c, axis=0) + 1e-5)


def test_trials_in_which_nothing_should_have_come_are_looked_at_last() -> None:
    trials = draw(BatchNorm, batch_norm)
    assert any(trial.problem.dy.shape[0] == 1 for trial in trials)
    found = diagnose_layer(trials, "dx")
    assert found.cause == "wrong-axis"
    assert "mean(dy, axis=0) runs over axis 1" in found.words


def test_what_a_pass_rounds_in_its_own_dtype_is_nothing_to_explain() -> None:
    trials = list(draw_trials(LayerSpec(Swish, swish, [(8, 5)]), "float32", 7, 0))
    assert diagnose_layer(trials, "dx") == NOTHING_FITS


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        (lambda s, dy, g: 1.01 * g, True),
        (lambda s, dy, g: g, False),
        (lambda s, dy, g: g * (1.01 if dy.dtype == np.float64 else 0.99), False),
        (lambda s, dy, g: g * (1.01 if dy.dtype == np.float64 else 1), False),
        (lambda s, dy, g: g[:1] if dy.dtype == np.float64 else g * 1.01, False),
    ],
)
def test_errors_of_two_dtypes_are_alike_where_the_layer_errs_by_the_same(change: Change, alike: bool) -> None:
    spec = LayerSpec(spoil(Swish, "dx", change), swish, [(8, 5)])
    single, double = (next(draw_trials(spec, dtype, 1, 0)) for dtype in ("float32", "float64"))
    assert err_alike(single, double, "dx") is alike


def test_a_deep_formula_is_diagnosed_in_time_that_grows_as_it_does() -> None:
    def chain(xp: Any, params: Any, x: Any) -> Any:
        for _ in range(30):
            x = x + 0.01 * x * xp.tanh(x)
        return x

    class Chain:
        def forward(self, x: Any) -> Any:
            self.seen = [x]
            for _ in range(30):
                self.seen.append(self.seen[-1] + 0.01 * self.seen[-1] * np.tanh(self.seen[-1]))
            return self.seen[-1].copy()

        def backward(self, dy: Any) -> Any:
            for x in self.seen[-2::-1]:
                dy = dy * (1 + 0.01 * np.tanh(x))
            return dy

    (trial, *_) = draw_trials(LayerSpec(Chain, chain, [(4, 3)]), "float64", 1, 0)
    scene = set_scene(trial, "dx", run_once(trial)["dx"])
    with quiet():
        tried = sum(len(list(predict(scene))) for predict in find_families())
    assert 20 < tried < 20_000
    assert scene.spent[0] > 0
