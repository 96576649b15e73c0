"""Layers whose passes and formula share one mistake come in; their worked values and the frameworks' own ops find it.

The oracle differentiates the formula, and so do torch, JAX and autograd: all of them agree with such a layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core import DTYPES, Case, NetworkSpec, NodeSpec
from harness.discovery import find_backends, find_layers
from harness.judge.culprit import FORMULA, UNKNOWN
from harness.judge.worked import judge_worked, meets_worked
from harness.shards import run_shard
from reference_layers import BackwardBound, Pair, Sigmoid, SoftmaxCrossEntropy

LAYERS = find_layers()
BACKENDS = ("numpy", "torch", "torch:native", "autograd")


def double(kind: Any) -> Any:
    """Return the layer of twice the function: passes, formula and bounds, all but its worked values and the frameworks' ops."""

    class Twice(kind):
        def forward(self, *inputs):
            return 2 * super().forward(*inputs)

        def backward(self, dy=1.0, cache=None):
            return super().backward(2 * dy, cache)

        @staticmethod
        def formula(xp, params, *inputs, **extra):
            return kind.formula(xp, params, *inputs, **extra) * 2

        @staticmethod
        def forward_bound(r, params, *pairs):
            return 2 * kind.forward_bound(r, params, *pairs)

        @staticmethod
        def backward_bound(r, params, *pairs):
            at = len(kind.differentiable)
            found = kind.backward_bound(r, params, *pairs[:at], Pair(2 * pairs[at].value, 2 * pairs[at].error), *pairs[at + 1 :])
            return BackwardBound(found.dx, found.dparams)

    return Twice


class Summed(SoftmaxCrossEntropy):
    """The loss summed over the batch where its mean is meant."""

    def forward(self, x, t):
        return super().forward(x, t) * x.dtype.type(len(x))

    def backward(self, dy=1.0, cache=None):
        p = self._recall(cache)[0]
        return super().backward(np.asarray(dy) * p.dtype.type(len(p)), cache)

    @staticmethod
    def formula(xp, params, x, t):
        return SoftmaxCrossEntropy.formula(xp, params, x, t) * len(x)


class Steep(Sigmoid):
    """1 / (1 + exp(-x)) of 1.0625 x."""

    def forward(self, x):
        return super().forward(x * x.dtype.type(1.0625))

    def backward(self, dy, cache=None):
        return super().backward(dy, cache) * dy.dtype.type(1.0625)

    @staticmethod
    def formula(xp, params, x):
        return Sigmoid.formula(xp, params, x * 1.0625)


MISTAKES = {**{name: (name, double(kind)) for name, kind in LAYERS.items()},
            "summed": ("softmax_cross_entropy", Summed), "steep": ("sigmoid", Steep)}  # fmt: skip


def alone(layer: str) -> NetworkSpec:
    names = ("x", "t") if LAYERS[layer].place == "loss" else ("x", "z")[: len(LAYERS[layer].differentiable)]
    return NetworkSpec(dict.fromkeys(names, 4), (NodeSpec("one", layer, names, 0 if "t" in names else 4),), 6)


def run(layer: str, kind: Any, dtype: str, backends: tuple[str, ...]) -> list[Any]:
    known = find_backends()
    return run_shard(
        [Case(alone(layer), dtype, seed=3)], [known[name] for name in backends], {**LAYERS, layer: kind}, {}
    ).comparisons


@pytest.mark.parametrize("layer", LAYERS)
def test_the_layers_themselves_meet_their_worked_values(layer):
    assert meets_worked(LAYERS[layer]) is True


@pytest.mark.parametrize("mistake", LAYERS)  # the bounds of the other mistakes are not their own
def test_nothing_that_runs_the_formula_sees_a_mistake_of_the_formula(mistake):
    """What the other tests here are worth: without worked values and own ops, the mistake is agreed on by all."""
    layer, kind = MISTAKES[mistake]
    rows = run(layer, kind, "float64", ("numpy", "torch", "autograd"))
    assert len({row.backend for row in rows if row.verdict == "ok"}) == 3
    assert not any(row.fails for row in rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_worked_values_find_it_in_the_formula_and_in_the_passes(mistake, dtype):
    layer, kind = MISTAKES[mistake]
    rows = judge_worked({layer: kind}, (dtype,))
    found = {row.culprit for row in rows if row.fails}
    assert found == {"formula", "your layer"}
    assert all("worked out it is" in row.message for row in rows if row.verdict == "mismatch")
    assert meets_worked(kind) is False


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_frameworks_own_op_finds_it_and_the_formula_is_to_blame(mistake, dtype):
    layer, kind = MISTAKES[mistake]
    rows = [row for row in run(layer, kind, dtype, BACKENDS) if row.backend == "torch:native"]
    failing = [row for row in rows if row.fails]
    assert failing
    assert {row.culprit for row in failing} == {FORMULA}
    assert any("does not meet its worked values" in row.message for row in failing)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_without_worked_values_one_own_op_against_the_rest_settles_nothing(mistake):
    layer, kind = MISTAKES[mistake]
    bare = type("Bare", (kind,), {"worked": ()})
    assert meets_worked(bare) is None
    failing = [row for row in run(layer, bare, "float64", BACKENDS) if row.fails and row.backend == "torch:native"]
    assert failing
    assert {row.culprit for row in failing} <= {UNKNOWN, FORMULA}
    if mistake in LAYERS:
        assert {row.culprit for row in failing} == {UNKNOWN}
        assert all("nothing tells whether the formula or who differs from it is wrong" in row.message for row in failing)


def test_two_frameworks_own_ops_settle_it_without_worked_values():
    bare = type("Bare", (MISTAKES["sigmoid"][1],), {"worked": ()})
    rows = run("sigmoid", bare, "float32", ("numpy", "torch", "torch:native", "jax", "jax:native"))
    failing = [row for row in rows if row.fails]
    assert {row.backend for row in failing} == {"torch:native", "jax:native"}
    assert {row.culprit for row in failing} == {FORMULA}
