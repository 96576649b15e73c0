"""Runs come in; what only some hold must read alike however little of it is there."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.reporters.optional import COLUMNS, find_table, list_held


def test_a_run_without_them_has_empty_tables(make_run):
    run = make_run(rows=5)
    assert list_held(run) == []
    for name, columns in COLUMNS.items():
        assert list(find_table(run, name).columns) == columns.replace("|", "").split()


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_reads_back_from_its_file(full_run, name, tmp_path):
    path = tmp_path / f"{name}.csv"
    getattr(full_run, name).to_csv(path, index=False)

    class Read:
        """Stands for a run that holds the table alone."""

    setattr(Read, name, pd.read_csv(path))
    pd.testing.assert_frame_equal(find_table(Read, name), find_table(full_run, name))
    assert list_held(full_run) == list(COLUMNS)


def test_what_a_file_lacks_is_unknown():
    class Short:
        """Stands for a run that an older version wrote."""

        conventions = pd.DataFrame({"operation": ["relu"], "gradient": ["0.5"]})

    row = find_table(Short, "conventions").iloc[0]
    assert (row["operation"], row["gradient"], row["note"], row["inside"]) == ("relu", 0.5, "", "")
    assert row[["low", "high"]].isna().all()
