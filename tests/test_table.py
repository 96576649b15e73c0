"""Rows come in; the columns that are documented, in files that a spreadsheet may open, go out."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core import BadInput, Case, Comparison, Discrepancy, NetworkSpec, NodeSpec, Timing, case_from_json
from harness.table import (
    COLUMNS,
    TABLES,
    append_cases,
    append_rows,
    guard_cell,
    guard_frame,
    load_run,
    make_frame,
    open_folder,
)

ROW = Comparison(
    case="s1n2d3-f32-00000000", network="0" * 8, hazards="", backend="numpy", variant="layer", dtype="float32", node="relu1",
    layer="relu", quantity="dx", check="local", verdict="ok", decides=True, error_in_bounds=0.5, n_compared=12,
    worst_index="1 2", got=1 / 3, expected=-1e-310, message="fine, \"quoted\"\nin two lines",
)  # fmt: skip
CASE = Case(NetworkSpec({"x": 3}, (NodeSpec("relu1", "relu", ("x",), 3),), 5), "float64", seed=1)


@pytest.fixture
def folder(tmp_path):
    """Return an empty run folder with what `run.json` must hold to be read."""
    open_folder(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{}")
    append_cases(tmp_path / "run", [])
    return tmp_path / "run"


def test_every_column_is_documented_and_every_documented_column_is_there():
    assert list(COLUMNS) == [column.name for column in fields(Comparison)]
    assert all(text and text == text.strip() for text in COLUMNS.values())


def test_the_columns_that_the_guide_promises_are_there():
    assert {"case", "backend", "dtype", "layer", "quantity", "verdict", "error_in_bounds", "n_compared"} <= set(COLUMNS)


@pytest.mark.parametrize(("table", "kind"), TABLES.items())
def test_a_frame_has_a_column_for_each_field_also_without_rows(table, kind):
    names = [column.name for column in fields(kind)]
    assert list(make_frame([], kind).columns) == names
    assert len(make_frame([], kind)) == 0


def test_a_frame_holds_the_rows():
    frame = make_frame([ROW, replace(ROW, verdict="mismatch")])
    assert frame.verdict.tolist() == ["ok", "mismatch"]
    assert frame.got.tolist() == [1 / 3, 1 / 3]


def test_rows_come_back_from_disk_as_they_were(folder):
    rows = [ROW, replace(ROW, got=float("nan"), expected=float("inf"), worst_index="", verdict="nonfinite", decides=False)]
    append_rows(folder, "comparisons", rows[:1])
    append_rows(folder, "comparisons", rows[1:])
    found = load_run(folder).comparisons
    assert len(found) == 2
    for name in ("got", "expected", "power", "ulps", "error_in_bounds"):
        np.testing.assert_array_equal(found[name], [getattr(row, name) for row in rows])
    for name in ("case", "hazards", "backend", "verdict", "worst_index", "message", "decides", "n_compared", "n_wrong"):
        assert found[name].astype(object).tolist() == [getattr(row, name) for row in rows]


def test_an_empty_run_is_read_with_all_its_columns(folder):
    run = load_run(folder)
    for table, kind in TABLES.items():
        frame = getattr(run, table)
        assert list(frame.columns) == [column.name for column in fields(kind)]
        assert len(frame) == 0
    assert run.training.empty
    assert run.cases == {}


def test_the_tables_of_discrepancies_and_timings_come_back(folder):
    discrepancy = Discrepancy("c", "float32", "y", "numpy", "torch", 3, 0.0, 1e-7, 2.0, 1.0)
    timing = Timing("n", 10, 4, "float32", "numpy", "forward", 1e-5, 9e-6, 2e-5, 30, 1, 1.0, 1.0)
    append_rows(folder, "discrepancies", [discrepancy])
    append_rows(folder, "timings", [timing])
    run = load_run(folder)
    assert run.discrepancies.iloc[0].astype(object).tolist() == list(vars(discrepancy).values())
    assert run.timings.iloc[0].astype(object).tolist() == list(vars(timing).values())


def test_cases_come_back_by_their_id(folder):
    append_cases(folder, [CASE])
    (identity, text), *_ = load_run(folder).cases.items()
    assert identity == CASE.id
    assert case_from_json(text) == CASE
    assert case_from_json(text).id == CASE.id


def test_a_new_run_replaces_the_old_one_and_nothing_else(folder):
    append_rows(folder, "comparisons", [ROW])
    (folder / "notes.txt").write_text("mine")
    open_folder(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert len((folder / "comparisons.csv").read_text().splitlines()) == 1
    assert not (folder / "run.json").exists()


@pytest.mark.parametrize("broken", ["run.json", "comparisons.csv", "cases.jsonl"])
def test_a_folder_without_a_run_is_bad_input(folder, broken):
    (folder / broken).unlink()
    with pytest.raises(BadInput, match="accepted is a folder that `harness run` has written"):
        load_run(folder)


def test_a_run_file_that_is_no_json_is_bad_input(folder):
    (folder / "run.json").write_text("{")
    with pytest.raises(BadInput, match="accepted is a folder"):
        load_run(folder)


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"--out .*file.*accepted is a folder that can be written"):
        open_folder(tmp_path / "file" / "run")


@given(st.text())
def test_no_cell_is_read_as_a_formula(text):
    guarded = guard_cell(text)
    assert guarded[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert guarded in (text, f"'{text}")


@given(st.floats() | st.integers() | st.booleans() | st.none())
def test_numbers_are_left_as_they_are(value):
    assert guard_cell(value) is value


def test_a_message_that_looks_like_a_formula_is_guarded_on_disk(folder):
    append_rows(folder, "comparisons", [replace(ROW, message="=HYPERLINK(1)", got=-1.5)])
    (found,) = load_run(folder).comparisons.itertuples()
    assert (found.message, found.got) == ("'=HYPERLINK(1)", -1.5)


def test_a_frame_is_guarded_in_its_text_alone():
    frame = pd.DataFrame({"text": ["=1", "one"], "number": [-1.0, 2.0], "category": pd.Categorical(["+1", "a"])})
    guarded = guard_frame(frame)
    assert guarded.text.tolist() == ["'=1", "one"]
    assert guarded.category.tolist() == ["'+1", "a"]
    assert guarded.number.tolist() == [-1.0, 2.0]
    assert frame.text.tolist() == ["=1", "one"]
