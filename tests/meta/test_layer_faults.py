"""Faulty layers come in; a run that is red, and says where, goes out; the right layers go out green."""

from __future__ import annotations

import pytest

from harness.core import PASSING
from tests.meta.layer_faults import FAULTS
from tests.meta.planting import cases_with, find_red_with, rows_of, small_cases

ELSEWHERE = {"network", "fan-out", "input"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_layer_turns_the_run_red(fault):
    faulty = FAULTS[fault]
    red = find_red_with(faulty)
    assert red, f"{fault}: nothing failed in {len(cases_with(faulty.name))} cases"
    assert {faulty.name, "network"} & {row.layer for row in red}


def test_the_right_layers_stay_green_on_the_same_cases():
    rows = [row for rows in rows_of(small_cases()) for row in rows]
    assert len(rows) > 3000
    assert [row for row in rows if row.fails] == []
    assert sum(row.n_compared for row in rows) > 100_000


def test_there_are_as_many_faults_as_promised():
    assert len(FAULTS) >= 45
    assert {fault.name for fault in FAULTS.values()} == {row.layer for rows in rows_of(small_cases()) for row in rows} - ELSEWHERE


def test_a_red_row_says_what_is_wrong():
    (row, *_) = find_red_with(FAULTS["input gradient of the other sign"])
    assert row.verdict == "mismatch"
    assert row.verdict not in PASSING
    assert row.n_wrong > 0
    assert row.got == pytest.approx(-row.expected)
    assert "times what rounding can do" in row.message
