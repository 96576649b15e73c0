"""Synthetic comparisons and timings come in; the small frames that reports show must say what the long ones hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.core import PASSING, Comparison
from harness.reporters import summaries
from harness.table import make_frame

ROW = Comparison("c0", "n0", "", "numpy", "layer", "float64", "a", "affine", "dW", "both", "ok", True, 0.5, n_compared=4)


def tidy(*rows):
    return summaries.tidy_comparisons(make_frame(rows))


@pytest.fixture(scope="module")
def run(make_run):
    return make_run(rows=3000, failing=40)


@pytest.fixture(scope="module")
def frame(run):
    return summaries.tidy_comparisons(run.comparisons)


@pytest.mark.parametrize("verdict", [*sorted(PASSING), "mismatch", "vacuous", "crash"])
@pytest.mark.parametrize("decides", [True, False])
def test_a_row_fails_as_the_core_says(verdict, decides):
    row = replace(ROW, verdict=verdict, decides=decides)
    found = tidy(row).iloc[0]
    assert found["fails"] == row.fails
    assert found["deviates"] == (not decides and verdict not in PASSING)


def test_text_that_a_csv_file_made_of_booleans_is_understood(run):
    text = run.comparisons.assign(decides=run.comparisons["decides"].astype("str"))
    pd.testing.assert_frame_equal(summaries.tidy_comparisons(text), summaries.tidy_comparisons(run.comparisons))


def test_counts_add_up_to_the_rows(frame):
    counts = summaries.count_verdicts(frame, ["layer", "dtype", "who"])
    assert counts["rows"].sum() == len(frame)
    assert counts["fails"].sum() == 40
    assert counts["worst"].max() == frame["error_in_bounds"].max()
    assert counts["n_compared"].sum() == frame["n_compared"].sum()


def test_a_variant_is_named_where_it_says_something():
    rows = [
        replace(ROW, backend=backend, variant=variant) for backend, variant in (("torch", "native"), ("numerical", "numerical"))
    ]
    assert list(tidy(*rows)["who"]) == ["torch native", "numerical"]


def test_a_row_with_two_hazards_counts_for_each():
    rows = [replace(ROW, hazards=hazards) for hazards in ("", "ties", "ties+fortran")]
    tallied = summaries.tally_hazards(tidy(*rows))
    assert dict(zip(tallied["hazard"], tallied["rows"], strict=True)) == {"none": 1, "fortran": 1, "ties": 2}
    assert tallied["hazard"].iloc[0] == "none"


def test_failures_without_an_error_come_first_then_the_worst():
    errors = (2.0, float("nan"), float("inf"))
    rows = [replace(ROW, verdict="mismatch", error_in_bounds=error) for error in errors]
    order = summaries.failing_rows(tidy(ROW, *rows))["error_in_bounds"].to_numpy()
    np.testing.assert_array_equal(order, [np.nan, np.inf, 2.0])


def test_the_worst_rows_leave_out_witnesses():
    witness = replace(ROW, decides=False, error_in_bounds=9.0)
    assert list(summaries.worst_rows(tidy(ROW, witness), 10)["error_in_bounds"]) == [0.5]


def test_every_measured_row_is_in_one_bin(frame):
    binned = summaries.bin_errors(frame, ["who", "dtype"])
    assert binned["rows"].sum() == frame["error_in_bounds"].notna().sum()
    shares = binned.groupby(["who", "dtype"], observed=True)["share"].sum()
    np.testing.assert_allclose(shares, 1)


@pytest.mark.parametrize(
    ("error", "within"), [(0.0, True), (1e-30, True), (1.0, True), (np.nextafter(1, 2), False), (1e9, False)]
)
def test_what_lies_on_the_bound_is_within_it(error, within):
    (bin_,) = summaries.bin_errors(tidy(replace(ROW, error_in_bounds=error)), []).to_dict("records")
    assert (bin_["high"] <= 0) == within
    assert bin_["floor"] - 1 <= bin_["low"] < bin_["high"] <= bin_["ceiling"]


def test_no_error_and_a_tiny_error_are_told_apart():
    binned = summaries.bin_errors(tidy(*(replace(ROW, error_in_bounds=error) for error in (0.0, 1e-30))), [])
    assert list(binned["range"]) == ["exactly 0", "1e-08 to 1.8e-08"]


def test_one_row_beyond_the_bound_among_many_can_be_seen(make_run):
    frame = summaries.tidy_comparisons(make_run(rows=20000, failing=1).comparisons)
    beyond = summaries.bin_errors(frame, []).query("low >= 0")
    assert beyond["rows"].sum() <= 1
    binned = summaries.bin_errors(frame.assign(error_in_bounds=np.where(frame["fails"], 50.0, frame["error_in_bounds"])), [])
    assert binned.query("low >= 0")["height"].iloc[0] >= 0.03 * binned["height"].max()


def test_discrepancies_keep_the_largest(run):
    pairs = summaries.summarise_discrepancies(run.discrepancies)
    assert pairs["rows"].sum() == len(run.discrepancies)
    assert pairs["relative_max"].max() == run.discrepancies["max_relative_to_norm"].max()
    assert (pairs["relative_median"] <= pairs["relative_max"]).all()


def test_timings_begin_with_the_reference_at_a_ratio_of_one(run):
    table = summaries.summarise_timings(run.timings)
    first = table.iloc[0]
    assert (first["phase"], first["backend"], first["ratio"]) == ("forward", "numpy", 1.0)
    assert list(dict.fromkeys(table["phase"])) == ["forward", "backward", "forward+backward", "compile", "numerical"]
    assert (table["low"].dropna() <= table["high"].dropna()).all()


def test_the_speedup_is_one_ratio_per_network_and_dtype(run):
    speed = summaries.compare_speed(run.timings)
    assert len(speed) == run.timings[["network", "dtype"]].drop_duplicates().shape[0]
    np.testing.assert_allclose(speed["speedup"], speed["numerical"] / speed["backprop"])
    ends = summaries.smallest_and_largest(speed)
    assert list(ends["parameters"]) == [speed["parameters"].min(), speed["parameters"].max()]


def test_growth_is_the_exponent():
    speed = pd.DataFrame({"parameters": [10.0, 100.0, 1000.0], "speedup": [20.0, 200.0, 2000.0]})
    exponent, trend = summaries.fit_growth(speed)
    assert exponent == pytest.approx(1.0)
    assert list(trend["speedup"]) == pytest.approx([20.0, 2000.0])
    exponent, trend = summaries.fit_growth(speed.head(2))
    assert np.isnan(exponent)
    assert trend.empty


def test_a_long_training_is_thinned_but_keeps_its_ends(make_run):
    training = make_run(rows=1, steps=5000).training
    losses = summaries.thin_training(summaries.gather_losses(training), most=50)
    assert losses.groupby("framework").size().to_dict() == {"numpy": 50, "torch": 50, "jax": 50}
    assert {losses["step"].min(), losses["step"].max()} == {0, 4999}


def test_trajectories_part_from_the_reference_beside_what_rounding_explains():
    losses = {"loss_numpy": [2.0, 4.0], "loss_jax": [2.0, 3.0], "loss_rounding_explains": [0.1, 0.2]}
    weights = {"weights_apart_jax": [0.0, 0.3], "rounding_explains_jax": [0.1, 0.4], "rounding_explains_torch": [0.2, 0.1]}
    training = pd.DataFrame({"step": [1, 2], **losses, **weights})
    assert list(summaries.part_losses(training)["jax"]) == [0.0, 0.25]
    assert list(summaries.part_weights(training)[summaries.EXPLAINED]) == [0.2, 0.4]
    assert summaries.summarise_parting(training) == [
        {"what": "weights", "framework": "jax", "largest": 0.3, "explained": 0.4, "beyond": 0},
        {"what": "loss", "framework": "jax", "largest": 0.25, "explained": 0.2, "beyond": 1},
    ]


def test_what_nobody_measured_is_not_said_of_a_training():
    training = pd.DataFrame({"step": [1, 2], "loss_numpy": [2.0, 4.0], "loss_jax": [2.0, 3.0]})
    (row,) = summaries.summarise_parting(training)
    assert (row["explained"], row["beyond"]) == (None, None)
    assert summaries.summarise_parting(training.drop(columns="loss_jax")) == []
    assert summaries.summarise_parting(pd.DataFrame()) == []


def test_accuracies_are_the_last_known(make_run):
    assert summaries.final_accuracies(make_run(rows=1).training) == {"numpy": 0.962, "torch": 0.962, "jax": 0.962}


def test_powerless_share_is_counted_outside_the_hazards_where_the_run_does_not_say(run):
    rows = (ROW, replace(ROW, verdict="powerless"), replace(ROW, verdict="powerless", hazards="ties"))
    bare = replace(run, info={})
    assert summaries.share_powerless(tidy(*rows), bare) == 0.5
    assert summaries.share_powerless(tidy(*rows), replace(run, info={"powerless_share": 0.25})) == 0.25


def test_nothing_makes_nothing(empty_run):
    frame = summaries.tidy_comparisons(empty_run.comparisons)
    tables = [
        summaries.count_verdicts(frame, ["layer", "who"]),
        summaries.tally_hazards(frame),
        summaries.bin_errors(frame, ["who", "dtype"]),
        summaries.bin_errors(frame, []),
        summaries.summarise_discrepancies(empty_run.discrepancies),
        summaries.summarise_timings(empty_run.timings),
        summaries.bin_timings(empty_run.timings, summaries.WHOLE),
        summaries.bin_speed(summaries.compare_speed(empty_run.timings)),
        summaries.failing_rows(frame),
        summaries.worst_rows(frame, 5),
    ]
    assert [len(table) for table in tables] == [0] * len(tables)
