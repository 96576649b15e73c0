"""Small atlases come in; the lines of the report must say what each framework returns, what is wrong and what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.reporters.conventions import Answer, find_atlas


@pytest.fixture(scope="module")
def atlas(full_run):
    return find_atlas(full_run)


def line(atlas, operation, place):
    (found,) = [kink for kink in atlas.kinks if (kink.operation, kink.place) == (operation, place)]
    return dict(zip(atlas.frameworks, found.answers, strict=True)), found


def test_each_place_has_one_line_of_the_widest_dtype(atlas, full_run):
    places = full_run.conventions[["operation", "place"]].drop_duplicates()
    assert [(kink.operation, kink.place) for kink in atlas.kinks] == list(places.itertuples(index=False, name=None))
    assert (atlas.frameworks, atlas.versions) == (("layer", "torch", "jax"), ("", "2.13", ""))


def test_a_gradient_outside_is_bad_and_counted_once(atlas):
    answers, kink = line(atlas, "abs", "x = 0")
    assert answers["torch"] == (Answer("7", "", "bad"),)
    assert kink.interval == "-1 to 1"
    assert kink.note == "torch.abs: in float32 0.25"
    assert (atlas.outside, atlas.parted) == (1, 1)


def test_functions_are_named_where_they_part(atlas):
    answers, kink = line(atlas, "max", "to the first")
    assert answers["torch"] == (Answer("1", "max", "ok"), Answer("0.5", "amax", "ok"))
    assert kink.agrees == "differ"


def test_what_is_missing_is_said(atlas):
    answers, kink = line(atlas, "relu", "x = nan")
    assert answers["jax"] == (Answer("not installed", "", "skip"),)
    assert answers["torch"] == (Answer("fails", "", "skip"),)
    assert kink.interval == "none"
    assert kink.note == "torch.nn.functional.relu: ValueError: no"
    assert atlas.missing == ("jax is not installed",)


def test_agreement_is_said_from_the_column(atlas):
    assert line(atlas, "relu", "x = 0")[1].agrees == "agree"
    assert line(atlas, "abs", "x = 0")[1].agrees == ""


def test_a_run_without_any_has_no_atlas(full_run):
    assert find_atlas(replace(full_run, conventions=full_run.conventions.iloc[:0])) is None
