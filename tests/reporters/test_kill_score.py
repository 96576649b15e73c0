"""Detection tables come in; the report must say what was found, how small, and how often a right layer was accused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core import DTYPES
from harness.reporters.kill_score import find_kill_score


@pytest.fixture(scope="module")
def score(full_run):
    return find_kill_score(full_run)


def test_the_smallest_defect_stands_by_method_and_dtype(score):
    assert score.dtypes == DTYPES
    cells = {row["method"]: row["cells"] for row in score.by_method}
    assert cells["local"] == ["1e-14", "1e-12", "1e-10", "1e-8"]
    assert cells["allclose"] == ["never"] * 4
    assert score.headline == "dW scaled by 1 + e"


def test_a_graded_fault_is_taken_at_one_percent_and_a_gross_one_as_it_is(score):
    rows = {row["kind"]: row for row in score.by_kind}
    assert (rows["dW scaled by 1 + e"]["size"], rows["one entry 0"]["size"]) == ("0.01", "gross")
    assert [cell["share"] for cell in rows["one entry 0"]["cells"]] == [1.0] * 4
    missed = score.found[(score.found["method"] == "allclose") & (score.found["kind"] == "dW scaled by 1 + e")]
    assert missed["share"].tolist() == pytest.approx([12 / 300] * 4)


def test_a_kind_of_one_dtype_has_no_cell_in_the_others(full_run):
    table = full_run.selftest
    kept = table[(table["kind"] != "one entry 0") | (table["dtype"] == "float64")]
    row = next(row for row in find_kill_score(replace(full_run, selftest=kept)).by_kind if row["kind"] == "one entry 0")
    assert [cell is not None for cell in row["cells"]] == [True, False, False, False]


def test_false_alarms_are_added_up_from_the_widest_dtype(score):
    assert score.false_alarms == 12
    assert score.judged == 4 * 90000
    assert score.rivals == (12, 4 * 90000)
    assert list(dict.fromkeys(score.alarms["dtype"])) == list(DTYPES)


def test_alarms_alone_are_a_score_and_nothing_is_none(full_run):
    bare = replace(full_run, selftest=full_run.selftest.iloc[:0])
    score = find_kill_score(bare)
    assert (score.by_kind, score.by_method, score.false_alarms) == ([], [], 12)
    assert find_kill_score(replace(bare, selftest_alarms=None)) is None


def test_a_judge_of_another_name_is_the_first_method(full_run):
    table = full_run.selftest
    score = find_kill_score(replace(full_run, selftest=table[table["method"].isin(["gradcheck", "allclose"])]))
    assert score.judge == "gradcheck"
