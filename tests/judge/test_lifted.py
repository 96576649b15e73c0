"""Layers with faults that rounding hides come in; what their unchanged code does one precision up goes out, named."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from harness.backends.numpy_reference import NumpyReference
from harness.backends.torch_autograd import TorchAutograd
from harness.cases import make_problem
from harness.core import DTYPES, Case, NetworkSpec, NodeSpec
from harness.discovery import find_layers
from harness.floats import find_format
from harness.judge.lifted import LIFTED, can_lift, lift_problem
from harness.shards import run_shard
from reference_layers import Affine, MeanSquaredError, Sigmoid, SoftmaxCrossEntropy

LAYERS = find_layers()
NETWORK = NetworkSpec(
    {"x": 9, "t": 6},
    (NodeSpec("affine1", "affine", ("x",), 6), NodeSpec("loss", "softmax_cross_entropy", ("affine1", "t"), 0)),
    128,
)


def _judge(dtype: str, network: NetworkSpec = NETWORK, **changed: Any) -> dict[tuple[str, str], Any]:
    case = Case(network, dtype, seed=4)
    rows = run_shard([case], [NumpyReference()], {**LAYERS, **changed}, {}).comparisons
    return {(row.node, row.quantity): row for row in rows}


def _alone(layer: str, width: int = 6, batch: int = 128) -> NetworkSpec:
    widths = {"x": width, "t": width} if LAYERS[layer].place == "loss" else {"x": width}
    return NetworkSpec(widths, (NodeSpec("one", layer, tuple(widths), 0 if "t" in widths else width),), batch)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_problem_holds_the_same_numbers_one_precision_up(dtype):
    problem = make_problem(Case(NETWORK, dtype, seed=1, storage="strided"), LAYERS)
    lifted = lift_problem(problem)
    assert lifted.case.dtype == LIFTED[dtype]
    W = lifted.params["affine1"]["W"]
    assert W.dtype == find_format(LIFTED[dtype]).dtype
    assert np.array_equal(W, problem.params["affine1"]["W"].astype(W.dtype))
    assert not W.flags.writeable
    assert lifted.inputs["t"].dtype == problem.inputs["t"].dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_correct_layers_have_nothing_to_hide(dtype):
    rows = _judge(dtype)
    assert {row.verdict for row in rows.values()} <= {"ok", "powerless"}
    judged = [row for row in rows.values() if "lifted" in row.check]
    assert len(judged) >= 6
    assert max(row.lifted_error_in_bounds for row in judged) <= 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_one_too_few_in_the_batch_is_named_where_the_dtypes_own_rounding_is_as_large(dtype):
    class OneTooFew(MeanSquaredError):
        def backward(self, dy=1.0, cache=None):
            return super().backward(dy, cache) * self.cache[0].dtype.type(128 / 127)

    row = _judge(dtype, _alone("mean_squared_error"), mean_squared_error=OneTooFew)["one", "dx"]
    assert row.verdict == "mismatch"
    assert row.lifted_error_in_bounds > 1e6
    assert "the formula is wrong, not its rounding" in row.message
    assert "0.00787 of" in row.message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("error", [1e-12, 1e-6, 1e-3])
def test_an_error_of_the_formula_is_seen_far_below_what_rounding_does(dtype, error):
    class Smoothed(SoftmaxCrossEntropy):
        def backward(self, dy=1.0, cache=None):
            dx = super().backward(dy, cache)
            return dx + dx * dx.dtype.type(error)

    row = _judge(dtype, softmax_cross_entropy=Smoothed)["loss", "dx"]
    assert row.lifted_error_in_bounds > 1
    below = error < 2 * find_format(find_format(dtype).compute.name).u
    assert row.verdict == ("constant" if below else "mismatch")
    assert row.fails is not below


def test_a_constant_in_the_dtype_of_the_computation_is_a_finding_and_no_failure():
    class Scaled(Sigmoid):
        def backward(self, dy, cache=None):
            return super().backward(dy, cache) * np.float32(1 - 2.0**-24)

        @staticmethod
        def formula(xp, params, x):
            return Sigmoid.formula(xp, params, x)

    row = _judge("float32", _alone("sigmoid"), sigmoid=Scaled)["one", "dx"]
    assert (row.verdict, row.fails) == ("constant", False)
    assert "a constant in float32 explains it" in row.message


def test_a_cast_inside_is_an_error_in_float64_and_a_finding_in_float32():
    class Casts(Affine):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            self.grads["W"] = (self.cache[0].astype(np.float32).T @ dy.astype(np.float32)).astype(dy.dtype)
            return dx

    assert _judge("float64", affine=Casts)["affine1", "dW"].verdict == "mismatch"
    row = _judge("float32", affine=Casts)["affine1", "dW"]
    assert (row.verdict, row.fails) == ("constant", False)
    assert "a cast to float32 inside explains it" in row.message


@pytest.mark.parametrize("error", [1e-6, 3e-6])
def test_a_formula_wrong_by_less_than_rounding_is_no_cast(error):
    class Steep(Affine):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            self.grads["W"] = self.grads["W"] + self.grads["W"] * self.grads["W"].dtype.type(error)
            return dx

    row = _judge("float32", affine=Steep)["affine1", "dW"]
    assert row.local_error_in_bounds <= 1
    assert row.verdict == "mismatch"
    assert "the formula is wrong" in row.message


def test_code_that_cannot_run_in_a_higher_precision_is_judged_by_the_other_checks():
    class Refuses(Sigmoid):
        def forward(self, x):
            if x.dtype != np.float32:
                raise TypeError("float32 only")
            return super().forward(x)

    row = _judge("float32", _alone("sigmoid"), sigmoid=Refuses)["one", "dx"]
    assert (row.verdict, "lifted" in row.check) == ("ok", False)


def test_only_what_runs_unchanged_in_any_precision_is_lifted():
    problem = make_problem(Case(NETWORK, "float32", seed=1), LAYERS)
    program = TorchAutograd().prepare(NETWORK, "float32", LAYERS)
    assert not getattr(program, "lifts", False)
    assert NumpyReference().prepare(NETWORK, problem.case.dtype, LAYERS).lifts
    assert can_lift("float32")


DEEP = NetworkSpec(
    {"x": 40, "z1": 30, "t": 13},
    (
        NodeSpec("affine1", "affine", ("x",), 30),
        NodeSpec("sigmoid1", "sigmoid", ("affine1",), 30),
        NodeSpec("multiply1", "multiply", ("sigmoid1", "z1"), 30),
        NodeSpec("affine2", "affine", ("multiply1",), 30),
        NodeSpec("relu1", "relu", ("affine2",), 30),
        NodeSpec("affine3", "affine", ("relu1",), 13),
        NodeSpec("loss", "softmax_cross_entropy", ("affine3", "t"), 0),
    ),
    110,
)


def _zero_row(value):
    value[3] = 0
    return value


def _scale_entry(value):
    value[2, 1] *= 2
    return value


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("fault", [_zero_row, _scale_entry, lambda value: value[::-1]], ids=["row", "entry", "rolled"])
def test_what_sums_in_the_narrow_dtype_might_do_is_no_excuse_for_a_formula(dtype, fault):
    """Behind kinks and products, where the same step of the inputs moves an error by as much as a cast would."""

    class Faulty(Affine):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            self.grads["W"] = np.ascontiguousarray(fault(self.grads["W"].copy()))
            return dx

    rows = _judge(dtype, DEEP, affine=Faulty)
    for node in ("affine1", "affine2", "affine3"):
        assert rows[node, "dW"].verdict == "mismatch"
        assert "the formula is wrong" in rows[node, "dW"].message


def test_an_error_that_comes_and_goes_is_no_cast():
    """Its size is one that a cast to float32 could explain, but run again on the same numbers it is not there."""

    class Drifts(Affine):
        wide: ClassVar[list[int]] = []

        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            if dy.dtype == np.float64:
                self.wide.append(1)
            if len(self.wide) == 2:
                self.grads["W"] = self.grads["W"] * (1 + 2e-6)
            return dx

    row = _judge("float32", affine=Drifts)["affine1", "dW"]
    assert len(Drifts.wide) > 2
    assert row.verdict == "mismatch"
    assert "the formula is wrong" in row.message


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_sum_in_the_narrow_dtype_is_a_finding_about_the_arithmetic(dtype):
    class SumsNarrow(Affine):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            total = np.zeros(dy.shape[1], find_format(dtype).dtype)
            for row in dy.astype(total.dtype):
                total = total + row
            self.grads["b"] = total.astype(dy.dtype)
            return dx

    row = _judge(dtype, affine=SumsNarrow)["affine1", "db"]
    assert row.local_error_in_bounds > 1
    assert (row.verdict, row.fails) == ("reduced-precision", False)
    assert f"a cast to {dtype} inside explains it" in row.message


class Literal(Affine):
    """Affine with float32 written into its code, which is no fault where float32 is what it computes in."""

    factor, dropped = 1.0, 0

    def backward(self, dy, cache=None):
        x, _ = self._recall(cache)
        dx = super().backward(dy, cache)
        used = slice(self.dropped, None)
        dW, db = x[used].T @ dy[used], dy[used].sum(axis=0)
        self.grads = {"W": (self.factor * dW).astype(np.float32), "b": db.astype(np.float32)}
        return dx


class LiteralScaled(Literal):
    factor = 1.25


class LiteralDropped(Literal):
    dropped = 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", [LiteralScaled, LiteralDropped])
def test_a_dtype_written_into_the_code_hides_no_wrong_formula(kind, dtype):
    rows = _judge_affine(kind, dtype)
    assert any(row.quantity == "dW" and row.fails for row in rows)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_dtype_written_into_the_code_is_no_fault_where_it_is_the_one_of_the_computation(dtype):
    rows = _judge_affine(Literal, dtype)
    assert [row.message for row in rows if row.fails] == []
    assert {row.quantity for row in rows if row.verdict == "ok"} >= {"dW", "db"}


def _judge_affine(kind, dtype):
    network = NetworkSpec({"x": 6}, (NodeSpec("affine1", "affine", ("x",), 4),), 128)
    return run_shard([Case(network, dtype, 0)], [NumpyReference()], {"affine": kind}, {}).comparisons
