"""A plan comes in; its part's rows, the tables of all parts and an exit code go out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pandas as pd
import pytest

from harness.core import BadInput, Comparison
from harness.mutations.mutation import find_mutation
from harness.selftest import driver
from harness.selftest.driver import LOST, count_alarms, execute, selftest_layer
from harness.selftest.plan import Settings, make_plan
from harness.selftest.tables import list_methods, read_trials

ROW = Comparison(
    case="c", network="n", hazards="", backend="numpy", variant="layer", dtype="float32", node="relu1", layer="relu",
    quantity="dx", check="local", verdict="ok", decides=True,
)  # fmt: skip
FEW = ("db scaled by 1 + e", "gradients of the other sign")


@pytest.fixture(autouse=True)
def few_faults(monkeypatch):
    """Plant two kinds of faults alone, and take the judge's own check for granted: it has tests of its own."""
    real = driver.run_task.__globals__["list_faults"]
    chosen = lambda case, layers: [fault for fault in real(case, layers) if fault.name in FEW]  # noqa: E731  # reason: it is given away at once
    monkeypatch.setattr("harness.selftest.trials.list_faults", chosen)
    monkeypatch.setattr(driver, "check_judge", lambda: None)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(
        6, 3, dtypes="float32", backends="numpy", against="allclose", layers="affine,sigmoid,add", out=tmp_path / "run", jobs=0
    )


def run_parts(settings, parts):
    return [execute(make_plan(replace(settings, part=f"{part}/{parts}"))) for part in range(1, parts + 1)][-1]


def test_the_faults_are_found_and_nobody_is_accused(settings):
    steps = []
    found = execute(make_plan(settings), lambda done: steps.append(len(done.graphs) + done.tasks))
    assert (found.status, found.code, found.parts, found.unmet) == ("conforms", 0, (1, 1), ())
    assert steps == list(range(1, 10))
    ours = found.detection[found.detection["method"] == "verdict"]
    assert set(ours["kind"]) == set(FEW)
    gross = ours[ours["kind"] == FEW[1]]
    assert gross[["found", "missed"]].values.tolist() == [[3, 0]]
    written = pd.read_csv(settings.out / "selftest.csv")
    assert written[["method", "kind", "found"]].equals(found.detection[["method", "kind", "found"]])
    alarms = pd.read_csv(settings.out / "selftest_alarms.csv").set_index("backend")
    assert alarms.loc["numpy", ["networks", "false_alarms"]].tolist() == [6, 0]
    assert alarms.loc["rival:allclose", "networks"] == 3


def test_parts_add_up_to_the_whole(settings, tmp_path):
    whole = execute(make_plan(settings))
    parts = run_parts(replace(settings, out=tmp_path / "parts"), 3)
    pd.testing.assert_frame_equal(parts.alarms, whole.alarms)
    by = ["kind", "method", "size"]
    pd.testing.assert_frame_equal(
        parts.detection.sort_values(by, ignore_index=True), whole.detection.sort_values(by, ignore_index=True)
    )
    assert parts.parts == (3, 3)


def test_a_part_run_again_is_counted_once(settings):
    execute(make_plan(replace(settings, part="1/2")))
    again = execute(make_plan(replace(settings, part="1/2")))
    assert again.parts == (1, 2)
    assert again.alarms.set_index("backend").loc["numpy", "networks"] == 3


def test_parts_of_another_selftest_are_bad_input(settings):
    execute(make_plan(replace(settings, part="1/2")))
    with pytest.raises(BadInput, match="holds a part of another selftest"):
        execute(make_plan(replace(settings, part="2/2", seed=5)))


def test_a_folder_that_cannot_be_made_is_bad_input(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="accepted is a folder that can be written"):
        execute(make_plan(replace(settings, out=tmp_path / "file" / "run")))


def test_what_is_done_is_kept_when_it_is_interrupted(settings):
    def stop(done):
        if done.tasks == 2:
            raise KeyboardInterrupt

    found = execute(make_plan(settings), stop)
    assert (found.status, found.code, found.parts) == ("interrupted", 130, (0, 1))
    trials = read_trials([settings.out / "selftest_parts" / "1-of-1" / "trials.csv"])
    assert trials["network"].nunique() == 2
    assert len(pd.read_csv(settings.out / "selftest.csv")) > 0


def test_a_false_alarm_turns_the_exit_code_and_keeps_its_case(settings, monkeypatch):
    """Bounds a million times too narrow accuse right layers."""
    from reference_layers import Affine

    bound = Affine.backward_bound

    def narrow(r, params, x, dy):
        right = bound(r, params, x, dy)
        return replace(right, dparams={name: 1e-6 * value for name, value in right.dparams.items()})

    monkeypatch.setattr(Affine, "backward_bound", staticmethod(narrow))
    found = execute(make_plan(replace(settings, mutated=0)))
    assert (found.status, found.code) == ("false alarms", 1)
    assert found.unmet[0].startswith("numpy, float32: ")
    lines = (settings.out / "selftest_parts" / "1-of-1" / "false_alarms.jsonl").read_text().splitlines()
    assert len(lines) == found.alarms["false_alarms"].sum()
    assert {"case", "backend", "node", "quantity", "verdict", "message"} == set(json.loads(lines[0]))


def test_blindness_is_not_all_found(settings, monkeypatch):
    """Every layer is asked for and the thresholds' fault is never planted."""
    found = execute(make_plan(replace(settings, layers="all", networks=0, mutated=1)))
    assert (found.status, found.code) == ("not all found", 1)
    assert any("dW scaled by 1 + e, float32, local" in line for line in found.unmet)


def test_a_network_whose_worker_is_lost_counts_against_us(settings, monkeypatch):
    def lose(work, tasks, jobs, timeout):
        return [(task, None, "the process died") for task in tasks]

    monkeypatch.setattr(driver, "run_tasks", lose)
    found = execute(make_plan(replace(settings, networks=0)))
    assert (found.status, found.code) == ("false alarms", 1)
    assert found.alarms[["backend", "false_alarms"]].values.tolist() == [[LOST, 3]]
    lost = json.loads((settings.out / "selftest_parts" / "1-of-1" / "done.json").read_text())["lost"]
    assert all(line.endswith("the process died") for line in lost)


def test_workers_give_what_this_process_gives(settings, tmp_path):
    small = replace(settings, networks=2, mutated=1)
    here = execute(make_plan(small))
    there = execute(make_plan(replace(small, jobs=1, out=tmp_path / "there")))
    pd.testing.assert_frame_equal(here.alarms, there.alarms)
    both = [frame[frame["kind"] == FEW[1]].reset_index(drop=True) for frame in (here.detection, there.detection)]
    pd.testing.assert_frame_equal(*both)


def test_rows_are_counted_by_dtype_and_backend_and_a_case_once():
    judged: set[tuple[str, str]] = set()
    rows = [
        ROW,
        replace(ROW, verdict="mismatch"),
        replace(ROW, backend="torch"),
        replace(ROW, decides=False, backend="jax:tapped"),
    ]
    first = count_alarms(rows, judged)
    assert [(a.backend, a.networks, a.rows, a.false_alarms) for a in first] == [("numpy", 1, 2, 1), ("torch", 1, 1, 0)]
    assert [(a.networks, a.rows) for a in count_alarms([ROW], judged)] == [(0, 1)]


def test_a_layer_of_ones_own_is_asked_whether_a_fault_in_it_would_be_found(layers):
    table = selftest_layer(layers["affine"], networks=2, dtypes=("float64",))
    ours = table[table["method"] == "verdict"]
    assert set(ours["kind"]) == set(FEW)
    assert (ours["smallest_99"].dropna() <= 1e-13).all()
    assert ours[ours["kind"] == FEW[1]]["missed"].tolist() == [0]


def test_a_test_that_sees_nothing_says_so(layers, monkeypatch):
    """With the judge's rows emptied, no fault is found by any of its checks."""
    monkeypatch.setattr("harness.selftest.trials._run_backend", lambda *arguments: [])
    table = selftest_layer(layers["affine"], networks=1, dtypes=("float64",))
    assert (table["found"] == 0).all()
    assert set(table["method"]) == {"local", "lifted", "network", "verdict"}


def test_trials_are_written_with_a_column_for_each_method(settings):
    execute(make_plan(replace(settings, networks=0, mutated=1)))
    path = settings.out / "selftest_parts" / "1-of-1" / "trials.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert {row["kind"] for row in rows} == set(FEW)
    assert list_methods(read_trials([path])) == ["local", "lifted", "network", "verdict", "allclose"]
    assert find_mutation(FEW[0]).sizes == tuple(map(float, rows[0]["sizes"].split()))
