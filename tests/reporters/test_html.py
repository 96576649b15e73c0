"""Runs come in; the page must hold every part, load nothing, and let nothing that a run holds become a part of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from harness.core import DTYPES, BadInput
from harness.reporters.html import REPORTER, _inline, compose_page

VOID = {"meta", "link", "br", "img", "input"}
PARTS = [
    "verdict",
    "layers",
    "errors",
    "arithmetic",
    "power",
    "kinks",
    "score",
    "pairs",
    "timings",
    "numerical",
    "training",
    "rows",
    "replay",
]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, its text, its scripts, and tags closed out of order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.scripts, self.unbalanced = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.tags[-1][1], data))
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag, **attributes):
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def run(make_run):
    return make_run(rows=3000, failing=25)


@pytest.fixture(scope="module")
def source(run):
    return compose_page(run)


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


@pytest.fixture(scope="module")
def full(full_run):
    return Page(compose_page(full_run))


@pytest.fixture(scope="module")
def hostile(hostile_run):
    return Page(compose_page(hostile_run))


def test_the_parts_stand_in_order(page):
    identifiers = [attributes.get("id") for tag, attributes in page.tags if tag in ("header", "section")]
    assert identifiers == PARTS
    assert [link["href"].removeprefix("#") for link in page.all("a") if link["href"] in {f"#{part}" for part in PARTS}][
        1:
    ] == PARTS


def test_it_is_well_formed_and_titled(page):
    assert page.unbalanced == []
    assert page.open == []
    assert page.all("html", lang="en")
    assert len(page.all("h1")) == len(page.all("title")) == len(page.all("main")) == 1
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_the_headings_leave_out_no_level(page):
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_it_loads_nothing(page):
    sources = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "srcset", "action", "data")
    ]
    assert sources == []
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    links = {link["href"] for link in page.all("a") if not link["href"].startswith("#")}
    assert links == {"comparisons.csv", "discrepancies.csv", "timings.csv"}


def test_every_picture_is_named_and_drawn_twice(page):
    figures = len(page.all("figure"))
    assert figures == 8
    for kind in ("still", "live"):
        named = page.all("div", **{"class": kind, "role": "img"})
        assert len(named) == figures
        assert all(one["aria-label"] for one in named)
    assert len(page.all("figcaption")) == figures


def test_every_table_has_a_caption(page):
    assert len(page.all("table")) == len(page.all("caption")) > 5


def test_the_numbers_of_the_run_are_there(page, run):
    assert "25 comparisons fail." in page.words
    assert "showing 25 of 25." in page.words
    assert f"harness replay {run.comparisons['case'].iloc[0][:1]}" in page.words
    for name in ("jax-sigmoid-subnormal", "exact-zeros", "torch native", "2.13.0", "as fast with", "96.2 %"):
        assert name in page.words


def test_what_is_data_reads_as_data(page):
    data = [json.loads(text) for attributes, text in page.scripts if attributes.get("type") == "application/json"]
    assert sum("$schema" in one for one in data) == 8
    (failing, worst) = [json.loads(one["data_json"]) for one in data if isinstance(one, dict) and "data_json" in one]
    assert (len(failing), len(worst)) == (25, 200)


def test_no_more_rows_are_shown_than_may_be(make_run):
    page = Page(compose_page(make_run(rows=5000, failing=5000)))
    assert "showing 2,000 of 5,000." in page.words
    assert "showing 200 of" in page.words


def test_it_stays_small_when_everything_fails(make_run):
    run = make_run(rows=9000, failing=9000)
    long = run.comparisons.assign(message="a message that goes on and on " * 50)
    assert len(compose_page(replace(run, comparisons=long)).encode()) < 3.1e6


def test_nothing_of_the_run_becomes_a_tag(hostile, full):
    assert hostile.unbalanced == []
    assert hostile.all("img") == []
    assert [name for _, attributes in hostile.tags for name in attributes if name.startswith("on") or name == "src"] == []
    assert len(hostile.all("script")) == len(full.all("script"))
    assert "<script>alert(1)</script>" in hostile.words


def test_nothing_of_the_run_leaves_its_script(hostile):
    assert all("alert(1)" not in text for attributes, text in hostile.scripts if "type" not in attributes)
    for attributes, text in hostile.scripts:
        if attributes.get("type") == "application/json":
            assert "<" not in text
            assert json.loads(text)


def test_itables_escapes_the_cells(hostile):
    tables = [json.loads(text) for attributes, text in hostile.scripts if "data-table" in attributes]
    cells = [str(cell) for table in tables for row in json.loads(table["data_json"]) for cell in row]
    assert any("&lt;img" in cell for cell in cells)
    assert all("<" not in cell for cell in cells)


def test_a_full_run_is_well_formed_and_draws_two_pictures_more(full):
    assert full.unbalanced == full.open == []
    assert len(full.all("figure")) == 10
    assert len(full.all("table")) == len(full.all("caption"))
    identifiers = [attributes["id"] for _, attributes in full.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_an_older_run_says_what_it_does_not_hold(make_run):
    run = make_run(rows=200, steps=0)
    older = run.comparisons.drop(columns=["seen_percent", "seen_millionth", "culprit"])
    page = Page(compose_page(replace(run, comparisons=older)))
    for sentence in (
        "This run made none: no error beyond a bound was left",
        "This run does not say in which entries an error would have been seen.",
        "This run recorded no conventions.",
        "This run holds no self-test",
    ):
        assert sentence in page.words
    assert "who is wrong" not in page.words
    assert page.unbalanced == []


def test_the_conventions_are_told(full):
    for words in (
        "they part at 1 place of 4",
        "1 gradient (✕) lies outside",
        "✕ 7",
        "jax is not installed.",
        "1 max",
        "0.5 amax",
    ):
        assert words in full.words
    assert full.all("a", href="conventions.csv")


def test_what_could_not_have_been_seen_is_told(full, full_run):
    frame = full_run.comparisons
    gradients = frame[frame["decides"] & (frame["quantity"] != "y")]
    share = (gradients["seen_percent"] * gradients["n_compared"]).sum() / gradients["n_compared"].sum()
    assert f"A relative error of 1 % would have been seen in {100 * share:.1f} %" in full.words
    assert "can show nothing" in full.words


def test_findings_about_arithmetic_fail_nothing_and_are_told(make_full_run):
    run = make_full_run(rows=2000)
    found = run.comparisons["verdict"].isin(["reduced-precision", "constant"]).sum()
    page = Page(compose_page(run))
    assert "Every gradient conforms." in page.words
    assert f"{found} findings about arithmetic stand apart." in page.words
    for words in ("accumulates in reduced precision", "a low-precision constant", "0.72 of its bound"):
        assert words in page.words


def test_who_is_wrong_is_told(full, full_run):
    failing = full_run.comparisons["culprit"].ne("")
    for culprit, rows in full_run.comparisons.loc[failing, "culprit"].value_counts().items():
        assert f"{culprit} in {rows} comparison" in full.words


def test_the_kill_score_is_told(full):
    for words in ("12 false alarms in 360,000 comparisons", "dW scaled by 1 + e", "never", "assert_close", "N - 1 for N"):
        assert words in full.words


def test_the_dtypes_stand_from_the_widest(full):
    places = [full.words.index(f" {dtype} ", full.words.index("Layer and dtype by backend")) for dtype in DTYPES]
    assert places == sorted(places)


def test_a_script_cannot_end_its_element():
    assert _inline('a("</script>", "<!--")') == 'a("<\\/script>", "<\\!--")'


def test_an_empty_run_has_a_page(empty_run, tmp_path):
    (path,) = REPORTER.write(empty_run, tmp_path)
    page = Page(path.read_text("utf-8"))
    assert "Nothing was compared." in page.words
    assert page.unbalanced == []
    assert page.all("figure") == []


def test_a_run_without_timings_and_training_says_so(make_run, empty_run):
    page = Page(compose_page(replace(make_run(rows=200, steps=0), timings=empty_run.timings, info={})))
    assert "Nothing was timed in this run." in page.words
    assert "Nothing was trained in this run" in page.words
    assert [figure["id"] for figure in page.all("figure")] == ["figure-ruler", "figure-errors"]


@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_errors_that_are_no_number_are_shown(make_run, error):
    run = make_run(rows=60, networks=1, steps=1)
    bad = run.comparisons.assign(error_in_bounds=error, verdict="nonfinite", decides=True)
    page = Page(compose_page(replace(run, comparisons=bad)))
    assert "60 comparisons fail." in page.words
    assert page.unbalanced == []


def test_a_missing_package_is_named(monkeypatch, run):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(BadInput, match=r"altair is missing; accepted is `pip install 'backprop-harness\[report\]'`"):
        compose_page(run)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_draws_it_without_a_word_on_the_console(hostile_run, tmp_path):
    (path,) = REPORTER.write(hostile_run, tmp_path)
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]
    options += [
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
    ]
    theme = "--blink-settings=preferredColorScheme=0"  # 0 is dark
    command = [str(BROWSER), *options, theme, "--virtual-time-budget=8000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    page = Page(done.stdout)
    assert len(page.all("figure", **{"class": "chart is-live"})) == 10
    assert len([table for table in page.all("table") if "dataTable" in table.get("class", "")]) == 2
    assert page.all("html", **{"class": "dark"})
    assert page.all("img") == []
