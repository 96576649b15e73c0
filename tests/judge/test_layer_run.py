"""Strangers' classes come in; their runs give every quantity by name, or one line that says what came back instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.judge.layer_run import (
    ULPS,
    WIDER,
    Experiment,
    Unrunnable,
    disturb,
    find_blindness,
    make_cast,
    run_layer,
    run_precisely,
)

RNG = np.random.default_rng(3)
X, W, DY = RNG.standard_normal((6, 5)), RNG.standard_normal((5, 4)), RNG.standard_normal((6, 4))
LABELS = np.arange(6)
DOUBLE = np.dtype(np.float64)


class Product:
    """tanh(x) W, with labels that nothing is done with."""

    def __init__(self, W: Any) -> None:
        self.params, self.grads = {"W": W}, dict[str, Any]()

    def inner(self, value: Any) -> Any:
        return value

    def forward(self, x: Any, labels: Any) -> Any:
        self.t = np.tanh(self.inner(x))
        return self.t @ self.params["W"]

    def backward(self, dy: Any) -> Any:
        self.grads["W"] = self.t.T @ dy
        return dy @ self.params["W"].T * (1 - self.t**2), None


def experiment(kind: Any = Product, dtype: Any = np.float32) -> Experiment:
    return Experiment(kind, {"W": W.astype(dtype)}, (X.astype(dtype), LABELS), frozenset({1}), DY.astype(dtype))


def difference(given: Experiment, low: Any, high: Any) -> dict[str, Any]:
    fine, coarse = (run_layer(given, make_cast(dtype)) for dtype in (high, low))
    return {name: np.abs(coarse[name].astype(high) - value).astype(np.float64) for name, value in fine.items()}


def blindness(kind: Any, low: Any, high: Any) -> str:
    given = experiment(kind, low)
    return find_blindness(given, np.dtype(high), np.dtype(low), np.random.default_rng(1), difference(given, low, high))


def test_every_quantity_has_its_name_and_its_numbers():
    values = run_layer(experiment(), make_cast(DOUBLE))
    x, w, dy = (value.astype(np.float32).astype(np.float64) for value in (X, W, DY))
    right = {"y": np.tanh(x) @ w, "dx": dy @ w.T * (1 - np.tanh(x) ** 2), "dW": np.tanh(x).T @ dy}
    assert set(values) == set(right)
    assert all(np.allclose(values[name], right[name], rtol=1e-12) for name in right)


def test_a_layer_gets_fresh_arrays_every_time():
    class Spoils(Product):
        def forward(self, x: Any, labels: Any) -> Any:
            y = super().forward(x, labels)
            x[...], labels[...], self.params["W"] = 0, 0, self.params["W"] * 1
            return y

    given = experiment(Spoils)
    first, second = run_layer(given, make_cast(DOUBLE)), run_layer(given, make_cast(DOUBLE))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.array_equal(given.inputs[1], np.arange(6))


def test_what_a_layer_changes_after_it_returned_it_is_not_seen():
    class Reuses(Product):
        def forward(self, x: Any, labels: Any) -> Any:
            self.y = super().forward(x, labels)
            return self.y

        def backward(self, dy: Any) -> Any:
            self.y[...] = np.nan
            return super().backward(dy)

    assert np.isfinite(run_layer(experiment(Reuses), make_cast(DOUBLE))["y"]).all()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "no dx came back"),
        ((None, None), "no dx came back"),
        ([X, None], "backward returned a list"),
        ((X[:2], None), r"dx came back in the shape \[2, 5\]; it must be \[6, 5\]"),
        ((X.astype(int), None), "dx came back as int64"),
        ((X.astype(object), None), "dx came back as object"),
    ],
)
def test_what_is_no_gradient_is_told(returned, said):
    class Returns(Product):
        def backward(self, dy: Any) -> Any:
            super().backward(dy)
            return returned

    with pytest.raises(Unrunnable, match=said):
        run_layer(experiment(Returns), make_cast(DOUBLE))


def test_what_a_layer_raises_is_told():
    class Raises(Product):
        def backward(self, dy: Any) -> Any:
            raise KeyError("cache")

    class Forgets(Product):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads.clear()
            return dx

    with pytest.raises(Unrunnable, match="KeyError: 'cache'"):
        run_layer(experiment(Raises), make_cast(DOUBLE))
    with pytest.raises(Unrunnable, match="no dW came back"):
        run_layer(experiment(Forgets), make_cast(DOUBLE))


def test_disturbed_numbers_are_a_few_ulps_away_and_zeros_stay():
    given = experiment().change(lambda value: np.where(value > 1, np.zeros_like(value), value))
    moved = disturb(given, np.random.default_rng(0))
    for before, after in ((given.inputs[0], moved.inputs[0]), (given.params["W"], moved.params["W"]), (given.dy, moved.dy)):
        steps = np.abs(after.astype(float) - before) / np.spacing(np.abs(before)).astype(float)
        assert after.dtype == before.dtype
        assert steps.max() <= ULPS + 1
        assert (after != before).mean() > 0.5
        assert (after[before == 0] == 0).all()
    assert moved.inputs[1] is given.inputs[1]


def test_disturbing_the_largest_number_makes_no_infinity():
    largest = np.finfo(np.float32).max
    given = experiment().change(lambda value: np.full_like(value, largest))
    assert np.isfinite(disturb(given, np.random.default_rng(0)).dy).all()


def test_a_dtype_written_into_the_code_is_told():
    class Casts(Product):
        def backward(self, dy: Any) -> Any:
            dx, _ = super().backward(dy)
            return dx.astype(np.float32), None

    assert run_precisely(experiment(Casts), np.float32)["dx"].dtype == np.float32
    with pytest.raises(Unrunnable, match="dx came back as float32 from inputs in float64"):
        run_precisely(experiment(Casts), DOUBLE)


class Through32(Product):
    """Computes in float32 whatever comes in, and hides it."""

    def inner(self, value: Any) -> Any:
        return value.astype(np.float32).astype(value.dtype)


class Through64(Product):
    """The same by float64, as `float(x)` or LAPACK would."""

    def inner(self, value: Any) -> Any:
        return value.astype(np.float64).astype(value.dtype)


@pytest.mark.parametrize(("low", "high"), [(np.float32, np.float64), (np.float64, np.longdouble)])
def test_code_that_runs_in_the_precision_follows_every_change(low, high):
    assert blindness(Product, low, high) == ""


@pytest.mark.parametrize(("kind", "low", "high"), [(Through32, np.float32, np.float64), (Through64, np.float64, np.longdouble)])
def test_code_that_hides_a_coarser_step_is_blind(kind, low, high):
    assert blindness(kind, low, high) == "y, dx, dW"


def test_what_is_no_coarser_than_the_precision_hides_nothing():
    assert blindness(Through64, np.float32, np.float64) == ""


def test_a_slope_below_what_rounding_makes_of_a_small_step_is_no_blindness():
    """dx of two rows normalised cancels to a millionth: even float64's rounding is larger than so small a step moves it."""

    class Cancels(Product):
        def backward(self, dy: Any) -> Any:
            dx, rest = super().backward(dy)
            return (dx + 1e5) / 3 * 3 - 1e5 - dx + 1e-8 * dx, rest

    assert blindness(Cancels, np.float32, np.float64) == ""


def test_wider_steps_are_only_taken_where_numbers_are_stored_as_computed():
    rng = np.random.default_rng(0)
    x = np.ones((40, 40), np.float32)
    experiment = Experiment(object, {}, (x,), frozenset(), x)
    near, far = (np.abs(disturb(experiment, rng, wider).inputs[0] - 1).max() for wider in (1, WIDER))
    assert near <= 3 * 2.0**-23 < 2.0**-15 < far <= 3 * WIDER * 2.0**-23
    stored = Experiment(object, {}, (x,), frozenset(), x, "bfloat16")
    assert np.abs(disturb(stored, rng, WIDER).inputs[0] - 1).max() <= 3 * 2.0**-7
