"""Runs come in; the headline must be green only where everything that decides passes and something was compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.reporters import summaries
from harness.reporters.verdict import decide_verdict, locate_failures


def judge(run):
    return decide_verdict(summaries.tidy_comparisons(run.comparisons), run)


def test_a_run_without_failures_conforms(make_run):
    verdict = judge(make_run(rows=500))
    assert (verdict.tone, verdict.headline) == ("pass", "Every gradient conforms.")
    assert "0.72 of its bound" in verdict.sentence


@pytest.mark.parametrize(("failing", "headline"), [(1, "1 comparison fails."), (37, "37 comparisons fail.")])
def test_failures_are_counted(make_run, failing, headline):
    verdict = judge(make_run(rows=500, failing=failing))
    assert (verdict.tone, verdict.headline) == ("fail", headline)


def test_a_large_error_is_times_its_bound(make_run):
    assert "times its bound" in judge(make_run(rows=500, failing=200)).sentence


def test_the_exit_code_is_believed_over_the_rows(make_run):
    run = make_run(rows=500)
    verdict = judge(replace(run, info={**run.info, "exit_code": 1, "status": "too much is powerless"}))
    assert verdict.tone == "fail"
    assert "too much is powerless" in verdict.headline


def test_nothing_compared_is_no_pass(make_run, empty_run):
    assert judge(empty_run).tone == "empty"
    run = make_run(rows=50)
    assert judge(replace(run, comparisons=run.comparisons.assign(n_compared=0))).tone == "empty"
    assert judge(replace(run, comparisons=run.comparisons.assign(decides=False))).tone == "empty"


def test_an_interruption_and_a_missing_backend_are_told(make_run):
    run = make_run(rows=50)
    missing = [{"name": "jax", "status": "unavailable"}]
    notes = judge(replace(run, info={**run.info, "interrupted": True, "backends": missing})).notes
    assert any("interrupted" in note for note in notes)
    assert any("jax" in note and "unavailable" in note for note in notes)


def test_a_stale_finding_is_told(make_run):
    run = make_run(rows=50)
    assert any("jax-old was not met" in note for note in judge(replace(run, info={"stale_findings": ["jax-old"]})).notes)


def test_an_error_just_within_its_bound_does_not_read_as_the_bound(make_run):
    run = make_run(rows=50)
    sentence = judge(replace(run, comparisons=run.comparisons.assign(error_in_bounds=0.99998))).sentence
    assert "0.99998 of its bound" in sentence


def test_a_witness_that_deviates_is_told_and_decides_nothing(make_run):
    comparisons = make_run(rows=500).comparisons
    witness = comparisons["backend"] == "numerical"
    verdicts = comparisons["verdict"].astype("str").mask(witness, "mismatch")
    verdict = judge(replace(make_run(rows=500), comparisons=comparisons.assign(verdict=verdicts)))
    assert verdict.tone == "pass"
    assert any("witnesses (numerical) deviated" in note for note in verdict.notes)


def test_a_run_that_says_little_of_itself_is_judged_all_the_same(make_run):
    verdict = judge(replace(make_run(rows=500), info={}))
    assert verdict.tone == "pass"
    assert "wall time" not in dict(verdict.facts)


def test_failures_are_located_from_the_most_frequent_place(make_run):
    run = make_run(rows=500, failing=60)
    frame = summaries.tidy_comparisons(run.comparisons)
    places = locate_failures(frame, most=1000)
    counts = [place["rows"] for place in places]
    assert sum(counts) == 60
    assert counts == sorted(counts, reverse=True)
    assert all(place["case"] in set(run.comparisons["case"]) for place in places)
    assert len(locate_failures(frame, most=3)) == 3
