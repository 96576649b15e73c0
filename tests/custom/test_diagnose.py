"""Trials of wrong layers come in; what is looked for in them, refuted by them and told of them must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.diagnose import NOTHING_FITS, diagnose_layer, err_alike, find_families
from harness.custom.scene import run_once, set_scene
from harness.custom.spec import LayerSpec
from harness.custom.trials import draw_trials
from harness.isolation import quiet
from tests.custom import formulas
from tests.custom.layers import Linear, Swish, linear, swish
from tests.custom.spoilt import FORMULAS, Change, RoundedGelu, draw, gelu, spoil


@pytest.mark.parametrize("base", list(FORMULAS))
def test_right_gradients_have_no_diagnosis(base: Any) -> None:
    trials = draw(base, FORMULAS[base])
    for quantity in ["dx", *(f"d{name}" for name in trials[0].problem.params[trials[0].node])]:
        assert diagnose_layer(trials, quantity) == NOTHING_FITS


def test_gradients_that_are_no_numbers_have_no_diagnosis() -> None:
    assert diagnose_layer(draw(spoil(Swish, "dx", lambda s, dy, g: g * np.nan), swish), "dx") == NOTHING_FITS
    assert diagnose_layer(draw(spoil(Linear, "dW", lambda s, dy, g: None), linear), "dx") == NOTHING_FITS


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


def test_trials_in_which_nothing_should_have_come_are_looked_at_last() -> None:
    trials = draw(BatchNorm, formulas.batch_norm)
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
