"""Layers with a formula and two passes, and no bound, come in; they are judged by the noise of their own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core import DTYPES, PASSING, Case, NetworkSpec, NodeSpec
from harness.discovery import find_backends, find_layers
from harness.judge.propagate import exact
from harness.judge.rounding import make_rounding
from harness.judge.unbounded import NoiseUnknown, equip, has_bounds, is_estimated
from harness.shards import run_shard
from reference_layers import Affine, LayerBase, Pair

BACKENDS = find_backends()
ARITHMETIC = BACKENDS["numpy"].arithmetic


class Swish(LayerBase):
    """x sigmoid(x)."""

    name, place = "swish", "map"

    def forward(self, x):
        s = 1 / (1 + np.exp(-x))
        self.cache = (x, s)
        return x * s

    def backward(self, dy, cache=None):
        x, s = self._recall(cache)
        return dy * (s + x * s * (1 - s))

    @staticmethod
    def formula(xp, params, x):
        return x / (1 + xp.exp(-x))


class LayerNorm(LayerBase):
    """Rows normalised."""

    name, place, off = "layer_norm", "map", 0

    def __init__(self, g, b):
        super().__init__()
        self.params = {"g": g, "b": b}

    def forward(self, x):
        self.scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        self.hat = (x - x.mean(axis=1, keepdims=True)) * self.scale
        return self.params["g"] * self.hat + self.params["b"]

    def backward(self, dy, cache=None):
        self.grads = {"g": (dy * self.hat).sum(axis=0), "b": dy.sum(axis=0)}
        d, n = dy * self.params["g"], dy.shape[1] - self.off
        pulled = d.sum(axis=1, keepdims=True) / n + self.hat * (d * self.hat).sum(axis=1, keepdims=True) / n
        return self.scale * (d - pulled)

    @staticmethod
    def formula(xp, params, x):
        centred = x - xp.mean(x, axis=1, keepdims=True)
        variance = xp.mean(centred * centred, axis=1, keepdims=True)
        return params["g"] * (centred / xp.sqrt(variance + 1e-5)) + params["b"]

    @staticmethod
    def initial_params(rng, n_in, n_out):
        return {"g": rng.standard_normal(n_in), "b": rng.standard_normal(n_in)}


class SteepSwish(Swish):
    """Fault: one per cent too steep."""

    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        return dx * dx.dtype.type(1.01)


class UnbiasedNorm(LayerNorm):
    """Fault: N - 1 for N in the means of the backward pass."""

    off = 1


class SingleSwish(Swish):
    """A layer that takes float32 alone, and no subclass of an array."""

    def forward(self, x):
        if type(x) is not np.ndarray or x.dtype != np.float32:
            raise TypeError("float32 only")
        return super().forward(x)


RIGHT = {"swish": Swish, "layer_norm": LayerNorm}
NETWORK = NetworkSpec(
    {"x": 7, "t": 5},
    (
        NodeSpec("affine1", "affine", ("x",), 6),
        NodeSpec("s1", "swish", ("affine1",), 6),
        NodeSpec("n1", "layer_norm", ("s1",), 6),
        NodeSpec("affine2", "affine", ("n1",), 5),
        NodeSpec("loss", "softmax_cross_entropy", ("affine2", "t"), 0),
    ),
    20,
)


def judge(dtype: str, *backends: str, seed: int = 3, **changed: Any) -> list[Any]:
    layers = {**find_layers(), **RIGHT, **changed}
    found = [BACKENDS[name] for name in backends or ("numpy",)]
    return run_shard([Case(NETWORK, dtype, seed=seed)], found, layers, BACKENDS).comparisons


def test_only_what_has_no_bounds_gets_estimates():
    found = equip({"affine": Affine, "swish": Swish})
    assert found["affine"] is Affine
    assert has_bounds(found["swish"])
    assert is_estimated(found["swish"])
    assert not is_estimated(Affine)
    assert found["swish"].__name__ == "Swish"
    assert equip(found) == found
    assert equip({"swish": Swish})["swish"] is found["swish"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_right_layers_are_right_on_every_backend(dtype):
    rows = judge(dtype, "numpy", "torch", "jax")
    assert [(row.backend, row.node, row.quantity, row.message) for row in rows if row.fails] == []
    traced = [row for row in rows if row.backend != "jax"]
    assert {row.verdict for row in traced} == {"ok"}
    assert all("local" in row.check and "network" not in row.check for row in traced if row.layer != "fan-out")
    compiled = [row for row in rows if row.backend == "jax"]
    assert {row.check for row in compiled} == {"noise"}
    assert {(row.node, row.quantity) for row in compiled} >= {("loss", "y"), ("x", "dx"), ("n1", "dg"), ("affine1", "dW")}


@pytest.mark.parametrize("seed", range(12))
def test_right_layers_are_right_whatever_the_numbers(seed):
    dtype = DTYPES[seed % len(DTYPES)]
    assert {row.verdict for row in judge(dtype, seed=100 + seed)} == {"ok"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("node", "faulty"), [("s1", {"swish": SteepSwish}), ("n1", {"layer_norm": UnbiasedNorm})])
def test_a_wrong_layer_is_found_at_its_node(dtype, node, faulty):
    failing = [row for row in judge(dtype, "numpy", "torch", **faulty) if row.fails and "local" in row.check]
    local = [row for row in failing if row.local_error_in_bounds > 1 or row.lifted_error_in_bounds > 1]
    assert {(row.backend, row.node, row.quantity) for row in local if row.layer != "input"} == {("numpy", node, "dx")}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_where_the_noise_is_unknown_nothing_is_guessed_and_nothing_is_green(dtype):
    class Steeper(SingleSwish):
        def forward(self, x):
            return super().forward(x) * np.float32(1.02)

        def backward(self, dy, cache=None):
            return super().backward(dy * np.float32(1.02), cache)

    rows = {(row.node, row.quantity): row for row in judge(dtype, swish=Steeper)}
    assert (rows["s1", "y"].verdict, rows["s1", "dx"].verdict) == ("noise-unknown", "noise-unknown")
    assert rows["s1", "dx"].fails
    assert "float32 only" in rows["s1", "dx"].message
    assert {row.verdict for (node, _), row in rows.items() if node not in ("s1", "x")} <= PASSING


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_is_the_truth_rounded_once_is_right_whatever_the_noise_is(dtype):
    """float32 is fine enough for that where numbers are stored in 16 bits."""
    rows = {(row.node, row.quantity): row for row in judge(dtype, swish=SingleSwish)}
    assert (rows["s1", "y"].verdict, rows["s1", "dx"].verdict) == ("ok", "ok")


def test_what_is_missing_is_missing_whether_the_noise_is_known_or_not():
    class Forgets(SingleSwish):
        def backward(self, dy, cache=None):
            super().backward(dy, cache)
            return np.zeros((2, 2), dy.dtype)

    found = judge("float32", swish=Forgets)
    assert {row.verdict for row in found if row.fails} & {"shape", "error"}


def test_errors_that_come_in_are_beyond_an_estimate():
    kind = equip({"swish": Swish})["swish"]
    rounding = make_rounding("float32", ARITHMETIC, "layer")
    x = np.linspace(-2, 2, 5)
    bound = kind.forward_bound(rounding, {}, exact(x))
    assert ((bound > 0) | (x == 0)).all()
    assert (bound < 1e-5).all()
    with pytest.raises(NoiseUnknown, match="swish has no bound of its own"):
        kind.forward_bound(rounding, {}, Pair(x, np.full(5, 1e-3)))


def test_estimates_grow_with_the_unit_roundoff():
    kind, x = equip({"swish": Swish})["swish"], exact(np.linspace(-3, 3, 7))
    single, double = (kind.forward_bound(make_rounding(name, ARITHMETIC, "layer"), {}, x) for name in ("float32", "float64"))
    assert (single > 1e7 * double)[[0, 1, 2, 4, 5, 6]].all()
    with pytest.raises(NoiseUnknown, match="above float64"):
        kind.forward_bound(make_rounding(np.dtype(np.longdouble).name, ARITHMETIC, "layer"), {}, x)


def test_formulas_have_noise_of_their_own():
    """What differentiates the formula does other roundings than the hand-written passes do."""
    kind, x, dy = equip({"n": LayerNorm})["n"], np.linspace(-2, 2, 12).reshape(2, 6), np.ones((2, 6))
    params = LayerNorm.initial_params(np.random.default_rng(0), 6, 6)
    found = [
        kind.backward_bound(make_rounding("float32", ARITHMETIC, rule), params, exact(x), exact(dy))
        for rule in ("layer", "formula")
    ]
    assert all((bound.dx[0] > 0).all() and set(bound.dparams) == {"g", "b"} for bound in found)
    assert not np.array_equal(found[0].dx[0], found[1].dx[0])


class Bent(LayerBase):
    """A layer of one map, by hand and as formula."""

    place = "map"
    scale = 1.0

    @classmethod
    def sample_inputs(cls, rng, batch, width):
        return (cls.scale * rng.standard_normal((batch, width)),)


class Absolute(Bent):
    """|x|; autograd takes g x / |x|, which rounds where the layer does not."""

    name = "absolute"

    def forward(self, x):
        self.sign = np.sign(x)
        return np.abs(x)

    def backward(self, dy, cache=None):
        return dy * self.sign

    @staticmethod
    def formula(xp, params, x):
        return xp.abs(x)


class Elu(Bent):
    """x, or exp(x) - 1 below 0; autograd takes its slope as y + 1, which cancels far below 0 where the layer's does not."""

    name, scale = "elu", 30.0

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))

    def backward(self, dy, cache=None):
        return dy * np.where(self.x > 0, 1, np.exp(np.minimum(self.x, 0))).astype(dy.dtype)

    @staticmethod
    def formula(xp, params, x):
        return xp.where(x > 0, x, xp.expm1(xp.minimum(x, xp.zeros_like(x))))


class Normalised(Bent):
    """x / ||x||, whose gradient is 0 where a row has a single entry, but for the oracle's own rounding."""

    name = "normalised"

    def forward(self, x):
        self.norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        self.y = x / self.norm
        return self.y.copy()

    def backward(self, dy, cache=None):
        return (dy - self.y * (dy * self.y).sum(axis=-1, keepdims=True)) / self.norm

    @staticmethod
    def formula(xp, params, x):
        return x / xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))


class Tanh(Bent):
    """tanh(x), at inputs where 1 - y^2 cancels, which is how frameworks differentiate it."""

    name, scale = "hyperbolic", 2.0

    def forward(self, x):
        self.y = np.tanh(x)
        return self.y.copy()

    def backward(self, dy, cache=None):
        return dy * (1 - self.y * self.y)

    @staticmethod
    def formula(xp, params, x):
        return xp.tanh(x)


def judge_alone(kind, dtype, seed, batch=7, width=6, backends=("numpy",)):
    network = NetworkSpec({"x": width}, (NodeSpec("node", kind.name, ("x",), width),), batch)
    return run_shard([Case(network, dtype, seed)], [BACKENDS[name] for name in backends], {kind.name: kind}, {}).comparisons


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "width"), [(Absolute, 5), (Elu, 8), (Normalised, 1), (Normalised, 4)])
def test_the_oracles_own_rounding_accuses_nobody(kind, width, dtype):
    rows = [row for seed in range(25) for row in judge_alone(kind, dtype, seed, width=width)]
    assert [row.message for row in rows if row.verdict not in ("ok", "powerless")] == []
    if width > 1:
        assert {"y", "dx"} <= {row.quantity for row in rows if row.verdict == "ok"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_frameworks_that_differentiate_tanh_from_its_output_are_right(dtype):
    rows = [row for seed in range(6) for row in judge_alone(Tanh, dtype, seed, 16, 12, ("numpy", "torch", "jax"))]
    assert {row.backend for row in rows if row.verdict == "ok"} == {"numpy", "torch", "jax"}
    assert [row.message for row in rows if row.fails] == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_error_that_depends_on_the_dtype_is_no_rounding_of_it(dtype):
    class OfTheDtype(Tanh):
        def backward(self, dy, cache=None):
            return dy * (1 - self.y * self.y + dy.dtype.type(np.sqrt(np.finfo(dy.dtype).eps)))

    class Halved(Tanh):
        def backward(self, dy, cache=None):
            return super().backward(dy) * dy.dtype.type(1.5 if dy.dtype == np.float32 else 1)

    wrong = (OfTheDtype,) if dtype == "float64" else (OfTheDtype, Halved)
    for kind in wrong:
        rows = judge_alone(kind, dtype, 3)
        assert {row.quantity for row in rows if row.fails} >= {"dx"}, kind


class SingleInside(LayerNorm):
    """The gradient of g is computed in float32 whatever comes in; the noise of the rest can be followed."""

    name = "single_inside"

    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["g"] = (dy.astype(np.float32) * self.hat.astype(np.float32)).sum(axis=0).astype(dy.dtype)
        return dx

    initial_params = staticmethod(lambda rng, n_in, n_out: {"g": 1 + rng.random(n_out), "b": rng.random(n_out)})
    sample_inputs = Bent.sample_inputs


def test_float32_written_inside_is_a_finding_in_float32_and_wrong_in_float64():
    rows = [row for seed in range(10) for row in judge_alone(SingleInside, "float32", seed)]
    assert [row.message for row in rows if row.fails] == []
    assert {row.quantity for row in rows if row.verdict == "constant"} <= {"dg"}
    assert {row.quantity for row in rows if row.verdict in ("ok", "constant")} >= {"y", "dg", "db"}
    double = [row for seed in range(10) for row in judge_alone(SingleInside, "float64", seed)]
    assert {row.quantity for row in double if row.fails} == {"dg"}
