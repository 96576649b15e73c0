"""Words of the command line come in; reports, files of rows and exit codes go out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.core import BadInput
from harness.custom.command import Asked, check_targets

LAYERS = "tests.custom.layers"
BAD = "tests.custom.misbehaving"
QUICK = ("--against", "none", "--dtypes", "float64", "--cases", "2")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files of smallest cases go where the command is run."""
    monkeypatch.chdir(tmp_path)


def test_a_right_layer_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["check", f"{LAYERS}:Swish", "--formula", "swish", "--inputs", "6x5", *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "Swish conforms: " in shown
    assert "conforms: 1 layer" in shown


def test_a_wrong_layer_does_not_and_the_others_are_checked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    targets = [f"{BAD}:scaled", f"{BAD}:several"]
    assert cli.call(["check", *targets, *QUICK, "--out", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "diagnosis: dx: it is 1.5 times the truth" in shown
    assert "one conforms" in shown
    assert "finding it prints to stdout" in shown
    assert "does not conform: 1 of 3 layers: Scaled" in shown
    assert "smallest case of gradients (float64): " in shown
    (case,) = Path(".harness").glob("Scaled-gradients-*.json")
    assert cli.call(["replay", str(case)]) == 1
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert {row["layer"] for row in rows} == {"Scaled", "one", "two"}
    assert {row["verdict"] for row in rows if row["layer"] == "Scaled"} == {"ok", "mismatch"}


def test_no_smallest_case_is_sought_where_none_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["check", f"{BAD}:scaled", *QUICK, "--no-shrink"]) == 1
    assert "smallest case" not in capsys.readouterr().out
    assert not Path(".harness").exists()


def test_in_github_actions_a_failure_is_annotated(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(Path("summary.md").resolve()))
    assert cli.call(["check", f"{BAD}:scaled", *QUICK, "--no-shrink"]) == 1
    assert "::error file=" in capsys.readouterr().out
    assert "Scaled" in Path("summary.md").read_text(encoding="utf-8")


def test_quiet_shows_failures_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert cli.call(["check", f"{BAD}:several", *QUICK, "--quiet", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == ["conforms: 2 layers"]
    told = json.loads(out.read_text(encoding="utf-8"))
    assert [(one["layer"], one["passed"]) for one in told] == [("one", True), ("two", True)]
    assert {row["verdict"] for row in told[0]["comparisons"]} == {"ok"}
    assert "NaN" not in out.read_text(encoding="utf-8")  # which is no JSON


def test_isolated_neither_the_layer_nor_its_module_is_imported_here(run_harness: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import multiprocessing, os\n"
        "assert multiprocessing.parent_process() is not None, 'imported by the command itself'\n"
        "from tests.custom.layers import Swish\n"
        "class Leaves(Swish):\n"
        "    def backward(self, dy):\n"
        "        return super().backward(dy) if len(dy) > 2 else os._exit(3)\n"
    )
    words = ("check", "mine.py:Leaves", "--inputs", "6x5", "--isolate", "--against", "none", "--dtypes", "float64")
    done = run_harness(*words, "--checks", "gradients")
    assert done.returncode == 1, done.stderr
    assert "crash in 2 of 7 trials: the process died with exit code 3 (line 6 of mine.py, in backward)" in done.stdout


def test_a_module_that_dies_when_it_is_imported_is_told(run_harness: Any, tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text("import ctypes\nctypes.string_at(0)\n")
    done = run_harness("check", "dies.py", "--isolate", "--against", "none")
    assert done.returncode == 2
    assert "target 'dies.py' cannot be imported: crash: " in done.stderr
    assert "(SIGSEGV) (line 2 of dies.py, in <module>)" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "targets: none is named"),
        ((f"{BAD}:nobody",), 2, "has no nobody"),
        ((f"{BAD}:scaled", "--dtypes", "float8"), 2, "unknown dtype 'float8'"),
        ((f"{BAD}:scaled", "--checks", "speed"), 2, "unknown check 'speed'"),
        ((f"{BAD}:scaled", "--against", "tensorflow"), 2, "unknown framework 'tensorflow'"),
        ((f"{BAD}:scaled", "--against", "none", "--cases", "0"), 2, "cases: 0"),
        ((f"{BAD}:scaled", "--against", "none", "--isolate", "--timeout", "0"), 2, "seconds: 0.0"),
        ((f"{BAD}:scaled", "--against", "none", "--out", "rows.xls"), 2, "--out 'rows.xls'; accepted is a file"),
    ],
)
def test_wrong_settings_are_usage(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str) -> None:
    assert cli.call(["check", *words]) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_what_is_required_and_missing_is_exit_4(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.custom.command.find_spec", lambda name: None)
    for words in (("--require", "jax", "--against", "none"), ("--against", "jax")):
        assert cli.call(["check", f"{BAD}:scaled", *words]) == 4
        assert "jax is required and missing; install backprop-harness[jax]" in capsys.readouterr().err
    assert cli.call(["check", f"{BAD}:scaled"]) == 4
    assert "none of torch, jax is installed" in capsys.readouterr().err


def test_nothing_is_run_before_all_is_known() -> None:
    shown: list[Any] = []
    with pytest.raises(BadInput):
        check_targets(Asked([f"{BAD}:scaled", f"{BAD}:nobody"], against="none"), shown.append)
    assert shown == []
