"""Faults in the harness itself come in; that a run ends red all the same goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import harness.judge.canary as canary
import harness.judge.local as local
import harness.judge.measure as measuring
import harness.judge.oracle as oracle
import harness.judge.verdict as verdict
import harness.runner as runner
import harness.shards as shards
from harness import core
from harness.backends.torch_autograd import TorchAutograd
from harness.core import Case, NetworkSpec, NodeSpec, freeze
from harness.discovery import find_backends, find_layers
from harness.findings import Finding
from harness.judge.measure import Measure
from reference_layers import BackwardBound, LayerBase, Sigmoid
from tests.meta.layer_faults import FAULTS
from tests.meta.planting import cases_with, find_red, find_red_with, rows_of, small_cases

SMALL = ("--cases", "12", "--draws", "2", "--seed", "3", "--backends", "numpy")
Patch = Callable[[pytest.MonkeyPatch], Any]
RIGHT_MEASURE, RIGHT_INNER, RIGHT_JUDGE = measuring.measure, measuring._measure, shards.judge
RIGHT_PROBLEM, RIGHT_LIFT = shards.make_problem, oracle.lift


def _patch_measure(change: Callable[..., Measure]) -> Patch:
    """Return a patch of how one array is measured, wherever it is."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (measuring, local, verdict, canary):
            monkeypatch.setattr(module, "measure", change)

    return patch


def _patch_inner(change: Callable[..., Measure]) -> Patch:
    """Return a patch of how numbers are compared; a double-double truth comes to it in longdouble, which NumPy knows."""

    def measure(given: Any, truth: Any, bound: Any, dtype: str) -> Measure:
        return change(given, oracle.narrow(truth), bound, dtype)

    return lambda monkeypatch: monkeypatch.setattr(measuring, "_measure", measure)


def _patch_bounds(factor: float) -> Patch:
    """Return a patch that scales every bound."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (local, verdict):
            monkeypatch.setattr(module, "oracle_margin", lambda dtype: factor)

    return patch


def _patch_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (shards, canary):
        monkeypatch.setattr(module, "make_problem", _with_ones)


def _with_ones(case: Case, layers: Mapping[str, Any]) -> core.Problem:
    problem = RIGHT_PROBLEM(case, layers)
    return replace(problem, dy=freeze(np.ones_like(problem.dy)))


def _nan_is_equal(given: Any, truth: Any, bound: Any, dtype: str) -> Measure:
    return RIGHT_INNER(np.where(np.isnan(given), truth, given).astype(dtype), truth, bound, dtype)


def _in_tested_dtype(given: Any, truth: Any, bound: Any, dtype: str) -> Measure:
    return RIGHT_INNER(given, truth.astype(dtype).astype(truth.dtype), bound, dtype)


def _tell_swapped(given: Any, truth: Any, bound: Any, dtype: str) -> Measure:
    found = RIGHT_INNER(given, truth, bound, dtype)
    return replace(found, got=found.expected, expected=found.got)


def _ignore_sign(given: Any, truth: Any, bound: Any, dtype: str) -> Measure:
    return RIGHT_INNER(np.abs(given), np.abs(truth), bound, dtype)


def _average(given: Any, truth: Any, bound: Any, dtype: str) -> Measure:
    """Compare the means alone."""
    return RIGHT_INNER(np.full_like(given, given.mean()), np.full_like(truth, truth.mean()), bound, dtype)


# What the canary must find before the run judges anything: exit code 3.
BLIND: Mapping[str, Patch] = {
    "NaN compared as equal": _patch_inner(_nan_is_equal),
    "measure that compares nothing": _patch_inner(lambda given, truth, bound, dtype: Measure("ok", n_compared=given.size)),
    "measure that compares means": _patch_inner(_average),
    "measure that ignores signs": _patch_inner(_ignore_sign),
    "comparison in the dtype under test": _patch_inner(_in_tested_dtype),
    "told swapped: expected for actual": _patch_inner(_tell_swapped),
    "compared swapped: expected for actual": _patch_measure(
        lambda got, truth, bound, dtype: RIGHT_MEASURE(truth, np.asarray(got), bound, dtype)
    ),
    "compared with itself": _patch_measure(lambda got, truth, bound, dtype: RIGHT_MEASURE(got, np.asarray(got), bound, dtype)),
    "bounds a million times too large": _patch_bounds(1e6),
    "bounds infinite": _patch_bounds(np.inf),
    "bounds zero": _patch_bounds(0.0),
    "bounds NaN": _patch_bounds(np.nan),
    "cotangents of ones": _patch_problem,
    "mismatches that pass": lambda monkeypatch: monkeypatch.setattr(core, "PASSING", core.PASSING | {"mismatch"}),
    "non-finite numbers that pass": lambda monkeypatch: monkeypatch.setattr(core, "PASSING", core.PASSING | {"nonfinite"}),
    "best check wins": lambda monkeypatch: monkeypatch.setattr(verdict, "WORST_FIRST", verdict.WORST_FIRST[::-1]),
    "local check left out": lambda monkeypatch: monkeypatch.setattr(verdict, "judge_nodes", lambda *arguments: {}),
    "network check left out": lambda monkeypatch: monkeypatch.setattr(verdict, "_judge_network", lambda *arguments: ({}, {})),
}


@pytest.mark.parametrize("fault", BLIND)
def test_a_judge_gone_blind_fails_the_run_before_it_starts(fault, monkeypatch, call_run, capsys):
    BLIND[fault](monkeypatch)
    code, info = call_run(*SMALL)
    assert (code, info["exit_code"], info["status"]) == (3, 3, "harness failed")
    assert info["cases_done"] == 0
    assert "JudgeFault" in capsys.readouterr().err


@pytest.fixture
def no_canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run start although the judge is blind, for what else would find it."""
    monkeypatch.setattr(runner, "check_judge", lambda: None)


@pytest.mark.parametrize("factor", [1e6, np.inf], ids=["a million times too large", "infinite"])
@pytest.mark.usefixtures("no_canary")
def test_bounds_too_large_are_powerless_and_fail_the_run(factor, monkeypatch, call_run):
    _patch_bounds(factor)(monkeypatch)
    monkeypatch.setattr(verdict, "find_spread", lambda problem, layers, true, bound, rounding_of: bound.gradients)
    code, info = call_run(*SMALL, "--dtypes", "float32", "--hazards", "none")
    assert (code, info["status"]) == (1, "powerless")
    assert info["powerless_share"] > 0.5


def _drop_rows(quantity: str) -> Callable[..., Any]:
    def judged(*arguments: Any) -> Any:
        return [row for row in RIGHT_JUDGE(*arguments) if row.quantity != quantity]

    return judged


def _shrink_counts(*arguments: Any) -> Any:
    return [replace(row, n_compared=min(row.n_compared, 1)) for row in RIGHT_JUDGE(*arguments)]


SKIPPING: Mapping[str, Patch] = {
    "bias gradients": lambda monkeypatch: monkeypatch.setattr(shards, "judge", _drop_rows("db")),
    "input gradients": lambda monkeypatch: monkeypatch.setattr(shards, "judge", _drop_rows("dx")),
    "outputs": lambda monkeypatch: monkeypatch.setattr(shards, "judge", _drop_rows("y")),
    "all": lambda monkeypatch: monkeypatch.setattr(shards, "judge", lambda *arguments: []),
    "all numbers but the first": lambda monkeypatch: monkeypatch.setattr(shards, "judge", _shrink_counts),
    "all numbers": _patch_inner(lambda given, truth, bound, dtype: Measure("ok", n_compared=0)),
}


@pytest.mark.parametrize("skipped", SKIPPING)
@pytest.mark.usefixtures("no_canary")
def test_a_judge_that_skips_something_turns_the_run_red(skipped, monkeypatch, call_run):
    SKIPPING[skipped](monkeypatch)
    code, info = call_run(*SMALL)
    assert (code, info["status"]) == (1, "mismatch")
    assert info["counts"]["missing"] == info["failed"]
    assert "passed them over" in info["failures"][0]["message"]


def test_an_oracle_that_skips_a_gradient_turns_the_run_red(monkeypatch):
    right = verdict.find_values

    def forgetful(*arguments: Any) -> Any:
        true = right(*arguments)
        return replace(true, gradients={name: value for name, value in true.gradients.items() if not name.endswith(".b")})

    monkeypatch.setattr(verdict, "find_values", forgetful)
    red = find_red(cases_with("affine"))
    assert {(row.layer, row.quantity, row.verdict) for row in red} == {("affine", "db", "missing")}


def test_an_oracle_that_shares_the_fault_of_the_layer_is_found_by_native_ops():
    class Shared(Sigmoid):
        """Wrong in the same way in its hand-written passes and in its formula: 1.001 times too steep."""

        def forward(self, x: Any) -> Any:
            return super().forward((1.001 * x).astype(x.dtype))

        def backward(self, dy: Any, cache: Any = None) -> Any:
            return (1.001 * super().backward(dy, cache)).astype(dy.dtype)

        @staticmethod
        def formula(xp: Any, params: Any, x: Any) -> Any:
            return Sigmoid.formula(xp, params, 1.001 * x)

        @staticmethod
        def backward_bound(r: Any, *arguments: Any) -> BackwardBound:
            return BackwardBound(tuple(4 * error + r.u for error in Sigmoid.backward_bound(r, *arguments).dx))

        @staticmethod
        def forward_bound(r: Any, *arguments: Any) -> Any:
            return 4 * Sigmoid.forward_bound(r, *arguments) + 8 * r.u

    pytest.importorskip("torch")
    cases = [case for case in cases_with("sigmoid") if len(case.network.nodes) == 1 and not case.hazards]
    layers = {**find_layers(), "sigmoid": Shared}
    known = find_backends()
    assert cases
    assert find_red(cases, [known["numpy"], known["torch"]], layers) == []
    assert {row.backend for row in find_red(cases, [known["numpy"], known["torch:native"]], layers)} == {"torch:native"}


def test_an_oracle_no_finer_than_what_it_judges_is_refused(monkeypatch, call_run, capsys):
    monkeypatch.setitem(oracle.HIGHER, "float64", np.dtype(np.float64))
    code, _ = call_run(*SMALL)
    assert code == 2
    assert "--dtypes float64: this machine's longdouble is no more precise" in capsys.readouterr().err


def test_an_oracle_that_loses_its_precision_turns_the_run_red(monkeypatch):
    monkeypatch.setattr(oracle, "lift", lambda value, precision: RIGHT_LIFT(value, np.dtype(np.float64)))
    red = find_red([case for case in cases_with("affine") if case.dtype == "float64"])
    assert {row.verdict for row in red} == {"error"}
    assert "computes in float64, not in" in red[0].message


def test_a_formula_that_changes_the_dtype_turns_the_run_red():
    class Narrow(Sigmoid):
        @staticmethod
        def formula(xp: Any, params: Any, x: Any) -> Any:
            return Sigmoid.formula(xp, params, x) * np.ones(1, np.longdouble)

    red = find_red(
        [case for case in cases_with("sigmoid") if case.dtype == "float32"], layers={**find_layers(), "sigmoid": Narrow}
    )
    assert {row.verdict for row in red} == {"error"}
    assert "cannot serve as truth" in red[0].message


class Swish(LayerBase):
    """x / (1 + exp(-x)): right by hand, but the derivative of its formula is NaN where exp overflows."""

    name = "swish"
    place = "map"

    def forward(self, x: Any) -> Any:
        e = np.exp(-np.abs(x))
        y = np.where(x >= 0, 1, e) / (1 + e)
        self.cache = (x, y)
        return x * y

    def backward(self, dy: Any, cache: Any = None) -> Any:
        x, y = cache or self.cache
        return dy * (y * (1 + x * (1 - y)))

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return x / (1 + xp.exp(-x))

    @staticmethod
    def forward_bound(r: Any, params: Any, x: Any) -> Any:
        return 20 * r.u * (1 + np.abs(x.value)) + 2 * x.error + r.tiny

    @staticmethod
    def backward_bound(r: Any, params: Any, x: Any, dy: Any) -> BackwardBound:
        return BackwardBound((20 * r.u * (1 + np.abs(x.value)) * dy.size + 2 * (x.error + dy.error) + r.tiny,))

    @staticmethod
    def sample_inputs(rng: Any, batch: int, width: int) -> tuple[Any, ...]:
        return (rng.uniform(-1, 1, (batch, width)),)


def _lone(layer: str, dtype: str, **settings: Any) -> Case:
    return Case(NetworkSpec({"x": 6}, (NodeSpec(f"{layer}1", layer, ("x",), 6),), 8), dtype, seed=1, **settings)


@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1000.0), ("float64", 20000.0)])
def test_a_formula_that_is_not_finite_where_the_function_is_gets_the_blame(dtype, scale):
    layers = {**find_layers(), "swish": Swish}
    case = _lone("swish", dtype, scale=scale)
    red = find_red([case], layers=layers)
    assert {row.verdict for row in red} == {"oracle-nonfinite"}
    assert "the formula" in red[0].message
    assert find_red([_lone("swish", dtype)], layers=layers) == []


class Softmax(LayerBase):
    """A softmax of each row, whose gradient a cotangent of ones makes vanish."""

    name = "softmax"
    place = "map"

    def forward(self, x: Any) -> Any:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        self.cache = (e / e.sum(axis=1, keepdims=True),)
        return self.cache[0].copy()

    def backward(self, dy: Any, cache: Any = None) -> Any:
        (y,) = cache or self.cache
        return y * (dy - (dy * y).sum(axis=1, keepdims=True))

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        e = xp.exp(x - xp.max(x, axis=1, keepdims=True))
        return e / xp.sum(e, axis=1, keepdims=True)

    @staticmethod
    def forward_bound(r: Any, params: Any, x: Any) -> Any:
        return 30 * r.u * np.ones_like(x.value)

    @staticmethod
    def backward_bound(r: Any, params: Any, x: Any, dy: Any) -> BackwardBound:
        return BackwardBound((60 * r.u * (1 + dy.size),))

    @staticmethod
    def sample_inputs(rng: Any, batch: int, width: int) -> tuple[Any, ...]:
        return (rng.standard_normal((batch, width)),)


def test_cotangents_of_ones_would_hide_a_wrong_softmax_and_are_powerless(monkeypatch):
    class Wrong(Softmax):
        def backward(self, dy: Any, cache: Any = None) -> Any:
            return 1.5 * super().backward(dy, cache)

    case = _lone("softmax", "float64")
    assert find_red([case], layers={"softmax": Softmax}) == []
    assert find_red([case], layers={"softmax": Wrong})
    monkeypatch.setattr(shards, "make_problem", _with_ones)
    (rows,) = rows_of([case], layers={"softmax": Wrong})
    assert {row.verdict for row in rows if row.quantity == "dx"} == {"powerless"}


def test_cotangents_of_ones_would_hide_that_a_loss_ignores_its_own(monkeypatch):
    ignoring = FAULTS["upstream gradient left out (squared error)"]
    assert find_red_with(ignoring)
    monkeypatch.setattr(shards, "make_problem", _with_ones)
    assert find_red_with(ignoring) == []


def test_a_nan_that_counts_as_equal_would_hide_a_fault(monkeypatch):
    assert find_red_with(FAULTS["NaN in one element"])
    _patch_inner(_nan_is_equal)(monkeypatch)
    assert all(row.verdict not in ("nonfinite", "mismatch") for row in find_red_with(FAULTS["NaN everywhere"]))


@dataclass(frozen=True)
class Copying(TorchAutograd):
    """Hands on what the hand-written layers return."""

    name: str = "copying"

    def prepare(self, *arguments: Any) -> Any:
        return find_backends()["numpy"].prepare(*arguments)


def _differing_share(backend: Any) -> float:
    """Return the share of quantities in which a backend and the hand-written layers differ in any bit."""
    pair = [find_backends()["numpy"], backend]
    found = [row for case in small_cases()[::3] for row in shards.run_shard([case], pair, find_layers(), {}).discrepancies]
    return float(np.mean([row.max_abs > 0 for row in found if row.n_compared > 8]))


def test_a_backend_that_returns_the_numbers_of_another_shows_no_discrepancy_at_all():
    pytest.importorskip("torch")
    assert _differing_share(find_backends()["torch"]) > 0.1
    assert _differing_share(Copying()) == 0


def test_a_required_framework_that_is_missing_ends_the_run(monkeypatch, call_run, capsys):
    def lack() -> str:
        raise ImportError("No module named 'gone'")

    gone = SimpleNamespace(name="gone", framework="gone", variant="formula", default=True, decides=True, version=lack)
    monkeypatch.setitem(find_backends(), "gone", gone)
    assert call_run(*SMALL, "--require", "gone")[0] == 4
    assert "gone is required and missing (No module named 'gone')" in capsys.readouterr().err
    assert call_run("--cases", "4", "--backends", "gone")[0] == 4


def test_a_run_of_witnesses_alone_ran_nothing(call_run):
    code, info = call_run("--cases", "4", "--draws", "1", "--backends", "numerical")
    assert (code, info["status"]) == (4, "nothing ran")
    assert info["counts"]["ok"] > 0


def test_a_stale_known_finding_turns_the_run_red(monkeypatch, call_run):
    _, info = call_run(*SMALL)
    assert info["exit_code"] == 0
    case = next(iter(runner.make_plan(runner.Settings(12, 3, "numpy", draws=2)).shards())).cases[0].id
    stale = Finding("F0", "planted", "none", "numpy", "affine", "dW", "mismatch", (case,))
    monkeypatch.setattr(runner, "read_findings", lambda: [stale])
    code, info = call_run(*SMALL)
    assert (code, info["status"], info["stale_findings"]) == (1, "stale finding", [f"F0 in {case}"])


def test_a_faulty_layer_turns_the_command_red_and_says_how_to_replay(monkeypatch, call_run, capsys):
    monkeypatch.setitem(find_layers(), "affine", FAULTS["input gradient 1e-3 too large"])
    code, info = call_run(*SMALL)
    assert (code, info["status"]) == (1, "mismatch")
    assert f"harness replay {info['failures'][0]['case']}" in capsys.readouterr().out


def test_the_unchanged_harness_is_green(call_run):
    code, info = call_run(*SMALL)
    assert (code, info["status"], info["failed"]) == (0, "conforms", 0)
    assert info["n_compared"] > 1000
