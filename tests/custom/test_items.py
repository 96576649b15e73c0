"""Layers come in; that a test runner sees each check by its name, fails the right ones and shows why, must hold."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from harness import ConformanceError, LayerSpec, layer_checks_generator, parametrize_with_checks
from harness.core import BadInput
from tests.custom import layers

ROOT = Path(__file__).parents[2]
RIGHT = LayerSpec(layers.Swish, layers.swish, [(6, 5)], name="right")
CLIPS = LayerSpec(layers.Clips, layers.swish, [(6, 5)], name="clips")


def collect(spec: LayerSpec, **settings: Any) -> dict[str, Any]:
    return {check.name: check for _, check in layer_checks_generator(spec, against=[], **settings)}


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
    import harness.custom.api as api

    calls, right = [], api.check_layer
    monkeypatch.setattr(api, "check_layer", lambda *given, **settings: calls.append(1) or right(*given, **settings))
    for check in collect(RIGHT).values():
        check(RIGHT)
    assert calls == [1]


def test_a_check_that_never_ran_fails() -> None:
    check = collect(RIGHT)["gradients"]
    check.run.settings = {**check.run.settings, "checks": ["forward"]}
    with pytest.raises(ConformanceError):
        check(RIGHT)


def test_frameworks_have_items_of_their_own() -> None:
    names = [check.name for _, check in layer_checks_generator(RIGHT)]
    assert {"gradients", "gradients-torch", "gradients-jax", "forward-jax", "power", "backward_twice"} <= set(names)
    assert len(names) == len(set(names))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(BadInput, match="accepted are specifications"):
        list(layer_checks_generator(layers.Swish))  # type: ignore[arg-type]  # reason: the fault
    with pytest.raises(BadInput, match="no layer is named left; accepted are right"):
        parametrize_with_checks([RIGHT], expected_failures={"left": {"forward": "?"}})
    with pytest.raises(BadInput, match="right stands for more than one"):
        parametrize_with_checks([RIGHT, LayerSpec(layers.Clips, layers.swish, [(6, 5)], name="right")])
    with pytest.raises(BadInput, match="is not the one of this check"):
        collect(RIGHT)["forward"](CLIPS)


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
    cases = {case.attrib["name"]: [part.tag for part in case] for case in ET.parse(tmp_path / "found.xml").iter("testcase")}
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert cases == {
        "test_layers[clips-gradients]": [],
        "test_layers[clips-linear_in_cotangent]": ["failure"],
        "test_fixture": [],
    }
    assert "the cotangent 2 dy does not give twice what dy gives" in ran.stdout


def test_the_plug_in_imports_no_framework() -> None:
    code = (
        "import sys, harness.pytest_plugin; print([name for name in ('torch', 'jax', 'pandas', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
