"""Trials made by hand come in; what was found and missed, the smallest sizes, and what is not as it must be go out."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from harness.selftest.tables import (
    CHECKS,
    DETECTION,
    Alarm,
    add_alarms,
    find_smallest,
    frame_trials,
    list_columns,
    list_unmet,
    list_unmet_named,
    read_trials,
    score,
    score_named,
    share_equivalent,
    write_table,
)  # fmt: skip

NEVER = math.inf


def table_of(trials):
    return score(frame_trials(trials, CHECKS))


def pick(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table


@pytest.mark.parametrize(
    ("values", "least"),
    [
        ([1e-3], 1e-3),
        ([1e-3, 1e-1], 1e-1),
        ([1e-3] * 99 + [NEVER], 1e-3),
        ([1e-3] * 98 + [1e-1, NEVER], 1e-1),
        ([1e-3] * 98 + [NEVER] * 2, NEVER),
        ([1e-3] * 297 + [NEVER] * 3, 1e-3),
        ([1e-3] * 296 + [NEVER] * 4, NEVER),
        ([NEVER], NEVER),
    ],
)
def test_the_smallest_size_is_that_found_in_99_percent(values, least):
    assert find_smallest(values) == least
    assert find_smallest(values[::-1]) == least


def test_of_no_network_nothing_is_known():
    assert math.isnan(find_smallest([]))


def test_a_size_counts_where_it_and_every_larger_one_is_found(make_trials):
    rows = pick(table_of(make_trials([1e-3, 1e-2, 1e-2, NEVER])), method="local")
    assert tuple(rows.columns) == DETECTION
    assert rows["size"].tolist() == [1e-3, 1e-2, 1e-1]
    assert rows["found"].tolist() == [1, 3, 3]
    assert rows["missed"].tolist() == [3, 1, 1]
    assert (rows["networks"] == 4).all()
    assert (rows["smallest_99"] == NEVER).all()


def test_what_is_never_found_is_missed_at_every_size(make_trials):
    rows = pick(table_of(make_trials([1e-3] * 5)), method="network")
    assert rows["found"].tolist() == [0, 0, 0]
    assert (rows["smallest_99"] == NEVER).all()


def test_a_gross_fault_is_found_or_missed(make_trials):
    rows = pick(table_of(make_trials([0.0, 0.0, NEVER], graded=False)), method="local")
    assert rows[["networks", "found", "missed"]].values.tolist() == [[3, 2, 1]]
    assert rows[["size", "smallest_99"]].isna().all(axis=None)


def test_equivalent_mutants_are_left_out_and_counted(make_trials):
    trials = make_trials([1e-3] * 3)
    trials += [replace(trial, equivalent=True, smallest={}) for trial in make_trials([NEVER])]
    frame = frame_trials(trials, CHECKS)
    assert share_equivalent(frame) == 0.25
    assert pick(score(frame), method="local")["networks"].tolist() == [3, 3, 3]


def test_a_method_that_accuses_the_network_anyway_was_not_asked_in_it(make_trials):
    trials = make_trials([1e-2] * 3)
    trials += [replace(trial, smallest={"verdict": 1e-3}) for trial in make_trials([0.0])]
    table = table_of(trials)
    assert pick(table, method="local")["networks"].tolist() == [3, 3, 3]
    assert pick(table, method="verdict")["networks"].tolist() == [4, 4, 4]
    assert len(pick(table, method="lifted")) == 0


def test_what_is_written_and_read_again_scores_the_same(make_trials, tmp_path):
    trials = make_trials([1e-3, NEVER]) + make_trials([0.0, NEVER], "gross", graded=False)
    paths = [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "missing.csv"]
    for path, half in zip(paths, (trials[::2], trials[1::2]), strict=False):
        frame_trials(half, CHECKS).to_csv(path, index=False)
    together, apart = score(frame_trials(trials, CHECKS)), score(read_trials(paths))
    by = ["kind", "method", "size"]
    pd.testing.assert_frame_equal(together.sort_values(by, ignore_index=True), apart.sort_values(by, ignore_index=True))


def test_nothing_read_scores_nothing(tmp_path):
    frame = read_trials([tmp_path / "missing.csv"])
    assert len(score(frame)) == len(score_named(frame)) == 0
    assert list(frame) == list_columns(CHECKS)


def test_alarms_add_up_by_dtype_and_backend():
    rows = [Alarm("float32", "numpy", 1, 9, 0), Alarm("float64", "numpy", 1, 7, 1), Alarm("float32", "numpy", 1, 5, 2)]
    added = add_alarms(pd.DataFrame(rows))
    assert added.values.tolist() == [["float64", "numpy", 1, 7, 1], ["float32", "numpy", 2, 14, 2]]


@pytest.mark.parametrize(("found", "unmet"), [(1e-13, 0), (2e-13, 1), (NEVER, 1)])
def test_a_threshold_is_met_by_what_it_names_or_smaller(make_trials, found, unmet):
    made = make_trials([found] * 3, "dW scaled by 1 + e", smallest={"local": found, "lifted": 1e-12})
    sentences = list_unmet(table_of(made), ["float64"], must_try=True)
    assert len(sentences) == unmet
    assert all("float64, local: found in 99 % from" in sentence for sentence in sentences)


def test_a_threshold_that_was_never_tried_is_not_met_where_it_must_be(make_trials):
    table = table_of(make_trials([1e-3]))
    assert list_unmet(table, ["float64"], must_try=False) == []
    assert len(list_unmet(table, ["float64"], must_try=True)) == 2


def test_named_defects_are_asked_about_where_they_show(make_trials):
    shown = [replace(trial, family="named", told=True) for trial in make_trials([0.0] * 98, "N - 1", graded=False)]
    hidden = [replace(trial, family="named", below_noise=True) for trial in make_trials([NEVER] * 10, "N - 1", graded=False)]
    vanished = [replace(trial, family="named", equivalent=True) for trial in make_trials([NEVER] * 4, "N - 1", graded=False)]
    (row,) = score_named(frame_trials([*shown, *hidden, *vanished], CHECKS)).to_dict("records")
    assert (row["networks"], row["vanished"], row["below_noise"], row["asked"]) == (112, 4, 10, 98)
    assert (row["found"], row["named"], row["found_share"]) == (98, 98, 1.0)
    assert row["excluded_share"] == 14 / 112
    assert list_unmet_named(pd.DataFrame([row])) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"told": False}, "found in 100.0% and named in 0.0%; it must be 99 %"),
        ({"smallest": {"verdict": NEVER}}, "found in 0.0%"),
        ({"below_noise": True}, "100.0% of the networks were left out; it must be 20% or fewer"),
    ],
)
def test_a_named_defect_that_is_missed_not_named_or_hardly_asked_about_is_told(make_trials, change, text):
    trials = [replace(trial, **{"family": "named", "told": True, **change}) for trial in make_trials([0.0] * 4, graded=False)]
    sentences = list_unmet_named(score_named(frame_trials(trials, CHECKS)))
    assert [text in sentence for sentence in sentences] == [True]


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "t.csv"
    write_table(pd.DataFrame({"a": [1]}), path)
    write_table(pd.DataFrame({"a": [2]}), path)
    assert path.read_text() == "a\n2\n"
    assert [found.name for found in tmp_path.iterdir()] == ["t.csv"]
