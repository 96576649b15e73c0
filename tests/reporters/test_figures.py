"""Binned frames come in; the figures must be small, drawn by the theme's variables, and the same in both their forms."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from harness.core import DTYPES
from harness.reporters import figures, summaries
from harness.reporters.html import LABELS, TEMPLATES, _errors, _palette, _score, _speed, _timings, _training

NAMES = ("ruler", "errors", "ratios", "sizes", "speedups", "kills", "smallest", "losses", "weights", "losses-apart")


@pytest.fixture(scope="module")
def drawn(make_full_run):
    """Return every figure of a run by its name."""
    run = make_full_run(rows=20000, failing=3, networks=200, steps=5000)
    frame = summaries.tidy_comparisons(run.comparisons)
    colors = _palette(frame, run)
    parts = [
        _errors(frame, colors),
        _timings(run.timings, colors),
        _speed(frame, run.timings),
        _training(run.training, colors),
        _score(run),
    ]
    found = [value for part in parts for value in part.values() if isinstance(value, figures.Figure)]
    return {figure.name: figure for figure in found}


def test_all_are_drawn_and_described(drawn):
    assert set(drawn) == set(NAMES) == set(LABELS)
    assert all(figure.label for figure in drawn.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_data_is_binned(drawn, name):
    assert 0 < sum(len(rows) for rows in drawn[name].spec["datasets"].values()) <= 2000


@pytest.mark.parametrize("name", NAMES)
def test_the_still_picture_is_well_formed(drawn, name):
    root = ElementTree.fromstring(drawn[name].svg)
    assert root.tag.endswith("svg")
    assert int(root.attrib["width"]) <= 1000


@pytest.mark.parametrize("name", NAMES)
def test_every_colour_is_a_variable_of_the_style_sheet(drawn, name):
    colors = set(re.findall(r'(?:fill|stroke)="([^"]+)"', drawn[name].svg)) - {"none", "transparent"}
    assert colors
    assert {color for color in colors if not color.startswith("var(--")} == set()


def test_the_style_sheet_gives_every_colour_in_light_and_in_dark(drawn):
    style = (TEMPLATES / "style.css").read_text("utf-8")
    used = {name for figure in drawn.values() for name in re.findall(r"var\((--[\w-]+)\)", figure.svg)}
    used |= {f"--series-{number}" for number in range(figures.SERIES)}
    for name in used:
        assert len(re.findall(rf"{name}:", style)) == 2, f"{name} is given once for light and once for dark"


@pytest.mark.parametrize("dtypes", [["float32"], ["float32", "float64"], DTYPES])
def test_one_dtype_takes_the_room_of_four(full_run, dtypes):
    timings = full_run.timings
    table = summaries.summarise_timings(timings[timings["dtype"].isin(dtypes)]).query("ratio > 0 and phase == 'forward+backward'")
    chart = figures.draw_ratios(table, figures.assign_colors(table["backend"].unique()))
    assert 800 < int(ElementTree.fromstring(figures.render("ratios", "", chart).svg).attrib["width"]) < 950


def test_a_backend_has_one_colour_in_all(drawn):
    for name in ("ratios", "sizes", "losses"):
        assert f'"{figures.assign_colors(["numpy", "autograd", "jax"])["jax"]}"' in drawn[name].svg


def test_the_dtypes_stand_from_the_widest(drawn):
    for name in ("errors", "ratios", "sizes", "kills", "smallest"):
        svg = drawn[name].svg
        places = [svg.index(f">{dtype}<") for dtype in DTYPES]
        assert places == sorted(places), name


def test_what_is_never_found_has_no_mark(drawn):
    (rows,) = drawn["smallest"].spec["datasets"].values()
    assert {row["method"] for row in rows} == {
        "local",
        "lifted",
        "network",
        "verdict",
        "gradcheck",
        "check_grads",
        "autograd",
        "assert_close",
    }


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (0.01, 300.0), (1.0, 1.0)])
def test_steps_surround_the_range(low, high):
    steps = figures._steps(low, high)
    assert steps == sorted(steps)
    assert any(step <= low for step in steps)
    assert any(step >= high for step in steps)
    assert len(steps) <= 20
