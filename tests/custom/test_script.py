"""Cases come in; that scripts are short, run, and are not believed before they were run, goes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness import LayerSpec
from harness.custom.layer_case import LayerCase, record_case
from harness.custom.scene import run_once
from harness.custom.script import MOST_LINES, compose_script, try_replay, try_script
from harness.custom.shrink import Reason, find_truth
from harness.custom.trials import draw_trial
from tests.custom import importable, layers

SPEC = LayerSpec(importable.Averages, layers.linear, [(2, 5)])


def record(spec: LayerSpec = SPEC, quantity: str = "db", dtype: str = "float64") -> LayerCase:
    return record_case(spec, draw_trial(spec, dtype, 0, 0), Reason("gradients", quantity=quantity), Path.cwd())


@pytest.mark.parametrize("framework", ["jax", "torch", ""])
@pytest.mark.parametrize("quantity", ["y", "dx", "dW"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scripts_are_programs_of_at_most_25_lines(framework: str, quantity: str, dtype: str) -> None:
    text = compose_script(record(quantity=quantity, dtype=dtype), framework, 1e-8, "Layer()", {"W": ["W"], "b": ["b", "bias"]})
    if text:  # torch has no room for two more lines
        compile(text, "script.py", "exec")
        assert len(text.splitlines()) <= MOST_LINES
    assert text or (framework, dtype) == ("torch", "float32")


@pytest.mark.parametrize("quantity", ["dx", "db"])
def test_without_a_formula_the_forward_pass_itself_is_differentiated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantity: str
) -> None:
    spec = SPEC if quantity == "db" else LayerSpec(importable.Slightly, layers.swish, [(2, 5)])
    trial = draw_trial(spec, "float64", 0, 0)
    case = replace(record_case(spec, trial, Reason("gradients", quantity=quantity), tmp_path), formula="")
    names = {"W": ["W"], "b": ["b"]} if quantity == "db" else {}
    path = tmp_path / "script.py"
    path.write_text(compose_script(case, "", 1e-8, "Layer()", names, unaided=True), encoding="utf-8")
    assert "formula" not in path.read_text(encoding="utf-8")
    got, truth = run_once(trial)[quantity], find_truth(trial, quantity)
    assert not try_script(path, got, truth, 1e-8)
    monkeypatch.setenv(importable.MENDED, "yes")
    assert "it exits with 0, not 1" in try_script(path, got, truth, 1e-8)


def test_without_a_formula_an_output_is_compared_with_the_forward_pass_in_float64(tmp_path: Path) -> None:
    spec = LayerSpec(importable.Promotes, None, [(2, 5)])
    trial = draw_trial(spec, "float32", 0, 0)
    case = record_case(spec, trial, Reason("forward", quantity="y"), tmp_path)
    path = tmp_path / "script.py"
    path.write_text(compose_script(case, "", 1e-5, "Layer()", unaided=True), encoding="utf-8")
    assert "formula" not in path.read_text(encoding="utf-8")
    y = np.asarray(trial.kind().forward(trial.problem.inputs["x"]))
    assert not try_script(path, y, find_truth(trial, "y"), 1e-5)


def test_there_is_no_script_in_bfloat16_nor_of_large_arrays() -> None:
    assert not compose_script(record(dtype="bfloat16"), "", 1e-8)
    large = LayerSpec(importable.Slightly, layers.swish, [(20, 20)])
    assert not compose_script(record(large, "dx"), "", 1e-8)


def test_numbers_that_are_none_and_empty_arrays_can_be_written() -> None:
    odd = replace(record(quantity="dx"), inputs=(np.array([np.nan, np.inf, -np.inf]), np.zeros((0, 2))), constants=(1,))
    text = compose_script(odd, "jax", 1e-8)
    assert "np.array([np.nan, np.inf, -np.inf])" in text
    assert "np.zeros((0, 2), 'float64')" in text


def test_what_lies_deeper_in_a_module_is_reached() -> None:
    deep = replace(record(), layer="a.b:Outer.Inner", formula="a.b:formula")
    text = compose_script(deep, "jax", 1e-8)
    assert "from a.b import Outer as Layer, formula as formula\nLayer = Layer.Inner\n" in text


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('dx by jax:', [1.0]); print('dx by the layer:', [2.0]); raise SystemExit(1)", ""),
        ("print('dx by jax:', [1.0]); print('dx by the layer:', [2.0])", "it exits with 0, not 1"),
        ("print('dx by jax:', [1.0]); raise SystemExit(1)", "does not print both"),
        ("print('dx by jax:', [1.5]); print('dx by the layer:', [2.0]); raise SystemExit(1)", "does not print both"),
        ("print('dx by jax:', [1.0]); print('dx by the layer:', [nan]); raise SystemExit(1)", "does not print both"),
        ("import os; os._exit(7)", "it exits with 7, not 1: it says nothing"),
        ("raise ValueError('odd')", "does not print both arrays as they are: ValueError: odd"),
    ],
)
def test_a_script_is_believed_when_it_does_what_it_says(tmp_path: Path, program: str, words: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(f"nan = float('nan')\n{program}\n", encoding="utf-8")
    said = try_script(path, np.array([2.0]), np.array([1.0]), 0.1)
    assert (words in said) if words else not said


def test_a_script_of_a_layer_that_raises_prints_the_truth_alone(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("print('dx by jax:', [1.0])\nraise ValueError('odd')\n", encoding="utf-8")
    assert not try_script(path, None, np.array([1.0]), 0.1)


def test_a_script_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.custom.script.PATIENCE", 1)
    path = tmp_path / "script.py"
    path.write_text("import time\ntime.sleep(60)\n", encoding="utf-8")
    assert "more than 1 seconds" in try_script(path, None, np.array([1.0]), 0.1)


def test_a_replay_of_nothing_is_none(tmp_path: Path) -> None:
    assert "it exits with 2, not 1" in try_replay(tmp_path / "nothing.json")
