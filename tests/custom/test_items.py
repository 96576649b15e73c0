"""Layers come in; that a test runner sees each check by its name, fails the right ones and shows why, must hold."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis.database import InMemoryExampleDatabase

from harness import ConformanceError, LayerSpec, layer_checks_generator, parametrize_with_checks
from harness.core import BadInput
from harness.custom import api, remembered
from harness.custom.trials import TrialId
from tests.custom import layers

ROOT = Path(__file__).parents[2]
RIGHT = LayerSpec(layers.Swish, layers.swish, [(6, 5)], name="right")
CLIPS = LayerSpec(layers.Clips, layers.swish, [(6, 5)], name="clips")


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> InMemoryExampleDatabase:
    """Remember trials for one test alone."""
    database = InMemoryExampleDatabase()
    monkeypatch.setattr(remembered, "_open", lambda: database)
    return database


def collect(spec: LayerSpec, **settings: Any) -> dict[str, Any]:
    own = {"against": [], "shrink": False, **settings}
    return {check.name: check for _, check in layer_checks_generator(spec, **own)}


@parametrize_with_checks([RIGHT], against=["torch"])
def test_right_layers_pass_every_check(layer: Any, check: Any) -> None:
    check(layer)


@parametrize_with_checks([CLIPS], expected_failures={"clips": {"linear_in_cotangent": "it clips on purpose"}}, against=[])
def test_expected_failures_are_expected(layer: Any, check: Any) -> None:
    check(layer)


def test_each_check_fails_for_its_own_fault_alone() -> None:
    checks = collect(CLIPS)
    with pytest.raises(ConformanceError) as raised:
        checks.pop("linear_in_cotangent")(CLIPS)
    assert {result.check for result in raised.value.report.results} == {"linear_in_cotangent"}
    for check in checks.values():
        check(CLIPS)


def test_one_run_serves_all_checks_of_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, right = [], api.check_layer
    monkeypatch.setattr(api, "check_layer", lambda *given, **settings: calls.append(1) or right(*given, **settings))
    for check in collect(RIGHT).values():
        check(RIGHT)
    assert calls == [1]


def test_a_run_that_fails_fails_every_check_and_is_not_repeated() -> None:
    asked = []

    def formula(xp: Any, params: Any, x: Any) -> Any:
        asked.append(1)
        raise ValueError("no such formula")

    spec = LayerSpec(layers.Swish, formula, [(6, 5)])
    for check in collect(spec).values():
        with pytest.raises(BadInput, match="no such formula"):
            check(spec)
    assert asked == [1]


def test_an_error_tells_of_every_dtype() -> None:
    class Single(layers.Swish):
        def backward(self, dy: Any) -> Any:
            return super().backward(dy) * (1.5 if dy.dtype == np.float32 else 1)

    spec = LayerSpec(Single, layers.swish, [(6, 5)])
    with pytest.raises(ConformanceError, match=r"gradients \[numpy, float32\]") as raised:
        collect(spec)["gradients"](spec)
    assert raised.value.__notes__ == ["in float64: passed"]


class FailsInTrial(layers.Swish):
    """Wrong for the inputs of one trial alone, which the usual settings draw but few draw."""

    def backward(self, dy: Any) -> Any:
        return super().backward(dy) * (2 if dy.shape[0] == 1 and not self.mended else 1)

    mended = False


def test_a_trial_that_failed_is_tried_again_until_it_passes(memory: InMemoryExampleDatabase) -> None:
    spec = LayerSpec(FailsInTrial, layers.swish, [(6, 5)])
    few = {"cases": 3, "dtypes": ["float64"]}
    collect(spec, **few)["gradients"](spec)
    assert not memory.data
    with pytest.raises(ConformanceError):
        collect(spec, dtypes=["float64"], seed=4)["gradients"](spec)
    assert remembered.recall("FailsInTrial", "gradients") == (TrialId(4, 5, "float64"),)
    with pytest.raises(ConformanceError, match="mismatch in 1 of 4 trials"):
        collect(spec, **few)["gradients"](spec)
    FailsInTrial.mended = True
    collect(spec, cases=3, dtypes=["float32"])["gradients"](spec)
    assert remembered.recall("FailsInTrial", "gradients") == (TrialId(4, 5, "float64"),)
    collect(spec, **few)["gradients"](spec)
    assert remembered.recall("FailsInTrial", "gradients") == ()


def test_what_fails_as_expected_is_not_remembered(memory: InMemoryExampleDatabase) -> None:
    check = collect(CLIPS, expected_failures={"linear_in_cotangent": "it clips"})["linear_in_cotangent"]
    with pytest.raises(pytest.xfail.Exception, match="in float64, float32: expected \\(it clips\\)"):
        check(CLIPS)
    assert not memory.data
    with pytest.raises(ConformanceError):
        collect(CLIPS)["linear_in_cotangent"](CLIPS)
    assert set(remembered.recall("clips", "linear_in_cotangent")) == {TrialId(0, 0, "float64"), TrialId(0, 0, "float32")}


def test_a_check_that_never_ran_fails() -> None:
    check = collect(RIGHT)["gradients"]
    check.run.settings = {**check.run.settings, "checks": ["forward"]}
    with pytest.raises(ConformanceError):
        check(RIGHT)


def test_frameworks_have_items_of_their_own() -> None:
    names = [check.name for _, check in layer_checks_generator(RIGHT, against=None)]
    assert {"gradients", "gradients-torch", "gradients-jax", "forward-jax", "power", "backward_twice"} <= set(names)
    assert len(names) == len(set(names))


def test_a_layer_without_a_formula_has_items_of_which_those_of_a_formula_are_skipped() -> None:
    spec = LayerSpec(layers.Swish, inputs=[(4, 3)], name="unaided")
    settings = {"against": ["torch"], "dtypes": ["float64"], "cases": 1}
    skipped = {}
    for layer, check in layer_checks_generator(spec, **settings):
        try:
            check(layer)
        except pytest.skip.Exception as reason:
            skipped[check.name] = str(reason)
    values = {"forward", "forward-torch", "gradients-torch"}
    assert values == {name for name in skipped if name.partition("-")[0] in api.VALUES}
    assert all("no formula was given" in skipped[name] for name in values)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(BadInput, match="accepted are specifications"):
        list(layer_checks_generator(layers.Swish))  # type: ignore[arg-type]  # reason: the fault
    with pytest.raises(BadInput, match="no layer is named left; accepted are right"):
        parametrize_with_checks([RIGHT], expected_failures={"left": {"forward": "?"}})
    with pytest.raises(BadInput, match="right stands for more than one"):
        parametrize_with_checks([RIGHT, LayerSpec(layers.Clips, layers.swish, [(6, 5)], name="right")])
    with pytest.raises(BadInput, match="is not the one of this check"):
        collect(RIGHT)["forward"](CLIPS)
    with pytest.raises(BadInput, match="layers: none is given"):
        parametrize_with_checks([])
    with pytest.raises(BadInput, match=r"layers: .*Swish.*; accepted are specifications"):
        parametrize_with_checks([layers.Swish])  # type: ignore[list-item]  # reason: the fault
    with pytest.raises(BadInput, match=r"expected_failures\['right'\]: 'no' ?; accepted is a reason for each check"):
        parametrize_with_checks([RIGHT], expected_failures={"right": "no"})  # type: ignore[dict-item]  # reason: the fault
    for wrong, told in WRONG.items():
        with pytest.raises(BadInput, match=told):
            collect(RIGHT, **{wrong: "float8"})


WRONG = {
    "dtypes": "dtypes: 'float8'",
    "formula": "settings: formula; accepted are dtypes, against",
    "on_fail": "settings: on_fail",
}

SUITE = """
from harness import LayerSpec, parametrize_with_checks
from tests.custom import layers

CLIPS = LayerSpec(layers.Clips, layers.swish, [(6, 5)], name="clips")
BROAD = LayerSpec(layers.Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (3,)], name="broad")


@parametrize_with_checks([CLIPS], against=[], checks=["gradients", "linear_in_cotangent"])
def test_layers(layer, check):
    check(layer)


def test_fixture(check_layer):
    report = check_layer(layers.Swish, layers.swish, inputs=[(6, 5)])
    assert {result.dtype for result in report.results} == {"float32"}
    assert {result.backend for result in report.results} == {"numpy"}
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_suite_of_a_user_runs_in_one_process_and_in_several(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_mine.py").write_text(SUITE, encoding="utf-8")
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "harness.pytest_plugin", "-n", workers, "--junitxml", "found.xml",
        "--harness-dtypes", "float32", "--harness-against", "none", "test_mine.py",
    ]  # fmt: skip
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    found = ET.parse(tmp_path / "found.xml").iter("testcase")
    cases = {case.attrib["name"]: [part.tag for part in case if part.tag != "properties"] for case in found}
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert cases == {
        "test_layers[clips-gradients]": [],
        "test_layers[clips-linear_in_cotangent]": ["failure"],
        "test_fixture": [],
    }
    assert "the cotangent 2 dy does not give twice what dy gives" in ran.stdout


def test_the_plug_in_imports_no_framework() -> None:
    code = "import sys, harness.pytest_plugin; print(sorted({*sys.modules} & {'torch', 'jax', 'pandas', 'numpy', 'hypothesis'}))"
    code += "; print([name for name in sys.modules if name.startswith('harness.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split("\n")[:2] == ["[]", "['harness.pytest_plugin']"]
