"""Words come in; tables, one line for each mistake, and an exit code go out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness
import harness.runner as runner
from harness import cli
from harness.discovery import find_backends, find_layers
from tests.conftest import ROOT, make_environment

QUICK = ("--seed", "3", "--jobs", "0", "--no-timings")
ALONE = (*QUICK, "--reporters", "none", "--backends", "numpy")
SMALL = ("--cases", "4", "--draws", "2", *ALONE)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Work in a fresh folder, whose `reports/latest` is the default of every command."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


BAD = {
    "cases that are no number": (("run", "--cases", "many"), "--cases", "many"),
    "no cases": (("run", "--cases", "0"), "--cases 0", "at least 1"),
    "a seed below 0": (("run", "--seed", "-1"), "--seed -1", "at least 0"),
    "no time": (("run", "--timeout", "0"), "--timeout 0", "above 0"),
    "jobs below -1": (("run", "--jobs", "-2"), "--jobs -2", "at least -1"),
    "an unknown layer": (("run", "--layers", "nope"), "unknown layer 'nope'", "accepted are add, affine"),
    "an unknown backend": (("run", "--backends", "nope"), "unknown backend 'nope'", "accepted are autograd"),
    "an unknown dtype": (("run", "--dtypes", "float8"), "unknown dtype 'float8'", "accepted are bfloat16, float16, float32"),
    "an unknown hazard": (("run", "--hazards", "fire"), "unknown hazard 'fire'", "accepted are batch-0"),
    "an unknown framework required": (("run", "--require", "nope"), "unknown backend 'nope'", "accepted are"),
    "an unknown reporter": (("run", *QUICK, "--reporters", "pdf"), "unknown reporter 'pdf'", "accepted are csv, html, markdown"),
    "no backend": (("run", "--backends", ""), "no backend is named", "accepted are all or"),
    "a folder that cannot be written": (("run", *SMALL, "--out", "file/run"), "--out 'file/run'", "accepted is a folder"),
    "a folder that is a file": (("run", *SMALL, "--out", "file"), "--out 'file'", "accepted is a folder"),
    "an unknown option": (("run", "--nope", "1"), "--nope", "Unknown option"),
    "an unknown command": (("walk",), '"walk"', "Available commands"),
    "an unknown kind to list": (("list", "things"), '"things"', "layers"),
    "no kind to list": (("list",), "--kind", "requires an argument"),
    "an unknown case": (("replay", "nope"), "case id 'nope'", "accepted is an id such as"),
    "an id of another plan": (("replay", "s1n0d0-f32-00000000"), "case id 's1n0d0-f32-00000000'", "the default plan gives"),
    "a case in a file that is not there": (("replay", "nope.json"), "case 'nope.json'", "accepted is"),
    "a case that is no JSON": (("replay", "{nope"), "case: not valid JSON", "line 1 column 2"),
    "a case without fields": (("replay", "{}"), "missing fields ['dtype', 'network', 'seed']", "accepted are"),
    "a replay on an unknown backend": (("replay", "CASE", "--backends", "nope"), "unknown backend 'nope'", "accepted are"),
    "a report of nothing": (("report", "nowhere"), "run 'nowhere'", "accepted is a folder that `harness run` has written"),
    "a report in an unknown format": (("report", "nowhere", "--reporters", "pdf"), "unknown reporter 'pdf'", "accepted are"),
}  # fmt: skip
CASE = {
    "network": {"widths": {"x": 3}, "nodes": [{"name": "relu1", "layer": "relu", "inputs": ["x"], "width": 3}], "batch": 5},
    "dtype": "float64",
    "seed": 1,
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_line_that_names_it_and_what_is_accepted(mistake, folder, capsys):
    words, *parts = BAD[mistake]
    (folder / "file").write_text("")
    code = cli.call([json.dumps(CASE) if word == "CASE" else word for word in words])
    shown = capsys.readouterr()
    assert code == 2
    assert re.fullmatch(r"harness: [^\n]*\n", shown.err), shown.err
    assert all(part in shown.err for part in parts), shown.err
    assert shown.out == ""


def _change(path: str, value: Any) -> str:
    """Return the JSON of the case with one thing changed."""
    changed = json.loads(json.dumps(CASE))
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place: Any = changed
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(changed)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("dtype", "float8", "case.dtype"),
        ("seed", -1, "case.seed"),
        ("seed", 1.5, "case.seed"),
        ("scale", "large", "case.scale"),
        ("labels", "hard", "case.labels"),
        ("storage", "disk", "case.storage"),
        ("network", 3, "network"),
        ("network.batch", -1, "network.batch"),
        ("network.widths", [3], "network.widths"),
        ("network.nodes", [], "network.nodes"),
        ("network.nodes.0.layer", "nope", "unknown layer 'nope'"),
        ("network.nodes.0.inputs", ["y"], "inputs ['y'] are unknown"),
        ("network.nodes.0.inputs", [], "nobody reads ['x']"),
        ("network.nodes.0.extra", 1, "unknown fields ['extra']"),
    ],
)
def test_a_broken_case_is_one_line_that_names_the_field(path, value, named, capsys):
    assert cli.call(["replay", _change(path, value), "--backends", "numpy"]) == 2
    shown = capsys.readouterr().err
    assert re.fullmatch(r"harness: [^\n]*\n", shown), shown
    assert named in shown


def test_what_is_finished_stays_when_a_later_run_is_a_mistake(folder):
    assert cli.call(["run", *SMALL]) == 0
    before = (folder / "reports" / "latest" / "comparisons.csv").read_text()
    for words in (("--layers", "nope"), ("--reporters", "nope"), ("--require", "nope")):
        assert cli.call(["run", *QUICK, *words]) == 2
    assert (folder / "reports" / "latest" / "comparisons.csv").read_text() == before


def test_a_missing_framework_is_told_and_the_others_run(monkeypatch, capsys):
    def lack(self: Any) -> str:
        raise ImportError("No module named 'autograd'")

    monkeypatch.setattr(type(find_backends()["autograd"]), "version", lack)
    assert cli.call(["run", *SMALL, "--require", "autograd"]) == 4
    assert "autograd is required and missing" in capsys.readouterr().err
    assert cli.call(["run", *SMALL[:-1], "numpy,autograd"]) == 4
    capsys.readouterr()
    monkeypatch.setattr(runner, "require", lambda plan: "")
    assert cli.call(["run", *SMALL[:-1], "numpy,autograd"]) == 0
    assert "autograd is not installed and was not run" in capsys.readouterr().err


def test_in_actions_a_run_adds_to_the_summary_of_the_step(folder, monkeypatch, capsys):
    assert cli.call(["run", *SMALL]) == 0
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folder / "summary.md"))
    assert cli.call(["run", *SMALL]) == 0
    assert not (folder / "summary.md").exists()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert cli.call(["run", *SMALL]) == 0
    assert (folder / "summary.md").read_text("utf-8").startswith("# ✅ Every gradient conforms")
    assert "::error" not in capsys.readouterr().out


def test_a_fault_of_the_harness_is_told_as_one(monkeypatch, capsys):
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(runner, "execute", fail)
    assert cli.call(["run", *SMALL, "--quiet"]) == 3
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("harness: the harness itself failed: planted\n")


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("check", "--help"), ("replay", "--help"), ("--version",), ()])
def test_help_imports_neither_numpy_nor_a_framework(words):
    program = f"import sys; from harness.cli import call; code = call({list(words)!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=make_environment(ROOT),
    )
    heavy = {"numpy", "torch", "jax", "pandas", "scipy", "autograd", "altair", "sklearn", "pebble", "jinja2"}
    assert heavy & set(done.stderr.split()) == set()
    assert done.stdout


def test_help_names_every_command_and_exit_code(capsys):
    assert cli.call(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(command in shown for command in ("run", "replay", "report", "check", "train", "list"))
    assert "0 conforms, 1 mismatch, 2 usage, 3 the harness" in shown


def test_the_version_is_told(capsys):
    assert cli.call(["--version"]) == 0
    assert capsys.readouterr().out.strip() == harness.__version__


@pytest.mark.parametrize(
    ("kind", "name"), [("layers", "softmax_cross_entropy"), ("backends", "numpy"), ("hazards", "batch-0"), ("reporters", "csv")]
)
def test_what_discovery_finds_is_listed(kind, name, capsys):
    assert cli.call(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{name} ") for line in lines)
    if kind == "layers":
        assert [line.split()[0] for line in lines] == list(find_layers())


def test_settings_come_from_the_project_file_and_words_overrule_them(folder):
    lines = ["cases = 3", "draws = 1", "seed = 8", 'backends = "numpy"', "jobs = 0", "timings = false", 'reporters = "none"']
    (folder / "pyproject.toml").write_text("\n".join(["[tool.backprop-harness.run]", *lines]))
    assert cli.call(["run", "--quiet"]) == 0
    info = json.loads((folder / "reports" / "latest" / "run.json").read_text())
    assert (info["cases_done"], info["seed"], info["settings"]["backends"]) == (3, 8, "numpy")
    assert cli.call(["run", "--quiet", "--cases", "2", "--seed", "9"]) == 0
    info = json.loads((folder / "reports" / "latest" / "run.json").read_text())
    assert (info["cases_done"], info["seed"]) == (2, 9)


@pytest.mark.parametrize("line", ["cases = 0", 'layers = "nope"', "nope = 1", 'cases = "many"'])
def test_a_mistake_in_the_project_file_is_one_line(folder, capsys, line):
    (folder / "pyproject.toml").write_text(f"[tool.backprop-harness.run]\n{line}\n")
    assert cli.call(["run", "--quiet", "--jobs", "0"]) == 2
    shown = capsys.readouterr().err
    assert re.fullmatch(r"harness: [^\n]*\n", shown), shown
    assert line.split()[0] in shown or "nope" in shown


def test_a_case_is_replayed_by_its_id_from_the_folder_from_the_seed_from_a_file_and_from_json(folder, capsys):
    assert cli.call(["run", *ALONE, "--cases", "24"]) == 0
    record = json.loads((folder / "reports" / "latest" / "cases.jsonl").read_text().splitlines()[21])
    (folder / "case.json").write_text(json.dumps(record["case"]))
    capsys.readouterr()
    shown = []
    for word in (record["id"], str(folder / "case.json"), json.dumps(record["case"])):
        assert cli.call(["replay", word, "--backends", "numpy"]) == 0
        shown.append(capsys.readouterr().out)
    (folder / "reports" / "latest" / "cases.jsonl").unlink()
    assert cli.call(["replay", record["id"], "--backends", "numpy"]) == 0
    shown.append(capsys.readouterr().out)
    assert record["id"] in shown[0]
    assert len(set(shown)) == 1


def test_a_case_of_another_folder_is_found_there(folder, capsys):
    assert cli.call(["run", *SMALL, "--out", "mine"]) == 0
    record = json.loads((folder / "mine" / "cases.jsonl").read_text().splitlines()[0])
    assert cli.call(["replay", record["id"], "--run", "mine", "--backends", "numpy"]) == 0
    assert record["id"] in capsys.readouterr().out


def test_a_replay_of_a_mismatch_ends_red_and_says_what_is_wrong(monkeypatch, capsys):
    class Wrong(find_layers()["relu"]):  # type: ignore[misc]
        def backward(self, dy: Any, cache: Any = None) -> Any:
            return -super().backward(dy, cache)

    monkeypatch.setitem(find_layers(), "relu", Wrong)
    assert cli.call(["replay", json.dumps(CASE), "--backends", "numpy"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "mismatch" in shown
    assert "entries are further from the truth than rounding moves them" in shown


def test_a_replay_on_witnesses_alone_says_that_it_ran(capsys):
    assert cli.call(["replay", json.dumps(CASE), "--backends", "numerical"]) == 0
    assert "numerical" in capsys.readouterr().out


def test_a_run_is_reported_again_without_running(folder, capsys):
    assert cli.call(["run", *SMALL]) == 0
    assert cli.call(["report", "reports/latest", "--reporters", "markdown", "--out", str(folder)]) == 0
    assert "wrote" in capsys.readouterr().out
    assert "conforms" in (folder / "summary.md").read_text()


def test_a_quiet_run_prints_its_verdict_alone(capsys):
    assert cli.call(["run", *SMALL, "--quiet"]) == 0
    shown = capsys.readouterr()
    assert re.match(r"conforms: 4 cases over 2 graphs, \d+ comparisons of \d+ numbers, 0 failing", shown.out)
    assert shown.err == ""


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["the process", "its workers too, as a terminal does"])
def test_a_run_that_is_interrupted_keeps_what_is_done_and_says_so(folder, send):
    words = [
        "run",
        "--cases",
        "100000",
        "--jobs",
        "1",
        "--no-timings",
        "--reporters",
        "markdown",
        "--backends",
        "numpy",
        "--out",
        "run",
    ]
    # A shell starts what runs in its background deaf to interruptions, and a child would be deaf too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *words], cwd=folder, env=make_environment(folder),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    log = folder / "run" / "cases.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 40) and time.monotonic() < deadline:
        time.sleep(0.05)
    send(process.pid, signal.SIGINT)
    shown, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted: " in shown
    assert "Traceback" not in errors
    info = json.loads((folder / "run" / "run.json").read_text())
    rows = pd.read_csv(folder / "run" / "comparisons.csv", keep_default_na=False)
    assert info["interrupted"]
    assert 40 <= info["cases_done"] == rows.case.nunique() < 100000
    assert len(rows) == sum(info["counts"].values())
    assert (folder / "run" / "summary.md").exists()


def test_the_program_ends_with_the_code_of_the_run(run_harness):
    done = run_harness("replay", json.dumps(CASE), "--backends", "numpy")
    assert done.returncode == 0, done.stderr
    assert run_harness("replay", "nope").returncode == 2
