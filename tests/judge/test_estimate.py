"""Strangers' layers come in; the noise of right ones covers their errors, that of wrong ones does not, and none is guessed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from benchmarks.noise_calibration import measure_trial
from benchmarks.noise_layers import CORRECT, FAULTY, HandLayer
from harness.core import BadInput
from harness.judge.estimate import THRESHOLD, find_noise

X = np.random.default_rng(5).standard_normal((6, 8))
DY = np.random.default_rng(6).standard_normal((6, 8))


class Scaled(HandLayer):
    """x tanh(3 x / 7), whose passes are given by `wrap` what they compute with."""

    def wrap(self, value: Any) -> Any:
        return value

    def forward(self, x: Any) -> Any:
        self.x = self.wrap(x)
        self.t = np.tanh(self.x * 3 / 7)
        return self.x * self.t

    def backward(self, dy: Any) -> Any:
        return self.wrap(dy) * (self.t + self.x * (1 - self.t**2) * 3 / 7)


class AsArray(Scaled):
    def wrap(self, value: Any) -> Any:
        return np.asarray(value)


class Contiguous(Scaled):
    def wrap(self, value: Any) -> Any:
        return np.ascontiguousarray(value)


class Filled(Scaled):
    def wrap(self, value: Any) -> Any:
        out = np.zeros(value.shape, value.dtype)
        out[...] = value
        return out


class Strided(Scaled):
    def wrap(self, value: Any) -> Any:
        return np.array(np.lib.stride_tricks.as_strided(value, value.shape, value.strides), value.dtype)


class Scalars(Scaled):
    def wrap(self, value: Any) -> Any:
        return np.array([[float(number) for number in row] for row in value], value.dtype)


class Scattered(Scaled):
    def backward(self, dy: Any) -> Any:
        out = np.zeros(dy.shape, dy.dtype)
        np.add.at(out, (slice(None), np.arange(dy.shape[1])), super().backward(dy))
        return out


class ByEinsum(Scaled):
    def backward(self, dy: Any) -> Any:
        return np.einsum("ij,ij->ij", dy, self.t + self.x * (1 - self.t**2) * 3 / 7)


class ByDot(Scaled):
    def backward(self, dy: Any) -> Any:
        return np.eye(len(dy), dtype=dy.dtype).T.dot(super().backward(dy))


class BySolving(Scaled):
    def backward(self, dy: Any) -> Any:
        return np.linalg.solve(np.eye(len(dy), dtype=dy.dtype), super().backward(dy))


IDIOMS = (AsArray, Contiguous, Filled, Strided, Scalars, Scattered, BySolving, ByDot)
SEEN = (Scaled, ByEinsum)
FLOAT64_INSIDE = (BySolving, Scalars)  # LAPACK has no longdouble, and float() holds a float64


def find(kind: Any, dtype: str) -> Any:
    return find_noise(kind, {}, [X], DY, dtype)


def errors(kind: Any, dtype: str, sigma: Any) -> float:
    """Return the largest error of dx in float32 or float64 against the same code in longdouble, in sigma."""

    def run(to: Any) -> Any:
        layer = Scaled() if to is np.longdouble else kind()
        layer.forward(X.astype(dtype).astype(to))
        return layer.backward(DY.astype(dtype).astype(to))

    return float(np.max(np.abs(run(dtype) - run(np.longdouble)) / sigma))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", SEEN)
def test_what_stays_inside_is_hashed(kind, dtype):
    noise = find(kind, dtype)
    assert (noise.how, noise.reason) == ("hashed", "")
    assert 0.01 < errors(kind, dtype, noise.sigma["dx"]) < THRESHOLD


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", IDIOMS)
def test_what_escapes_is_noticed_and_measured_between_two_precisions(kind, dtype):
    noise = find(kind, dtype)
    if kind in FLOAT64_INSIDE and dtype == "float64":
        assert (noise.how, noise.sigma) == ("unknown", {})
        return
    assert noise.how == "difference" or (kind is Scattered and noise.how == "hashed")
    assert noise.reason or noise.how == "hashed"
    assert 0.01 < errors(kind, dtype, noise.sigma["dx"]) < THRESHOLD


def test_code_that_runs_in_one_precision_alone_has_no_known_noise():
    class Single(AsArray):
        def forward(self, x: Any) -> Any:
            return super().forward(np.asarray(x, np.float32))

    noise = find(Single, "float64")
    assert (noise.how, dict(noise.sigma)) == ("unknown", {})
    assert noise.reason


def test_a_layer_that_keeps_a_state_has_no_known_noise():
    class Remembers(Scaled):
        calls = 0

        def forward(self, x: Any) -> Any:
            Remembers.calls += 1
            return super().forward(x) * Remembers.calls

    noise = find(Remembers, "float32")
    assert noise.how == "unknown"
    assert "keeps a state" in noise.reason


@pytest.mark.parametrize(
    ("returned", "said"),
    [(None, "no dx came back"), ([1.0], "a list"), (np.zeros((2, 2)), r"the shape \[2, 2\]"), (np.zeros((6, 8), int), "int64")],
)
def test_what_is_no_gradient_is_told(returned, said):
    class Wrong(Scaled):
        def backward(self, dy: Any) -> Any:
            return returned

    noise = find(Wrong, "float32")
    assert noise.how == "unknown"
    assert re.search(said, noise.reason)


def test_a_cast_inside_is_told_and_not_explained_away():
    class Half(Scaled):
        def backward(self, dy: Any) -> Any:
            return super().backward(dy.astype(np.float16)).astype(dy.dtype)

    noise = find(Half, "float32")
    assert noise.how == "hashed"
    assert "float16 inside" in noise.casts
    assert errors(Half, "float32", noise.sigma["dx"]) > THRESHOLD


def test_narrow_dtypes_leave_room_for_the_rounding_that_stores():
    wide, narrow = find(Scaled, "float32"), find(Scaled, "bfloat16")
    assert (narrow.sigma["dx"] * THRESHOLD > 2.0**-9 * 1e-3 * np.abs(DY).min()).all()
    assert np.median(narrow.sigma["dx"] / wide.sigma["dx"]) > 100


def test_an_unknown_dtype_is_bad_input():
    with pytest.raises(BadInput, match="dtype: 'float8'"):
        find(Scaled, "float8")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CORRECT)
def test_no_right_layer_leaves_its_noise(name, dtype):
    trials = [measure_trial(name, dtype, 1, trial) for trial in range(4)]
    assert all(trial["how"] == "unknown" or trial["error"] <= THRESHOLD for trial in trials)
    assert any(trial["how"] != "unknown" for trial in trials)


def test_what_cancels_in_both_precisions_still_has_noise():
    """A softmax so sharp that y (dy - sum y dy) is 0 in float32 and float64 alike, and not in truth."""
    assert measure_trial("Softmax", "float32", 1, 6)["error"] <= THRESHOLD


@pytest.mark.parametrize("name", sorted(set(FAULTY) - {"LayerNormOutside", "GeluSlope"}))
def test_a_planted_fault_leaves_it(name):
    trials = [measure_trial(name, dtype, 1, trial) for dtype in ("float32", "float64") for trial in range(2)]
    assert all(trial["error"] > THRESHOLD for trial in trials)


@pytest.mark.parametrize("name", ["LayerNormOutside", "GeluSlope"])
def test_a_fault_below_float32s_rounding_is_found_in_float64(name):
    assert all(measure_trial(name, "float64", 1, trial)["error"] > THRESHOLD for trial in range(3))


class Framework:
    """y = tanh(x), in a precision that follows the input's up to float64, as a framework computes it."""

    def __init__(self):
        self.grads = {}

    def forward(self, x):
        self.y = np.tanh(np.array(x, np.result_type(x) if np.asarray(x).dtype.itemsize <= 8 else object))
        return self.y.copy()

    def backward(self, dy):
        return np.asarray(dy) * (1 - self.y * self.y)


class Follows(Framework):
    follows_dtype = True


def test_noise_in_float64_is_scaled_from_float32_only_where_the_code_is_known_to_follow_the_dtype():
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((6, 4)), rng.choice([-1.0, 1.0], (6, 4))
    unknown, scaled = (find_noise(kind, {}, [x], dy, "float64") for kind in (Framework, Follows))
    assert (unknown.how, unknown.sigma) == ("unknown", {})
    assert (scaled.how, sorted(scaled.sigma)) == ("scaled", ["dx", "y"])
    t = np.tanh(x.astype(np.longdouble))
    truth, layer = dy * (1 - t * t), Follows()
    layer.forward(x)
    error = np.abs(layer.backward(dy) - truth)
    assert (error <= scaled.threshold * scaled.sigma["dx"]).all()
    assert scaled.threshold * scaled.sigma["dx"].max() < 1e-12
