"""Layers that fail come in; that the message shows a small case, and files that show the fault until it is mended, goes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import harness.custom.smallest as smallest
from harness import ConformanceError, LayerSpec, check_layer, layer_checks_generator
from harness.custom.example import Example
from harness.custom.script import GUARD, MOST_LINES
from harness.custom.smallest import find_allowed
from tests.custom import importable, layers

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fail(kind: Any, formula: Any, inputs: Any = ((8, 5),), **more: Any) -> Any:
    return check_layer(kind, formula, inputs=list(inputs), on_fail="report", shrink=True, **{"against": [], "cases": 2, **more})


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=120
    )


@pytest.mark.parametrize(
    ("kind", "formula", "inputs", "settings"),
    [
        (importable.Slightly, layers.swish, [(8, 5)], {}),
        (importable.Averages, layers.linear, [(8, 5)], {}),
        (importable.Shifted, layers.swish, [(8, 5)], {}),
        (importable.Raises, layers.swish, [(8, 5)], {}),
        (importable.Widens, layers.swish, [(8, 5)], {}),
        (importable.TwoInputs, importable.larger, [(4, 3), (4, 3)], {}),
        (importable.Gate, importable.gate, [(8, 5)], {}),
        (importable.Averages, layers.linear, [(8, 5)], {"against": ["jax"], "dtypes": ["float32"]}),
        (importable.Gate, importable.gate, [(8, 5)], {"against": ["torch"], "dtypes": ["float64"]}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_script_shows_the_fault_until_it_is_mended(kind: Any, formula: Any, inputs: Any, settings: dict[str, Any]) -> None:
    report = fail(kind, formula, inputs, **settings)
    example = report.examples[0]
    assert example.script, report
    text = Path(example.script).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert "import harness" not in text
    assert all(f"import {name}" in text for name in settings.get("against", ()))
    wrong = run(example.script)
    assert wrong.returncode == 1
    assert f"{example.quantity} by the layer" in wrong.stdout or example.verdict == "error"
    right = run(example.script, **{importable.MENDED: "yes"})
    assert right.returncode == 0, right.stdout + right.stderr
    assert right.stdout.count(f"{example.quantity} by ") == 2


def test_the_message_shows_the_case_and_how_to_run_it_again() -> None:
    with pytest.raises(ConformanceError) as raised:
        check_layer(importable.Averages, layers.linear, inputs=[(8, 5)], against=[], dtypes=["float64"])
    said = str(raised.value)
    assert "smallest case of gradients (float64): x = [[1.0], [1.0]]" in said
    assert "db by the layer [1.0], by the formula [2.0]" in said
    example = raised.value.report.examples[0]
    assert f"run it again: harness replay {example.case_file}, or python {example.script}" in said
    assert example.case_file.startswith(".harness")
    assert len(said.splitlines()) < 20


def test_the_same_failure_has_the_same_files_and_nothing_else_is_written(tmp_path: Path) -> None:
    names = [sorted(path.name for path in tmp_path.rglob("*")) for _ in range(2) if fail(importable.Slightly, layers.swish)]
    assert names[0] == names[1]
    assert len(names[0]) == 4  # the folder, .gitignore, the case and the script
    assert (tmp_path / ".harness" / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_a_right_layer_writes_nothing_and_shrinks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.custom.pieces.find_examples", None)
    assert check_layer(layers.Swish, layers.swish, inputs=[(8, 5)], against=[], cases=2).passed
    assert not list(tmp_path.iterdir())


def test_a_report_is_shrunk_when_asked_alone(tmp_path: Path) -> None:
    report = check_layer(importable.Slightly, layers.swish, inputs=[(8, 5)], against=[], cases=1, on_fail="report")
    assert report.examples == ()
    assert not list(tmp_path.iterdir())


def test_a_layer_of_a_function_is_shown_and_not_written(tmp_path: Path) -> None:
    class Local(importable.Averages):
        pass

    report = fail(Local, layers.linear)
    (example,) = report.examples
    assert example.inputs["x"].tolist() == [[1.0], [1.0]]
    assert "Local cannot be imported by another process" in repr(report)
    assert not list(tmp_path.iterdir())
    assert (example.script, example.case_file) == ("", "")
    assert "cannot be imported" in repr(fail(importable.Averages, lambda xp, params, x: x @ params["W"] + params["b"]))


def test_a_specification_of_a_module_needs_no_other_name() -> None:
    report = check_layer(importable.styled, against=[], cases=2, on_fail="report", shrink=True)
    example = report.examples[0]
    assert "from tests.custom.importable import styled as spec" in Path(example.script).read_text(encoding="utf-8")
    assert run(example.script).returncode == 1
    assert run(example.script, **{importable.MENDED: "yes"}).returncode == 0


def test_each_failing_check_has_a_case(tmp_path: Path) -> None:
    report = fail(importable.Clips, layers.swish, cases=7)
    assert {example.check for example in report.examples} == {"gradients", "linear_in_cotangent"}
    assert all(Path(example.case_file).exists() for example in report.examples)
    assert "the others: harness replay" in repr(report)


def test_each_item_of_a_test_runner_shows_the_case_of_its_own_check() -> None:
    spec = LayerSpec(importable.Clips, layers.swish, [(8, 5)])
    for _, check in layer_checks_generator(spec, against=[], dtypes=["float64"], checks=["gradients", "linear_in_cotangent"]):
        with pytest.raises(ConformanceError, match=f"smallest case of {check.name}") as raised:
            check(spec)
        assert str(raised.value).count("smallest case") == 1


def test_a_gradient_that_is_wrong_in_a_later_pass_alone_is_said_to_be() -> None:
    report = fail(layers.RemembersTheFirst, layers.swish, checks=["gradients"])
    assert "a fresh layer gives the right numbers" in repr(report)
    assert report.examples[0].case_file
    assert not report.examples[0].script


def test_a_script_that_does_not_work_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(smallest, "compose_script", lambda *given, **more: "print('nothing')\n")
    report = fail(importable.Slightly, layers.swish)
    assert "no script: it exits with 0, not 1" in repr(report)
    assert "harness replay" in repr(report)
    assert not list(tmp_path.rglob("*.py"))


def test_a_case_that_cannot_be_replayed_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(smallest, "compose_script", lambda *given, **more: "")
    monkeypatch.setenv(importable.MENDED, "")
    monkeypatch.setattr(importable, "is_mended", lambda: False)  # wrong here, right in every other process
    report = fail(importable.Slightly, layers.swish)
    assert "no replay: in a fresh process it exits with 0, not 1" in repr(report)
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    report = fail(importable.Slightly, layers.swish, folder="taken")
    assert "nothing can be written to taken" in repr(report)
    assert report.examples[0].inputs["x"].tolist() == [[1.0]]


def test_without_hypothesis_the_case_is_whole_and_the_message_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smallest, "is_available", lambda: False)
    report = fail(importable.Slightly, layers.swish, [(2, 2)])
    assert "NOT SHRUNK: Hypothesis is not installed" in repr(report)
    assert report.examples[0].inputs["x"].shape == (2, 2)
    assert report.examples[0].script


def test_a_program_that_replays_shrinks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GUARD, "no")
    assert fail(importable.Slightly, layers.swish).examples == ()


@settings(max_examples=1)
@given(st.just(0))
def test_a_property_of_hypothesis_shrinks_by_itself(nothing: int) -> None:
    report = check_layer(importable.Slightly, layers.swish, inputs=[(2, 2)], against=[], cases=1, on_fail="report", shrink=True)
    assert report.examples == ()


def test_a_declared_gradient_has_a_script_of_its_own() -> None:
    report = fail(importable.Leaks, importable.relu, gradient=importable.through)
    assert report.examples[0].script
    assert "through as formula" in Path(report.examples[0].script).read_text(encoding="utf-8")


def test_a_layer_without_a_formula_has_a_case_and_a_script_of_its_own_forward_pass() -> None:
    report = fail(importable.Averages, None)
    (example,) = report.examples
    assert example.inputs["x"].shape == (2, 1)
    assert "forward(params, *inputs)" in Path(example.script).read_text(encoding="utf-8")
    assert run(example.script).returncode == 1
    assert run(example.script, **{importable.MENDED: "yes"}).returncode == 0


def test_a_fault_below_rounding_has_no_script() -> None:
    example = Example("gradients", "float32", "dx", "mismatch", "", got=np.ones(1), expected=np.ones(1), in_bounds=0.7)
    spec = LayerSpec(layers.Swish, layers.swish, [(1, 1)])
    assert "one precision up alone" in smallest._add_script(spec, example, None, []).note  # type: ignore[arg-type]  # reason: not looked at


def test_what_is_allowed_lies_between_rounding_and_the_error() -> None:
    example = Example(
        "gradients", "float64", "dx", "mismatch", "", got=np.array([1.0001]), expected=np.array([1.0]), in_bounds=1e8
    )
    assert find_allowed(example) == pytest.approx(1e-8)
    lost = Example("gradients", "float64", "dx", "missing", "", got=None, expected=np.array([4.0]))
    assert find_allowed(lost) == pytest.approx(4 * 2.0**-27)


def test_cases_are_plain_json() -> None:
    record = json.loads(Path(fail(importable.Averages, layers.linear).examples[0].case_file).read_text(encoding="utf-8"))
    assert record["layer"] == "tests.custom.importable:Averages"
    assert record["params"]["b"]["shape"] == [1]
    assert not any(Path(root).is_absolute() for root in record["roots"])
