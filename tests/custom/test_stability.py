"""Right layers that lose much to rounding, and little, come in; that the first alone are told to must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness import check_layer
from harness.core import BadInput
from tests.custom.spoilt import Gelu, LayerNorm, gelu, layer_norm

VALUES = ["forward", "gradients", "power"]


class NaiveLayerNorm(LayerNorm):
    """The variance as the mean of squares less the squared mean: right, and unstable far from 0."""

    def forward(self, x):
        mean = x.mean(-1, keepdims=True)
        self.s = np.sqrt((x * x).mean(-1, keepdims=True) - mean * mean + 1e-5)
        self.h = (x - mean) / self.s
        return self.h * self.params["g"] + self.params["b"]


def far_from_0(rng):
    return [rng.standard_normal((8, 5)) + 30.0]


@pytest.mark.parametrize("kind", [NaiveLayerNorm, LayerNorm])
def test_an_unstable_layer_is_told_from_a_stable_one_and_neither_is_wrong(kind):
    report = check_layer(kind, layer_norm, inputs=far_from_0, against=["torch"], checks=VALUES, dtypes=["float64"])
    told = [text for text in report.findings if "unstable" in text]
    assert bool(told) is (kind is NaiveLayerNorm)
    assert all("times as much of it as of its formula" in text for text in told)


def test_where_instability_hides_every_error_the_message_says_so():
    report = check_layer(
        NaiveLayerNorm, layer_norm, inputs=lambda rng: [rng.standard_normal((8, 5)) + 100.0], against=["torch"], checks=VALUES,
        dtypes=["float32"], on_fail="report",
    )  # fmt: skip
    (result,) = report.failures
    assert result.check == "power"
    assert "no trial could have shown an error of 1 % in dg, dx" in result.message
    assert "unstable: rounding takes up to" in result.message


class Float64Inside(Gelu):
    constant = np.float64(0.044715)


def test_a_float64_number_in_float32_code_is_named():
    report = check_layer(Float64Inside, gelu, inputs=[(4, 3)], against=[], on_fail="report", checks=VALUES)
    (result,) = report.failures
    assert (result.check, result.dtype, result.causes) == ("gradients", "float32", ("cast",))
    assert "the dtype is float64; it must be float32" in result.message
    assert "a float64 number or array inside" in report.describe()


class Single(Gelu):
    def forward(self, x):
        return super().forward(x.astype(np.float32))

    def backward(self, dy):
        return super().backward(dy.astype(np.float32))


def test_a_layer_that_computes_in_float32_alone_is_told_how_to_be_checked():
    report = check_layer(Single, gelu, inputs=[(4, 3)], against=[], on_fail="report", checks=VALUES)
    assert "have it checked with dtypes=['float32']" in report.describe()
    assert check_layer(Single, gelu, inputs=[(4, 3)], against=[], checks=VALUES, dtypes=["float32"]).passed


def test_a_formula_of_several_outputs_is_refused_with_the_way_out():
    with pytest.raises(BadInput, match=r"formula: it returns 2 outputs; accepted is one array.*adjust\(layer, join=True\)"):
        check_layer(Gelu, lambda xp, params, x: (x, x), inputs=[(4, 3)], against=[])


class TanhLayer:
    """tanh(x W), saturated."""

    def __init__(self):
        self.params, self.grads = {"W": np.random.default_rng(0).standard_normal((4, 4))}, {}

    def forward(self, x):
        self.x, self.h = x, np.tanh(x @ self.params["W"])
        return self.h.copy()

    def backward(self, dy):
        dz = dy * (1 - self.h**2)
        self.grads = {"W": self.x.T @ dz}
        return dz @ self.params["W"].T


@pytest.mark.parametrize("seed", range(4))
def test_no_framework_is_accused_of_the_rounding_of_tanh_behind_a_product(seed):
    report = check_layer(TanhLayer, lambda xp, params, x: xp.tanh(x @ params["W"]), inputs=[(6, 4)], against=["jax"], seed=seed,
                         dtypes=["float64"], checks=VALUES, on_fail="report")  # fmt: skip
    assert report.passed, report.describe()
