"""Runs come in; the Markdown, read by a parser of Markdown, must hold their numbers and nothing that a run planted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt

from harness.reporters.markdown import LIMIT, REPORTER, compose_summary, escape, quote

FULL = [
    "Which one is wrong",
    "Findings about arithmetic",
    "Could an error have been seen?",
    "What each framework returns at a kink",
    "Kill score: smallest defect found in 99 % (dW scaled by 1 \\+ e)",
    "Kill score: found by verdict",
    "Kill score: false alarms",
]


def parse(text):
    """Return all tokens of the text, those within lines too."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return [inner for token in tokens for inner in (token, *(token.children or ()))]


def headings(text):
    tokens = parse(text)
    return [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]


def test_the_verdict_comes_first_and_all_parts_follow(make_run):
    titles = headings(compose_summary(make_run(rows=500, failing=5)))
    assert titles[0].endswith("5 comparisons fail.")
    assert titles[1:] == [
        "Known findings",
        "Failures",
        "Which one is wrong",
        "Layers and backends",
        "Hazards",
        "Could an error have been seen?",
        "Timings",
        "Numerical differentiation",
        "Backpropagation over numerical differentiation",
        "Training",
        "Run",
    ]


def test_a_full_run_has_its_own_parts(full_run):
    text = compose_summary(full_run)
    assert [title for title in headings(text) if title in FULL] == FULL
    for said in (
        "❌ 7",
        "part at 1 place; 1 gradient outside",
        "jax is not installed",
        "never",
        "| nothing |",
        "can show nothing",
    ):
        assert said in text
    assert "accumulates in reduced precision" in text


def test_an_older_run_has_none_of_them(make_run):
    run = make_run(rows=200)
    older = run.comparisons.drop(columns=["seen_percent", "seen_millionth", "culprit"])
    assert set(headings(compose_summary(replace(run, comparisons=older)))).isdisjoint(FULL)


def test_a_failure_says_how_to_replay_it(make_run):
    run = make_run(rows=500, failing=1)
    assert f"`harness replay {run.comparisons['case'].iloc[0]}`" in compose_summary(run)


def test_only_the_first_failures_are_shown_and_the_rest_counted(make_run):
    text = compose_summary(make_run(rows=500, failing=300))
    assert "Showing 20 of 300" in text
    assert text.count("harness replay") == 20


def test_every_row_of_a_table_has_its_columns(hostile_run):
    for table in compose_summary(hostile_run).split("\n\n"):
        lines = table.splitlines()
        if lines[0].startswith("|"):
            assert {line.replace("\\|", "").count("|") for line in lines} == {lines[0].count("|")}


def test_nothing_of_the_run_becomes_markup(hostile_run):
    kinds = {token.type for token in parse(compose_summary(hostile_run))}
    assert kinds.isdisjoint({"html_block", "html_inline", "image", "link_open", "fence", "code_block"})


@pytest.mark.parametrize(
    "text", ["![x](http://e.org/a.png)", "[x](http://e.org)", "`a` | b", "<b>b</b>\n# c", "*a* _b_ ~~c~~", "a\\|b", "\x1b[31mred"]
)
def test_escaped_text_is_shown_as_it_was(text):
    (inline,) = [token for token in parse(f"x {escape(text)}") if token.type == "inline"]
    assert {child.type for child in inline.children} <= {"text", "text_special"}
    assert "".join(child.content for child in inline.children) == "x " + " ".join(text.replace("\x1b", " ").split())


def test_code_cannot_be_left():
    (inline,) = [token for token in parse(quote("a`<img src=x>`b")) if token.type == "inline"]
    assert [child.type for child in inline.children] == ["code_inline"]


def test_it_stays_below_the_limit_whatever_the_names(make_run):
    run = make_run(rows=4000, failing=4000)
    number = run.comparisons.index.astype("str")
    comparisons = run.comparisons.assign(layer="|" * 5000 + number, message="<" * 9000, case="@" * 5000)
    info = {**run.info, "platform": "&" * 10**6, "backends": [{"name": "&" * 1000, "status": "<" * 1000}] * 5000}
    assert len(compose_summary(replace(run, comparisons=comparisons, info=info)).encode()) < LIMIT


def test_an_empty_run_has_a_summary(empty_run, tmp_path):
    (path,) = REPORTER.write(empty_run, tmp_path)
    assert headings(path.read_text("utf-8")) == ["⚠️ Nothing was compared.", "Run"]
