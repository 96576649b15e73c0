"""Code that saturates, that casts and that is another one in each dtype comes in; that only the latter two are told must hold.

None of it can be followed by noise: it computes on plain arrays, as the code of frameworks does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.judge.estimate import THRESHOLD, NoiseEstimate, find_noise

DY = np.random.default_rng(6).standard_normal((6, 8))


class Plain:
    """Takes what it is given out of arrays that carry noise."""

    def __init__(self) -> None:
        self.grads: dict[str, Any] = {}

    def forward(self, x: Any) -> Any:
        self.x = np.array(x, x.dtype, subok=False)
        return self.compute(self.x)

    def backward(self, dy: Any) -> Any:
        return self.differentiate(np.array(dy, dy.dtype, subok=False))

    def compute(self, x: Any) -> Any:
        self.y = np.tanh(x)
        return self.y.copy()

    def differentiate(self, dy: Any) -> Any:
        return dy * (1 - self.y * self.y)


class InFloat32(Plain):
    """Computes in float32 whatever it is given."""

    def compute(self, x: Any) -> Any:
        return super().compute(x.astype(np.float32)).astype(x.dtype)


class WithEpsilon(Plain):
    """Has an epsilon that the dtype sets."""

    def differentiate(self, dy: Any) -> Any:
        return super().differentiate(dy) + dy * np.sqrt(np.finfo(dy.dtype).eps)


class Attends(Plain):
    """A softmax along the rows."""

    def compute(self, x: Any) -> Any:
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = powers / powers.sum(axis=1, keepdims=True)
        return self.y.copy()

    def differentiate(self, dy: Any) -> Any:
        return self.y * (dy - (self.y * dy).sum(axis=1, keepdims=True))


def draw(scale: float, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((6, 8)).astype(np.float32) * np.float32(scale)


def find(kind: Any, x: Any) -> NoiseEstimate:
    return find_noise(kind, {}, [x], DY, "float32")


def find_error(kind: Any, x: Any, noise: NoiseEstimate) -> float:
    """Return the largest error of dx in float32 against the same formula in longdouble, in sigma."""

    def run(to: Any) -> Any:
        layer = kind()
        layer.forward(x.astype(to))
        return layer.backward(DY.astype(np.float32).astype(to))

    return float(np.max(np.abs(run(np.float32) - run(np.longdouble)) / noise.sigma["dx"]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scale", [1, 4, 12, 40, 200])
@pytest.mark.parametrize("kind", [Plain, Attends])
def test_right_code_has_noise_where_it_saturates(kind: Any, scale: float, seed: int) -> None:
    x = draw(scale, seed)
    noise = find(kind, x)
    assert noise.how == "difference", noise.reason
    assert find_error(kind, x, noise) <= THRESHOLD


@pytest.mark.parametrize("scale", [1, 12, 40])
def test_code_no_finer_than_the_dtype_has_no_known_noise(scale: float) -> None:
    noise = find(InFloat32, draw(scale, 1))
    assert noise.how == "unknown"
    assert "did not follow changes that float32 cannot hold" in noise.reason


@pytest.mark.parametrize("scale", [1, 4, 12])
def test_code_that_is_another_one_in_each_dtype_is_told(scale: float) -> None:
    noise = find(WithEpsilon, draw(scale, 1))
    assert noise.is_biased
    assert noise.reason.startswith("dx (by ")


def test_a_difference_beyond_what_cancels_is_told_where_calmer_inputs_have_none() -> None:
    class AtLargeInputs(Plain):
        """Returns 1 % more in float32, of large inputs alone."""

        def differentiate(self, dy: Any) -> Any:
            return super().differentiate(dy) * np.where((dy.dtype == np.float32) & (np.abs(self.x) > 1), 1.01, 1).astype(dy.dtype)

    noise = find(AtLargeInputs, draw(2, 1))
    assert noise.is_biased
    assert noise.reason.startswith("dx (by 0.0")
