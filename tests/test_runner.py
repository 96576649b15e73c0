"""Settings come in; a checked plan, a run folder and an exit code go out."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import harness.runner as runner
from harness.core import BadInput, Comparison
from harness.discovery import find_backends
from harness.engines import Shard
from harness.findings import Finding, Ledger
from harness.judge.oracle import OracleFault
from harness.runner import Settings, Tally, choose_backends, decide_exit, execute, find_missing, make_plan, replay_case, require

ROW = Comparison(
    case="c", network="n", hazards="", backend="numpy", variant="layer", dtype="float32", node="relu1", layer="relu",
    quantity="dx", check="local", verdict="ok", decides=True, error_in_bounds=0.5, n_compared=12,
)  # fmt: skip
SMALL = Settings(6, 3, "numpy", draws=2, jobs=0, timings=False)


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Return the settings of a small run into a fresh folder."""
    return replace(SMALL, out=tmp_path / "run")


@pytest.fixture
def absent(monkeypatch) -> str:
    """Add a backend whose framework is not installed, and return its name."""

    def lack() -> str:
        raise ImportError("No module named 'absent'")

    fake = SimpleNamespace(
        name="absent",
        framework="absent",
        variant="formula",
        default=True,
        decides=True,
        version=lack,
        threads="",
        arithmetic=None,
    )
    monkeypatch.setitem(find_backends(), "absent", fake)
    return "absent"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cases": 0}, "--cases 0; accepted is a whole number of at least 1"),
        ({"seed": -1}, "--seed -1; accepted is a whole number of at least 0"),
        ({"draws": 0}, "--draws 0; accepted"),
        ({"jobs": -2}, "--jobs -2; accepted is a whole number of at least -1"),
        ({"timeout": 0.0}, "--timeout 0; accepted is a number of seconds above 0"),
        ({"timeout": float("nan")}, "--timeout nan; accepted"),
        ({"backends": "none"}, "unknown backend 'none'; accepted are autograd, jax"),
        ({"backends": ""}, "no backend is named; accepted are all or"),
        ({"layers": "relu,nope"}, "unknown layer 'nope'; accepted are add, affine"),
        ({"layers": ","}, "no layer is named"),
        ({"dtypes": "float8"}, "unknown dtype 'float8'; accepted are bfloat16, float16, float32, float64"),
        ({"dtypes": ""}, "no dtype is named"),
        ({"hazards": "fire"}, "unknown hazard 'fire'; accepted are batch-0"),
    ],
)
def test_a_setting_that_cannot_be_is_bad_input_that_names_it(change, text):
    with pytest.raises(BadInput) as caught:
        make_plan(replace(SMALL, **change))
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_framework_stands_for_its_default_backends():
    assert choose_backends("jax") == ["jax", "jax:native"]
    assert choose_backends("jax:eager,numpy,jax") == ["jax:eager", "numpy", "jax", "jax:native"]
    assert set(choose_backends("all")) == {name for name, backend in find_backends().items() if backend.default}


def test_a_missing_framework_is_left_out_and_told(absent):
    plan = make_plan(replace(SMALL, backends="numpy,absent"))
    assert plan.backends == ("numpy",)
    assert plan.missing == find_missing([absent]) == {"absent": "No module named 'absent'"}


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"backends": "numpy", "require": "absent"}, True),
        ({"backends": "numpy,absent"}, True),
        ({"backends": "all", "require": "numpy"}, False),
        ({"backends": "numpy", "require": "numpy"}, False),
    ],
)
@pytest.mark.usefixtures("absent")
def test_what_was_asked_for_by_name_must_be_there(change, lost):
    text = require(make_plan(replace(SMALL, **change)))
    assert text.startswith("absent is required and missing") if lost else text == ""


def test_a_run_leaves_its_tables_and_what_is_known_of_it(settings):
    info = execute(make_plan(settings))
    folder = settings.out
    assert json.loads((folder / "run.json").read_text()) == info
    rows = pd.read_csv(folder / "comparisons.csv", keep_default_na=False)
    assert len(rows) == sum(info["counts"].values()) > 20
    assert rows.n_compared.sum() == info["n_compared"]
    assert rows.case.nunique() == info["cases_done"] == len((folder / "cases.jsonl").read_text().splitlines()) == 6
    assert rows.network.nunique() == info["graphs"] == 3
    assert (info["exit_code"], info["status"], info["failed"], info["seed"]) == (0, "conforms", 0, 3)
    assert {"python", "numpy", "backprop-harness"} <= set(info["versions"])
    assert [backend["name"] for backend in info["backends"]] == ["numpy"]
    assert info["worst_ok"] == pytest.approx(rows[rows.verdict == "ok"].error_in_bounds.max())
    assert info["settings"]["out"] == "run"


def test_the_same_settings_give_the_same_rows(settings, tmp_path):
    texts = []
    for name in ("a", "b"):
        execute(make_plan(replace(settings, out=tmp_path / name)))
        texts.append((tmp_path / name / "comparisons.csv").read_text())
    assert texts[0] == texts[1]
    execute(make_plan(replace(settings, out=tmp_path / "a", seed=4)))
    assert (tmp_path / "a" / "comparisons.csv").read_text() != texts[0]


def test_progress_is_told_as_shards_end(settings):
    told: list[tuple[int, int]] = []
    execute(make_plan(settings), lambda done, tally: told.append((done, len(tally.cases))))
    assert told == [(2, 2), (2, 4), (2, 6)]


def _stop_after(shards: int, error: BaseException) -> Any:
    """Return an engine that ends with the error after some shards."""
    right = runner.choose_engine

    def engine(*arguments: Any) -> Any:
        for done, pair in enumerate(right(*arguments)):
            if done == shards:
                raise error
            yield pair

    return engine


def test_an_interrupted_run_keeps_what_is_done(settings, monkeypatch):
    monkeypatch.setattr(runner, "choose_engine", _stop_after(1, KeyboardInterrupt()))
    info = execute(make_plan(settings))
    assert (info["exit_code"], info["status"], info["interrupted"], info["cases_done"]) == (130, "interrupted", True, 2)
    assert len((settings.out / "cases.jsonl").read_text().splitlines()) == 2
    assert pd.read_csv(settings.out / "comparisons.csv").case.nunique() == 2


@pytest.mark.parametrize(
    ("error", "code", "status"), [(OracleFault("lost"), 3, "harness failed"), (BadInput("no more graphs"), 2, "bad input")]
)
def test_a_run_that_fails_keeps_what_is_done_and_never_says_that_it_conforms(settings, monkeypatch, error, code, status):
    monkeypatch.setattr(runner, "choose_engine", _stop_after(1, error))
    with pytest.raises(type(error)):
        execute(make_plan(settings))
    info = json.loads((settings.out / "run.json").read_text())
    assert (info["exit_code"], info["status"], info["cases_done"]) == (code, status, 2)


def _tally(*rows: Comparison) -> Tally:
    tally = Tally()
    tally.count(rows)
    return tally


FAILING, WITNESS = replace(ROW, verdict="mismatch"), replace(ROW, decides=False)
POWERLESS, PLANTED = replace(ROW, verdict="powerless"), replace(ROW, verdict="powerless", hazards="batch-1")
STALE = Ledger([Finding("F", "r", "p", "numpy", "relu", "dx", "mismatch", ("c",))])
STALE.excuse([ROW])


@pytest.mark.parametrize(
    ("rows", "ledger", "stopped", "expected"),
    [
        ([ROW], Ledger([]), 0, (0, "conforms")),
        ([ROW, FAILING], Ledger([]), 0, (1, "mismatch")),
        ([ROW], STALE, 0, (1, "stale finding")),
        ([], Ledger([]), 0, (4, "nothing ran")),
        ([WITNESS, replace(WITNESS, verdict="mismatch")], Ledger([]), 0, (4, "nothing ran")),
        ([replace(ROW, verdict="unsupported", n_compared=0)], Ledger([]), 0, (4, "nothing ran")),
        ([replace(ROW, verdict="error", n_compared=0)], Ledger([]), 0, (1, "mismatch")),
        ([*[ROW] * 98, POWERLESS, POWERLESS], Ledger([]), 0, (1, "powerless")),
        ([*[ROW] * 99, POWERLESS], Ledger([]), 0, (0, "conforms")),
        ([*[ROW] * 9, *[PLANTED] * 9], Ledger([]), 0, (0, "conforms")),
        ([*[ROW] * 9, *[replace(POWERLESS, decides=False)] * 9], Ledger([]), 0, (0, "conforms")),
        ([ROW], Ledger([]), 130, (130, "interrupted")),
        ([ROW, FAILING], Ledger([]), 130, (1, "mismatch")),
        ([ROW], Ledger([]), 3, (3, "harness failed")),
        ([ROW, FAILING], Ledger([]), 3, (3, "harness failed")),
        ([ROW], Ledger([]), 2, (2, "bad input")),
    ],
)
def test_the_exit_code_says_how_the_run_ended(rows, ledger, stopped, expected):
    assert decide_exit(_tally(*rows), ledger, stopped) == expected


@pytest.mark.parametrize(
    "verdict",
    "mismatch nonfinite oracle-nonfinite shape dtype missing vacuous contract error crash timeout".split(),
)
def test_each_of_these_verdicts_ends_a_run_red(verdict):
    assert decide_exit(_tally(*[ROW] * 1000, replace(ROW, verdict=verdict)), Ledger([]))[0] == 1


def test_twenty_failures_are_kept_and_all_are_counted():
    tally = _tally(*[replace(FAILING, case=str(i)) for i in range(50)])
    assert (tally.failed, [row.case for row in tally.failures]) == (50, [str(i) for i in range(20)])


def test_cases_of_a_shard_that_was_split_are_counted_once():
    (shard, *_) = make_plan(SMALL).shards()
    tally = Tally()
    assert [len(tally.take(part.cases)) for part in (shard, *Shard(shard.cases, ("numpy", "autograd")).split())] == [2, 0, 0]
    assert len(tally.cases) == 2


def test_a_case_can_be_replayed_in_this_process(settings):
    plan = make_plan(settings)
    case = next(iter(plan.shards())).cases[1]
    info = execute(plan)
    rows = pd.read_csv(settings.out / "comparisons.csv", keep_default_na=False)
    again = replay_case(case, ["numpy"])
    assert info["failed"] == 0
    assert [row.error_in_bounds for row in again] == pytest.approx(rows[rows.case == case.id].error_in_bounds.tolist())
