"""Right and wrong layers come in; that the report says which they are, names what is wrong, and raises it, must hold."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import CheckReport, ConformanceError, LayerSpec, check_layer
from harness.core import BadInput
from harness.custom.api import CHECKS
from harness.custom.diagnose import Diagnosis, diagnose_layer
from harness.custom.pieces import ExplainGradient
from harness.custom.setting import Setting
from harness.custom.trials import TrialId
from tests.custom import layers

RIGHT = [
    (layers.Swish, layers.swish, [(6, 5)]),
    (layers.Linear, layers.linear, [(6, 5)]),
    (layers.Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (4, 3)]),
    (layers.Lookup, lambda xp, params, t: params["W"][t], [np.array([0, 3, 3, 1])]),
]


@pytest.mark.parametrize(("layer", "formula", "inputs"), RIGHT, ids=[layer.__name__ for layer, _, _ in RIGHT])
def test_right_layers_conform_beside_both_frameworks(layer: Any, formula: Any, inputs: Any) -> None:
    report = check_layer(layer, formula, inputs=inputs)
    assert report.passed
    assert not report.failures
    assert {result.backend for result in report.results} == {"numpy", "torch", "jax"}
    assert {result.dtype for result in report.results} == {"float64", "float32"}
    assert {result.check for result in report.results} == set(CHECKS)
    assert "conforms" in repr(report)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_right_layers_conform_in_narrow_dtypes(dtype: str) -> None:
    assert check_layer(layers.Linear, layers.linear, inputs=[(6, 5)], dtypes=[dtype], against=[]).passed


@settings(deadline=None, max_examples=15)
@given(st.floats(min_value=-12, max_value=-1), st.sampled_from(["W", "b"]))
def test_any_scaled_gradient_is_found_in_float64(exponent: float, name: str) -> None:
    class Scaled(layers.Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads[name] = self.grads[name] * (1 + 10**exponent)
            return dx

    report = check_layer(Scaled, layers.linear, inputs=[(6, 5)], dtypes=["float64"], against=[], on_fail="report")
    assert [result.check for result in report.failures] == ["gradients"]
    assert f"Scaled.d{name}" in report.failures[0].message


def test_the_error_says_where_how_large_and_who() -> None:
    class Wrong(layers.Swish):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            dx.flat[0] *= 1.5
            return dx

    with pytest.raises(ConformanceError) as raised:
        check_layer(Wrong, layers.swish, inputs=[(6, 5)])
    said = str(raised.value)
    assert isinstance(raised.value, AssertionError)
    assert "Wrong does not conform" in said
    assert "Wrong.dx: 1 of " in said
    assert "worst dx[0][0]" in said
    assert "off by 0.5 of the value" in said
    assert "jax and torch agree with the truth" in said
    assert "wrong is your layer" in said
    assert len(said.splitlines()) < 20
    assert not raised.value.report.passed


def test_a_known_fault_is_named_and_an_unknown_one_is_not() -> None:
    class Averages(layers.Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads["b"] = dy.mean(axis=0)
            return dx

    with pytest.raises(ConformanceError, match="diagnosis: db: it is 1/6 of the truth, and 6 is the batch: a mean for a sum"):
        check_layer(Averages, layers.linear, inputs=[(6, 5)], against=[])

    class Bends(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return super().backward(dy) + 1e-3 * np.sin(7 * self.x) * dy

    with pytest.raises(ConformanceError, match="diagnosis: dx: no known fault explains it"):
        check_layer(Bends, layers.swish, inputs=[(6, 5)], against=[])


def test_what_explains_float64_explains_float32_where_the_layer_errs_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "harness.custom.pieces.diagnose_layer",
        lambda trials, *rest: asked.append(trials[0].problem.case.dtype) or diagnose_layer(trials, *rest),
    )

    class Turned(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return -super().backward(dy)

    class TurnedInSingle(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return (0.9 if dy.dtype == np.float32 else -1) * super().backward(dy)

    for dtypes in (["float64", "float32"], ["float32", "float64"]):
        report = check_layer(Turned, layers.swish, inputs=[(6, 5)], against=[], dtypes=dtypes, on_fail="report")
        assert asked == ["float64"]
        assert [(one.dtype, one.diagnosis) for one in report.failures if one.check == "gradients"] == [
            (dtype, "dx: its sign is wrong") for dtype in dtypes
        ]
        asked.clear()
    report = check_layer(TurnedInSingle, layers.swish, inputs=[(6, 5)], against=[], on_fail="report", checks=["gradients"])
    assert asked == ["float64", "float32"]
    assert [one.causes for one in report.failures] == [("sign",), ("factor",)]


def test_a_layer_that_raises_in_the_other_dtype_alone_is_explained_in_its_own() -> None:
    class Turned(layers.Swish):
        def backward(self, dy: Any) -> Any:
            if dy.dtype == np.float64:
                raise ValueError("single precision alone")
            return -super().backward(dy)

    spec = LayerSpec(Turned, layers.swish, [(6, 5)])
    trials = (TrialId(0, 0, "float32"),)
    known = ("float64", Diagnosis("factor", "it is twice the truth: added twice"))
    found = ExplainGradient(Setting(spec, "turned"), "dx", trials, known=known).run()
    assert found == Diagnosis("sign", "its sign is wrong")


def test_a_pass_of_its_own_that_is_right_is_not_explained_by_its_rounding() -> None:
    class KeepsFirst(layers.Swish):
        def forward(self, x: Any) -> Any:
            y = super().forward(x)
            self.x = self.kept = getattr(self, "kept", self.x)
            return y

    report = check_layer(KeepsFirst, layers.swish, inputs=[(6, 5)], against=[], on_fail="report")
    assert {cause for one in report.failures for cause in one.causes} <= {"stale-cache"}
    assert "no_stale_state" in {one.check for one in report.failures}


def test_float32_inside_is_a_finding_in_float32_and_a_failure_in_float64() -> None:
    class Single(layers.Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads["W"] = (self.x.astype(np.float32).T @ dy.astype(np.float32)).astype(dy.dtype)
            return dx

    report = check_layer(Single, layers.linear, inputs=[(6, 5)], against=[], on_fail="report")
    assert {(result.check, result.dtype) for result in report.failures} == {("gradients", "float64")}
    assert "float32" in report.failures[0].diagnosis
    alone = check_layer(Single, layers.linear, inputs=[(6, 5)], dtypes=["float32"], against=[])
    assert any("float32, dW: constant" in found for found in alone.findings)
    assert "findings" in repr(alone)


def test_trials_of_earlier_runs_are_tried_again_by_values_and_contracts() -> None:
    class ClipsOneRow(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return super().backward(np.clip(dy, -2.0, 2.0) if len(dy) == 1 else dy)

    few: dict[str, Any] = {"inputs": [(6, 5)], "dtypes": ["float64"], "against": [], "cases": 1}
    assert check_layer(ClipsOneRow, layers.swish, **few).passed
    report = check_layer(ClipsOneRow, layers.swish, **few, again=[TrialId(3, 5, "float64")], on_fail="report")
    assert [result.check for result in report.failures] == ["linear_in_cotangent"]
    assert "-s3t5-" in report.failures[0].case
    other = check_layer(ClipsOneRow, layers.swish, **few, again=[TrialId(3, 5, "float32")])
    assert {result.trials for result in other.results if result.check == "gradients"} == {1}
    with pytest.raises(BadInput, match=r"again: \(3, 5\); accepted are trials"):
        check_layer(ClipsOneRow, layers.swish, **few, again=[(3, 5)])


def test_a_wrong_output_is_told_apart_from_a_wrong_gradient() -> None:
    class Shifted(layers.Swish):
        def forward(self, x: Any) -> Any:
            return super().forward(x) + 1e-3

    report = check_layer(Shifted, layers.swish, inputs=[(6, 5)], against=[], on_fail="report")
    assert {result.check for result in report.failures} == {"forward"}


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "no such gradient"),
        ([1.0], "backward returned a list; accepted is an array"),
        (1.0, "the shape is"),
        (np.array([[object()]]), "error"),
        ("dx", "error"),
    ],
)
def test_whatever_a_layer_returns_becomes_a_verdict(returned: Any, words: str) -> None:
    class Odd(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return returned

    report = check_layer(Odd, layers.swish, inputs=[(6, 5)], against=[], on_fail="report")
    failed = [result for result in report.failures if result.check == "gradients"]
    assert len(failed) == 2
    assert all(words in result.message for result in failed)


def test_whatever_a_layer_raises_becomes_a_verdict_with_its_place() -> None:
    class Exits(layers.Swish):
        def backward(self, dy: Any) -> Any:
            sys.exit(3)

    report = check_layer(Exits, layers.swish, inputs=[(6, 5)], on_fail="report")
    assert not report.passed
    failed = next(result for result in report.failures if result.check == "gradients")
    assert "SystemExit: 3" in failed.message
    assert "test_api.py, in backward" in failed.message
    assert all(result.state == "skipped" for result in report.results if result.check == "deterministic")


def test_a_gradient_that_nothing_could_have_shown_fails() -> None:
    class Dead(layers.Swish):
        def forward(self, x: Any) -> Any:
            return 0 * x

        def backward(self, dy: Any) -> Any:
            return 0 * dy

    report = check_layer(Dead, lambda xp, params, x: 0 * x, inputs=[(6, 5)], against=[], on_fail="report")
    failed = [result for result in report.failures if result.check == "power"]
    assert failed
    assert "dx" in failed[0].message


def test_expected_failures_are_strict() -> None:
    reason = {"linear_in_cotangent": "it clips on purpose", "gradients": "it clips on purpose"}
    clipped = check_layer(layers.Clips, layers.swish, inputs=[(6, 5)], against=[], expected_failures=reason, on_fail="report")
    assert {result.state for result in clipped.results if result.check == "linear_in_cotangent"} == {"expected"}
    with pytest.raises(ConformanceError, match="it was expected to fail"):
        check_layer(layers.Swish, layers.swish, inputs=[(6, 5)], against=[], expected_failures=reason)


def test_checks_can_be_chosen() -> None:
    report = check_layer(layers.Clips, layers.swish, inputs=[(6, 5)], checks=["forward", "deterministic"], against=[])
    assert {result.check for result in report.results} == {"forward", "deterministic"}


def test_failures_may_warn_instead() -> None:
    with pytest.warns(UserWarning, match="Clips does not conform"):
        report = check_layer(layers.Clips, layers.swish, inputs=[(6, 5)], against=[], on_fail="warn", shrink=False)
    assert not report.passed


def test_a_report_of_nothing_does_not_pass() -> None:
    assert not CheckReport("nothing", (), ()).passed


def test_the_table_and_the_page_hold_every_result() -> None:
    class Script(layers.Swish):
        def backward(self, dy: Any) -> Any:
            raise ValueError("<script>alert(1)</script>")

    report = check_layer(Script, layers.swish, inputs=[(6, 5)], against=["torch"], dtypes=["float64"], on_fail="report")
    frame = report.to_frame()
    assert len(frame) == len(report.comparisons) > 0
    assert {"verdict", "message", "quantity"} <= set(frame.columns)
    page = report._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_callers_random_state_and_flags_stay() -> None:
    import jax
    import torch

    before = (np.random.get_state()[1].tolist(), torch.get_num_threads(), jax.config.jax_enable_x64)  # type: ignore[union-attr, index]  # reason: a tuple unless asked otherwise
    check_layer(layers.Swish, layers.swish, inputs=[(6, 5)], cases=1)
    after = (np.random.get_state()[1].tolist(), torch.get_num_threads(), jax.config.jax_enable_x64)  # type: ignore[union-attr, index]  # reason: as above
    assert before == after


def test_a_specification_serves_as_layer() -> None:
    spec = LayerSpec(layers.Swish, layers.swish, [(6, 5)], name="mine")
    assert check_layer(spec, against=[]).layer == "mine"
    with pytest.raises(BadInput, match="a LayerSpec holds formula"):
        check_layer(spec, layers.swish)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"formula": 3}, "formula: 3"),
        ({"inputs": None}, "inputs: None"),
        ({"dtypes": ["float8"]}, "dtypes: ['float8']; accepted is a list of float64"),
        ({"dtypes": "float64"}, "dtypes: 'float64'"),
        ({"against": ["tensorflow"]}, "against: 'tensorflow'; accepted are"),
        ({"against": "torch"}, "against: 'torch'; accepted is a list"),
        ({"checks": ["speed"]}, "checks: ['speed']; accepted are forward"),
        ({"checks": []}, "checks: none is named"),
        ({"expected_failures": {"speed": "slow"}}, "expected_failures: ['speed']"),
        ({"expected_failures": {"gradients": ""}}, "accepted is the reason"),
        ({"cases": 0}, "cases: 0; accepted is a whole number of at least 1"),
        ({"seed": -1}, "seed: -1"),
        ({"on_fail": "explode"}, "on_fail: 'explode'; accepted are raise, warn, report"),
    ],
)
def test_wrong_settings_are_named(changed: dict[str, Any], words: str) -> None:
    wanted: dict[str, Any] = {"formula": layers.swish, "inputs": [(6, 5)], "against": [], **changed}
    with pytest.raises(BadInput) as raised:
        check_layer(layers.Swish, **wanted)
    assert words in str(raised.value)


def test_a_framework_that_is_not_installed_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.custom.api.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="'torch' is not installed: pip install torch"):
        check_layer(layers.Swish, layers.swish, inputs=[(6, 5)])
    with pytest.raises(BadInput, match="none of torch, jax is installed"):
        check_layer(layers.Swish, layers.swish, inputs=[(6, 5)], against=None)


def test_importing_the_package_imports_no_framework() -> None:
    code = "import sys, harness; print([name for name in ('torch', 'jax', 'pandas', 'numpy') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_check_says_why() -> None:
    assert all(len(why.split()) > 4 for why in CHECKS.values())


class InPlace(layers.Linear):
    """A right layer that writes its gradients into arrays that it made beforehand, one of which has a second name."""

    def __init__(self) -> None:
        super().__init__()
        self.grads = {name: np.zeros_like(value) for name, value in self.params.items()}
        self.dW = self.grads["W"]

    def backward(self, dy: Any) -> Any:
        prepared, self.grads = self.grads, {}
        dx = super().backward(dy)
        self.dW[...] = self.grads["W"]
        prepared["b"][...] = self.grads["b"]
        self.grads = prepared
        return dx


class Wide(InPlace):
    """The same in a dtype of its own: its parameters are in float32, its gradients in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.params = {name: value.astype(np.float32) for name, value in self.params.items()}
        self.W, self.b = self.params["W"], self.params["b"]


def test_prepared_gradients_are_cast_with_the_parameters_unless_they_were_of_another_dtype() -> None:
    assert check_layer(InPlace, layers.linear, inputs=[(6, 5)], on_fail="report", checks=["gradients", "gradient_dtypes"]).passed
    wide = check_layer(Wide, layers.linear, inputs=[(6, 5)], on_fail="report", checks=["gradient_dtypes"])
    assert [one.dtype for one in wide.failures] == ["float32"]
