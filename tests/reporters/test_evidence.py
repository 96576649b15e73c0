"""Comparisons come in; shares must be weighed by their numbers, and findings and culprits be counted as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core import Comparison
from harness.reporters import evidence, summaries
from harness.table import make_frame

ROW = Comparison(
    "c0", "n0", "", "numpy", "layer", "float32", "a", "affine", "dW", "local", "ok", True, 0.5,
    n_compared=10, seen_percent=1.0, seen_millionth=0.5,
)  # fmt: skip
COARSE = replace(ROW, verdict="reduced-precision", backend="jax", variant="formula", quantity="db", error_in_bounds=7.0)


def tidy(*rows):
    return summaries.tidy_comparisons(make_frame(rows))


def test_shares_are_weighed_by_the_numbers_compared():
    frame = tidy(ROW, replace(ROW, n_compared=30, seen_percent=0.2, seen_millionth=0.0))
    (row,) = evidence.share_seen(frame, ["layer", "who", "dtype"]).to_dict("records")
    assert (row["entries"], row["blind"]) == (40, False)
    assert row["seen_percent"] == pytest.approx((10 + 6) / 40)
    assert row["seen_millionth"] == pytest.approx(5 / 40)


@pytest.mark.parametrize("change", [{"decides": False}, {"quantity": "y"}, {"n_compared": 0}, {"seen_percent": float("nan")}])
def test_rows_that_are_no_evidence_do_not_count(change):
    frame = tidy(ROW, replace(ROW, **{"seen_percent": 0.0, **change}))
    assert evidence.share_seen(frame, [])["seen_percent"].tolist() == [1.0]
    assert evidence.list_blind(frame).empty


def test_a_case_is_blind_only_where_none_of_its_gradients_would_show_anything():
    blind, half = replace(ROW, case="c1", seen_percent=0.0), replace(ROW, case="c2", seen_percent=0.0)
    frame = tidy(ROW, blind, half, replace(half, quantity="db", seen_percent=0.1))
    power = evidence.describe_power(frame)
    assert evidence.list_blind(frame)["case"].tolist() == ["c1"]
    assert (power["blind"], power["cases"], power["examples"]) == (1, 3, ["c1"])


def test_it_is_said_where_the_noise_check_ran_and_why_not_elsewhere():
    ran = replace(ROW, quantity="db", check="local+network+noise")
    others = (replace(ran, decides=False), replace(ran, quantity="y"), replace(ran, n_compared=0))
    said = evidence.say_checks(tidy(ROW, ROW, ran, *others))
    assert "noise ran for 1 of 3 gradients: where no proven bound" in said


def test_a_row_with_two_hazards_counts_for_each():
    frame = tidy(ROW, replace(ROW, hazards="ties+fortran", seen_percent=0.0))
    shares = evidence.share_by_hazard(frame).set_index("hazard")["seen_percent"].to_dict()
    assert shares == {"ties": 0.0, "fortran": 0.0, "none": 1.0}


def test_the_grid_has_a_cell_for_each_backend():
    power = evidence.describe_power(tidy(ROW, replace(ROW, backend="torch", variant="native", dtype="bfloat16")))
    assert power["columns"] == ["numpy layer", "torch native"]
    assert [(layer, dtype, [cell is not None for cell in cells]) for layer, dtype, cells in power["lines"]] == [
        ("affine", "float32", [True, False]),
        ("affine", "bfloat16", [False, True]),
    ]


def test_findings_are_counted_with_their_worst_and_fail_nothing():
    frame = tidy(ROW, COARSE, replace(COARSE, error_in_bounds=9.0, case="c9"), replace(COARSE, verdict="ok", error_in_bounds=0.1))
    (row,) = evidence.list_arithmetic(frame)
    assert (row["rows"], row["of"], row["worst"], row["case"]) == (2, 3, 9.0, "c9")
    assert (row["who"], row["layer"], row["quantity"], row["dtype"]) == ("jax formula", "affine", "db", "float32")
    assert row["saying"] == "accumulates in reduced precision"
    assert not frame["fails"].any()


def test_findings_are_not_among_the_worst_rows():
    assert list(summaries.worst_rows(tidy(ROW, COARSE), 5)["error_in_bounds"]) == [0.5]


def test_culprits_are_counted_by_layer():
    wrong = replace(ROW, verdict="mismatch", culprit="your layer", error_in_bounds=3.0)
    kink = replace(ROW, verdict="convention", culprit="nobody (convention)")
    frame = tidy(ROW, wrong, replace(wrong, dtype="float64"), kink)
    first, second = evidence.count_culprits(frame)
    assert (first["culprit"], first["rows"], first["fails"], first["dtypes"]) == ("your layer", 2, 2, "float64, float32")
    assert (second["culprit"], second["rows"], second["fails"]) == ("nobody (convention)", 1, 0)
    assert evidence.say_culprits(frame) == "Which one is wrong: your layer in 2 comparisons."


def test_where_nobody_is_named_nothing_is_said():
    frame = tidy(ROW, replace(ROW, verdict="mismatch"))
    assert evidence.count_culprits(frame) == []
    assert evidence.say_culprits(frame) == ""
