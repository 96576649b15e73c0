"""Runs come in; the CSV files must be what the harness itself writes while it runs, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from harness.reporters.csv_tables import REPORTER
from harness.reporters.optional import find_table
from harness.table import TABLES, append_rows, open_folder


@pytest.fixture
def written(make_run, tmp_path):
    """Return a run with a folder in which the harness wrote its tables row by row."""
    run = make_run(rows=300, failing=20, message='=HYPERLINK("x")\nsecond, line')
    open_folder(tmp_path / "run")
    for table, kind in TABLES.items():
        records = getattr(run, table).astype(object).to_dict("records")
        append_rows(tmp_path / "run", table, [kind(**record) for record in records])
    return run, tmp_path / "run"


def test_the_files_are_those_of_the_run(written, tmp_path):
    run, folder = written
    paths = REPORTER.write(run, tmp_path)
    assert [path.name for path in paths] == ["comparisons.csv", "discrepancies.csv", "timings.csv"]
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_writing_again_changes_nothing(written):
    run, folder = written
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    REPORTER.write(run, folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before


def test_no_cell_is_a_formula(make_run, tmp_path):
    REPORTER.write(make_run(rows=5, message="=1+1", layer="@SUM(A1)"), tmp_path)
    cells = pd.read_csv(tmp_path / "comparisons.csv").iloc[0]
    assert (cells["message"], cells["layer"]) == ("'=1+1", "'@SUM(A1)")


def test_an_empty_run_writes_its_headers(empty_run, tmp_path):
    for path in REPORTER.write(empty_run, tmp_path):
        frame = pd.read_csv(path)
        assert frame.empty
        assert "dtype" in frame.columns


def test_what_only_some_runs_hold_is_written_where_it_is_not_there(full_run, tmp_path):
    (tmp_path / "selftest.csv").write_text("another wrote this\n")
    names = {path.name for path in REPORTER.write(full_run, tmp_path)}
    assert names >= {"conventions.csv", "selftest_alarms.csv"}
    assert "selftest.csv" not in names
    assert (tmp_path / "selftest.csv").read_text() == "another wrote this\n"
    read = replace(full_run, conventions=pd.read_csv(tmp_path / "conventions.csv"))
    pd.testing.assert_frame_equal(find_table(read, "conventions"), find_table(full_run, "conventions"))
