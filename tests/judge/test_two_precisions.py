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


class Masked(Attends):
    """A softmax of scores that a second input masks."""

    def forward(self, x: Any, mask: Any) -> Any:
        return super().forward(np.array(x, x.dtype, subok=False) + np.array(mask, mask.dtype, subok=False))

    def backward(self, dy: Any) -> Any:
        return super().backward(dy), None


@pytest.mark.parametrize("least", [-1e9, -1e30, float(np.finfo(np.float32).min)])
def test_an_array_of_no_part_in_a_gradient_makes_no_room_in_it(least: float) -> None:
    mask = np.where(np.tril(np.ones((6, 8))) > 0, 0.0, least)
    noise = find_noise(Masked, {}, [draw(1, 1), mask], DY, "float32", constants=(1,))
    assert noise.how == "difference"
    assert THRESHOLD * noise.sigma["dx"].max() < 1e-5


class Steep(Plain):
    """Saturates at inputs of 1 and less."""

    def compute(self, x: Any) -> Any:
        return super().compute(50 * x)

    def differentiate(self, dy: Any) -> Any:
        return 50 * super().differentiate(dy)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [0.3, 1, 10])
def test_a_steep_function_has_noise_too(scale: float, dtype: str) -> None:
    reasons = [find_noise(Steep, {}, [draw(scale, seed)], DY, dtype).reason for seed in range(8)]
    assert set(reasons) == {"y, dx came back plain: rounding noise escapes the code"}


class Area(Plain):
    """The inverse of cosh, of which calmer inputs know nothing."""

    def compute(self, x: Any) -> Any:
        return np.arccosh(x)

    def differentiate(self, dy: Any) -> Any:
        return dy / np.sqrt(self.x * self.x - 1)


class AreaWithEpsilon(Area):
    def differentiate(self, dy: Any) -> Any:
        return super().differentiate(dy) + 20 * np.finfo(dy.dtype).eps * dy


class AreaInFloat32(Area):
    def compute(self, x: Any) -> Any:
        self.x = x.astype(np.float32)
        return np.arccosh(self.x).astype(x.dtype)

    def differentiate(self, dy: Any) -> Any:
        return super().differentiate(dy.astype(np.float32)).astype(dy.dtype)


@pytest.mark.parametrize(("kind", "said"), [(AreaWithEpsilon, "dx (by "), (AreaInFloat32, "did not follow changes")])
def test_calmer_inputs_without_a_number_excuse_nothing(kind: Any, said: str) -> None:
    x = np.random.default_rng(1).uniform(50, 300, (6, 8))
    assert find(Area, x).how == "difference"
    noise = find(kind, x)
    assert noise.how == "unknown"
    assert said in noise.reason


class Cut(Plain):
    """A softplus that is cut where the dtype says, beside an array that makes numbers large."""

    def forward(self, x: Any, other: Any) -> Any:
        return super().forward(x) + np.array(other, other.dtype, subok=False)

    def compute(self, x: Any) -> Any:
        return np.logaddexp(0, x)

    def backward(self, dy: Any) -> Any:
        return super().backward(dy), np.array(dy, dy.dtype, subok=False)

    def differentiate(self, dy: Any) -> Any:
        beyond = self.x > -np.log(np.finfo(dy.dtype).eps) / 2
        return dy * np.where(beyond, 1, 1 / (1 + np.exp(-self.x))).astype(dy.dtype)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_an_array_of_no_part_in_a_gradient_excuses_nothing(size: float) -> None:
    x = np.random.default_rng(1).uniform(7, 14, (6, 8))
    noise = find_noise(Cut, {}, [x, np.full((6, 8), size)], DY, "float32")
    assert noise.is_biased
    assert noise.reason.startswith("dx0 (by ")


def test_an_output_that_is_another_one_in_each_dtype_is_told() -> None:
    class Sign(Plain):
        def compute(self, x: Any) -> Any:
            factor = 1 - 64 * np.finfo(x.dtype).eps
            return np.where(np.abs(x) > 2, np.sign(x) * factor, x / 2).astype(x.dtype)

        def differentiate(self, dy: Any) -> Any:
            return np.where(np.abs(self.x) > 2, 0, dy / 2).astype(dy.dtype)

    noise = find(Sign, draw(8, 1))
    assert noise.is_biased
    assert noise.reason.startswith("y (by ")
