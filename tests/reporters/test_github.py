"""Failures come in; that GitHub reads each as one command, and a summary stays within what it takes, must hold."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reporters.github import (
    MOST,
    Annotation,
    Place,
    add_to_summary,
    annotate_run,
    find_place,
    format_annotations,
    is_in_actions,
    tell_run,
)
from harness.reporters.markdown import LIMIT
from reference_layers import ReLU

# As the runner of Actions reads it: properties end at the first ::, and are parted by commas and, from the value, by =.
COMMAND = re.compile(r"::error (?P<properties>.*?)::(?P<message>.*)", re.DOTALL)
SIGNS = {"%3A": ":", "%2C": ",", "%0D": "\r", "%0A": "\n", "%25": "%"}


def read(line: str) -> tuple[dict[str, str], str]:
    found = COMMAND.fullmatch(line)
    assert found is not None
    properties = dict(entry.split("=", 1) for entry in found["properties"].split(","))
    return {name: undo(value) for name, value in properties.items()}, undo(found["message"])


def undo(text: str) -> str:
    return re.sub("%3A|%2C|%0D|%0A|%25", lambda found: SIGNS[found[0]], text)


@pytest.fixture
def summary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)


@given(TEXTS, TEXTS.filter(bool), TEXTS, st.integers(1, 10**6))
def test_any_text_comes_through_on_one_line(title: str, file: str, message: str, line: int) -> None:
    (command,) = format_annotations([Annotation(title, message, Place(file, line))])
    assert "\n" not in command
    assert "\r" not in command
    assert read(command) == ({"file": file, "line": str(line), "title": title}, message)


def test_there_are_at_most_ten_and_the_last_counts_the_rest() -> None:
    for count in (0, 1, MOST, MOST + 1, 500):
        lines = format_annotations([Annotation(str(i), "wrong") for i in range(count)])
        assert len(lines) == min(count, MOST)
        shown = [read(line)[0]["title"] for line in lines]
        assert shown[: MOST - 1] == [str(i) for i in range(min(count, MOST - 1))]
        if count > MOST:
            assert read(lines[-1])[1].startswith(f"and {count - MOST + 1} more")


def test_a_lone_surrogate_can_be_printed() -> None:
    assert format_annotations([Annotation("a", "x\ud800y")]) == ["::error title=a::x?y"]


def test_a_message_is_not_endless() -> None:
    (command,) = format_annotations([Annotation("a", "x" * 10**6)])
    assert len(command) < 5000


def test_a_place_is_that_of_the_class_behind_wrappers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setenv("GITHUB_WORKSPACE", str(root))
    line = next(
        i for i, text in enumerate((root / "reference_layers/relu.py").read_text().splitlines(), 1) if "class ReLU" in text
    )
    expected = Place("reference_layers/relu.py", line)

    def wrap() -> None: ...

    wrap.wraps = ReLU  # type: ignore[attr-defined]  # reason: a function takes attributes
    for thing in (ReLU, ReLU(), functools.partial(ReLU), wrap):
        assert find_place(thing) == expected
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert find_place(ReLU) == Place(str(root / "reference_layers/relu.py"), line)


def test_what_has_no_file_has_no_place() -> None:
    assert [find_place(thing) for thing in (None, 3, len, type("Made", (), {}))] == [None] * 4


def test_failures_of_a_run_are_told_once_each_with_how_to_replay_them(make_run, summary, capsys) -> None:  # type: ignore[no-untyped-def]  # reason: as its neighbours
    run = make_run(rows=500, failing=60)
    annotations = list(annotate_run(run))
    titles = [one.title for one in annotations]
    assert len(titles) == len(set(titles)) > MOST
    assert all("harness replay " in one.message for one in annotations)
    places = {one.title.partition(".")[0]: one.place for one in annotations}
    assert all(place is None or place.file.endswith(".py") for place in places.values())
    assert any(place is not None for place in places.values())
    tell_run(run)
    lines = capsys.readouterr().out.splitlines()
    assert len([read(line) for line in lines]) == MOST
    assert "60 comparisons fail" in summary.read_text("utf-8")


def test_a_run_that_fails_without_a_failing_row_says_why(make_run, empty_run) -> None:  # type: ignore[no-untyped-def]  # reason: as above
    assert [one.message for one in annotate_run(make_run(rows=50))] == []
    (told,) = annotate_run(empty_run)
    assert "Nothing was compared" in told.message


def test_a_summary_is_added_to_what_is_there_and_stays_below_the_limit(summary: Path) -> None:
    assert add_to_summary("# first\n", "elsewhere") == ""
    assert add_to_summary("# second\n", "elsewhere") == ""
    assert summary.read_text("utf-8") == "# first\n# second\n"
    assert add_to_summary("é" * 100 + "\n" + "word \n" * 10**6, "the log has it") == ""
    text = summary.read_bytes()
    assert LIMIT - 100 < len(text) < LIMIT
    assert text.decode().endswith("The rest is cut; the log has it.\n")
    assert add_to_summary("# third\n", "elsewhere").startswith("::warning title=harness::the step summary is full")
    assert summary.read_bytes() == text


def test_a_summary_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert add_to_summary("text", "elsewhere") == ""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary.md"))
    assert add_to_summary("text", "elsewhere").startswith("::warning title=harness::the step summary could not be written: ")


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("1", True), ("false", False), ("", False), ("0", False)])
def test_actions_are_known_by_their_variable(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    assert not is_in_actions()
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    assert is_in_actions() is expected
