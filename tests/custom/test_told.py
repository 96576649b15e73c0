"""Reports come in; that a reader of Actions sees every failure, at its place, and no markup of a stranger's, must hold."""

from __future__ import annotations

import inspect
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from harness import LayerSpec, check_layer, layer_checks_generator
from harness.custom.report import CheckReport, CheckResult
from harness.custom.told import Told, annotate, compose, locate, tell_check, tell_report, tell_reports
from harness.reporters.github import Place
from harness.reporters.markdown import LIMIT
from harness.styles import from_activation
from tests.custom import layers

ROOT = Path(__file__).parents[2]
CLIPS = LayerSpec(layers.Clips, layers.swish, [(6, 5)], name="clips")
HERE = ("test_told.py", 7)
HOSTILE = "</td><script>alert(1)</script>|`[x](http://e.org)\n# head\n::error::planted"


def place_of(thing: Any) -> Place:
    return Place("tests/custom/" + Path(inspect.getfile(thing)).name, inspect.getsourcelines(thing)[1])


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(ROOT))


def cells(text: str) -> list[list[str]]:
    """Return the rows of all tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows, row = list[list[str]](), list[str]()
    for before, token in pairwise(tokens):
        if before.type in ("td_open", "th_open"):
            row.append("".join(child.content for child in token.children or ()))
        if token.type == "tr_close":
            rows.append(row)
            row = []
    return rows


def test_a_failing_layer_is_told_with_its_place_and_its_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [
        (spec, check_layer(spec, against=[], on_fail="report"))
        for spec in (CLIPS, LayerSpec(layers.Swish, layers.swish, [(6, 5)], name="right"))
    ]
    tell_reports(reports)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    tell_reports(reports)
    place = place_of(layers.Clips)
    start = f"::error file={place.file},line={place.line},title=clips%3A linear_in_cotangent [numpy%2C float64%2C float32]::"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{start}the cotangent 2 dy does not give twice")
    text = (tmp_path / "summary.md").read_text("utf-8")
    checks = {(spec.name, one.check, one.backend) for spec, report in reports for one in report.results}
    ran = {(spec.name, one.check, one.backend) for spec, report in reports for one in report.results if one.state != "skipped"}
    assert text.startswith(f"# ❌ 1 of 2 layers fail: 1 of {len(ran)} checks\n")
    assert len(checks) > len(ran)
    rows = cells(text)
    assert ["clips", "linear_in_cotangent", "❌ failed"] in rows
    assert ["clips", "gradients", "passed"] in rows
    assert ["right", "linear_in_cotangent", "passed"] in rows
    assert {tuple(row[:4]) for row in rows if len(row) == 5} == {
        ("layer", "check", "framework", "dtype"),
        ("clips", "linear_in_cotangent", "numpy", "float64"),
        ("clips", "linear_in_cotangent", "numpy", "float32"),
    }


def test_the_table_has_a_column_for_each_framework_and_names_the_dtypes_that_differ() -> None:
    results = (
        CheckResult("forward", "float64", "numpy", "passed"),
        CheckResult("forward", "float32", "numpy", "failed", "off"),
        CheckResult("forward", "float64", "torch", "passed"),
        CheckResult("forward", "float32", "torch", "expected", "known"),
        CheckResult("power", "float64", "numpy", "skipped"),
    )
    rows = cells(compose([Told("a", results)]))
    assert rows[:3] == [
        ["layer", "check", "numpy", "torch"],
        ["a", "forward", "❌ failed in float32", "expected in float32"],
        ["a", "power", "skipped", "–"],
    ]


@pytest.mark.parametrize(
    ("states", "head"),
    [
        (["passed", "skipped", "expected"], "# ✅ None of 1 layer fails: 2 checks"),
        (["skipped"], "# ⚠️ No layer was checked"),
        ([], "# ⚠️ No layer was checked"),
        (["passed", "unexpected pass"], "# ❌ 1 of 1 layer fail: 1 of 2 checks"),
    ],
)
def test_the_head_says_what_it_comes_to(states: list[Any], head: str) -> None:
    results = tuple(CheckResult(f"check{i}", "float64", "numpy", state) for i, state in enumerate(states))
    assert compose([Told("a", results)]).splitlines()[0] == head


def test_nothing_of_a_stranger_becomes_markup_or_a_command() -> None:
    told = [Told(HOSTILE, (CheckResult("forward", "float64", HOSTILE, "failed", HOSTILE, diagnosis=HOSTILE),))]
    text = compose(told)
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    kinds = {inner.type for token in tokens for inner in (token, *(token.children or ()))}
    assert kinds.isdisjoint({"html_block", "html_inline", "image", "link_open", "fence", "code_block"})
    assert [len(row) for row in cells(text)] == [3, 3, 5, 5]
    assert not any(line.startswith("::") for line in text.splitlines())
    assert [one.message for one in annotate(told)] == [f"{HOSTILE}\ndiagnosis: {HOSTILE}"]


def test_many_failures_stay_below_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    results = tuple(CheckResult("forward", "float64", f"backend{i}", "failed", "<" * 9000) for i in range(300))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    tell_reports([(layers.Clips, CheckReport("a", results, ()))])
    text = (tmp_path / "summary.md").read_text("utf-8")
    assert len(text.encode()) < LIMIT
    assert "The rest is cut; the log has all of it." in text


def test_the_place_is_the_class_that_is_the_users() -> None:
    spec = {"formula": layers.swish, "inputs": [(6, 5)]}
    assert locate(LayerSpec(layers.Clips, **spec)) == place_of(layers.Clips)
    assert locate(LayerSpec(lambda: layers.Clips(), **spec)) == place_of(layers.Clips)
    assert locate(LayerSpec(layers.Clips(), **spec)) == place_of(layers.Clips)
    assert locate(layers.Clips) == place_of(layers.Clips)

    def square(x: Any) -> Any:
        return x * x

    assert locate(LayerSpec(from_activation(square, lambda x: 2 * x), **spec)) == place_of(square)

    def fail() -> Any:
        raise RuntimeError("no layer today")

    assert locate(LayerSpec(fail, **spec)) == place_of(fail)
    made = type("Made", (layers.Clips,), {"__module__": "nowhere"})
    assert locate(LayerSpec(made, **spec)) == place_of(layers.swish)


def test_what_is_told_goes_from_one_process_to_another() -> None:
    told = Told("a", (CheckResult("forward", "float64", "numpy", "failed", "off", 3, "half", "id"),), Place("a.py", 3))
    assert Told.from_plain(json.loads(json.dumps(told.to_plain()))) == told
    assert Told.from_plain(Told("a", ()).to_plain()) == Told("a", ())


def test_the_properties_name_what_failed_in_which_dtype() -> None:
    results = (CheckResult("forward", "float64", "torch", "passed"), CheckResult("forward", "float32", "torch", "failed"))
    named = {"layer": "a", "framework": "torch", "check": "forward", "dtype": "float64, float32", "failing_dtype": "float32"}
    assert dict(Told("a", results).list_properties()) == named


def test_a_test_that_fails_for_another_reason_is_told_and_one_that_is_skipped_passes_for_nothing() -> None:
    check = next(one for _, one in layer_checks_generator(CLIPS, against=[]) if one.check == "gradients")
    failed = tell_check(check, "failed", "boom", HERE)
    assert [(one.state, one.message) for one in failed.results] == [("failed", "boom")]
    assert failed.place == place_of(layers.Clips)
    check(CLIPS)
    assert {one.state for one in tell_check(check, "passed", "", HERE).results} == {"passed"}
    assert {one.state for one in tell_check(check, "failed", "boom", HERE).results} == {"passed", "failed"}
    assert {one.state for one in tell_check(check, "skipped", "later", HERE).results} == {"skipped"}


def test_a_test_that_passes_expects_the_failures_of_its_report() -> None:
    report = CheckReport("a", (CheckResult("forward", "float64", "numpy", "failed", "off"),), ())
    assert [one.state for one in tell_report(layers.Clips, report, "passed", HERE).results] == ["expected"]
    assert [one.state for one in tell_report(layers.Clips, report, "failed", HERE).results] == ["failed"]
