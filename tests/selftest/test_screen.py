"""Scores come in; tables that a reader understands go out."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from harness import cli
from harness.mutations.mutation import find_mutation
from harness.mutations.named import NAMED
from harness.rivals.rival import find_rivals
from harness.selftest.score import Score
from harness.selftest.screen import describe_finding, print_score
from harness.selftest.tables import ALARMS, CHECKS, frame_trials, score, score_named
from harness.selftest.trials import list_faults


@pytest.fixture
def found(make_trials) -> Score:
    trials = [*make_trials([1e-3, 1e-2]), *make_trials([0.0, 0.0, math.inf], "gross", graded=False)]
    named = [replace(trial, family="named", told=True) for trial in make_trials([0.0], "a named one", graded=False)]
    frame = frame_trials([*trials, *named], CHECKS)
    alarms = pd.DataFrame([("float64", "numpy", 3, 12, 1)], columns=list(ALARMS))
    return Score(
        score(frame), alarms, score_named(frame), 0.25, (3, 4), (1, 2), ("numpy, float64: 1 false alarms",), "false alarms", 1
    )


def printed(found: Score) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_score(found, console)
    return console.file.getvalue()


def test_the_screen_shows_what_was_found_missed_and_accused(found):
    text = printed(found)
    lines = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in lines["graded"].split("│")[1:-1]] == ["graded", "2", "1e-02", "never", "1e-02"]
    assert [cell.strip() for cell in lines["gross"].split("│")[1:-1]] == ["gross", "3", "66.7%", "0.0%", "66.7%"]
    assert "a named one" in lines
    assert "25.0% of the mutants are equivalent" in text
    assert "in 1 of 4 trials of every size" in text
    assert "not as it must be: numpy, float64: 1 false alarms" in text
    assert text.rstrip().endswith("false alarms (1 of 2 parts done)")


def test_named_defects_that_no_network_had_are_told(found):
    told = " ".join(printed(found).split()).partition("never tried, for no network had a layer for it: ")[2]
    assert "epsilon inside the root" in told
    everything = pd.concat([found.named.iloc[:1].assign(kind=mutation.name) for mutation in NAMED])
    assert "never tried" not in printed(replace(found, named=everything))


@pytest.mark.parametrize(
    ("rows", "cell"),
    [
        ([], "-"),
        ([(1e-3, 2, 4, 1e-1), (1e-1, 4, 4, 1e-1)], "1e-01"),
        ([(1e-3, 2, 4, math.inf)], "never"),
        ([(math.nan, 3, 4, math.nan)], "75.0%"),
    ],
)
def test_a_cell_is_the_smallest_size_or_the_share(rows, cell):
    assert describe_finding(pd.DataFrame(rows, columns=["size", "found", "networks", "smallest_99"])) == cell


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Return the words of a small selftest of one kind of fault, into a fresh folder."""
    real = list_faults
    chosen = [find_mutation("gradients of the other sign")]
    monkeypatch.setattr(
        "harness.selftest.trials.list_faults", lambda case, layers: [fault for fault in real(case, layers) if fault in chosen]
    )
    monkeypatch.setattr("harness.selftest.driver.check_judge", lambda: None)
    small = ("--networks", "2", "--mutated", "1", "--dtypes", "float32", "--backends", "numpy", "--layers", "add", "--jobs", "0")
    return ["selftest", *small, "--out", str(tmp_path / "run")]


def test_the_command_prints_the_tables_and_returns_the_exit_code(words, capsys):
    assert cli.call(words) == 0
    shown = capsys.readouterr().out
    assert "gradients of the other sign" in shown
    assert shown.rstrip().endswith("conforms (1 of 1 parts done)")


def test_the_command_is_quiet_when_told_so(words, capsys):
    assert cli.call([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == "conforms\n"


def test_a_mistake_is_one_line(words, capsys):
    assert cli.call([*words, "--part", "4/3"]) == 2
    assert capsys.readouterr().err == "harness: --part '4/3'; accepted is a part of a whole, such as 3/10\n"


def test_what_is_missing_and_asked_for_by_name_ends_it(words, monkeypatch, capsys):
    monkeypatch.setitem(find_rivals(), "allclose", replace(find_rivals()["allclose"], framework="no_such_framework"))
    assert cli.call([*words, "--against", "allclose"]) == 4
    assert "allclose was asked for and is missing" in capsys.readouterr().err
