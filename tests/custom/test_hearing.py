"""What layers print and warn of comes in; sentences that tell it once go out, and streams and filters as they were."""

from __future__ import annotations

import sys
import warnings

import pytest

from harness.custom.hearing import Said, heed, listen


def test_lines_are_counted_and_the_first_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with listen() as heard, heed():
        sys.stdout.write("one two\n")
        sys.stdout.write("three\n")
        sys.stderr.write("x" * 10**6)
    said = heard.sum_up()
    assert said.out == (2, "one two")
    assert said.err[0] == 1
    assert len(said.err[1]) <= 200
    assert capsys.readouterr() == ("", "")


def test_outside_of_a_layer_everybody_may_speak(capsys: pytest.CaptureFixture[str]) -> None:
    with listen() as heard:
        sys.stdout.write("of ours\n")
    with heed():
        sys.stdout.write("nobody listens\n")
    assert heard.sum_up() == Said()
    assert capsys.readouterr().out == "of ours\nnobody listens\n"


def test_warnings_are_counted_whatever_the_filters_say() -> None:
    before = list(warnings.filters)
    with listen() as heard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for word in ("first\nof all", "second"):
            with heed():
                warnings.warn(word, DeprecationWarning, stacklevel=1)
    count, words = heard.sum_up().warned
    assert count == 2
    assert words.startswith("DeprecationWarning: first of all (line ")
    assert words.endswith("of test_hearing.py)")
    assert list(warnings.filters) == before


def test_what_was_said_before_an_error_is_heard() -> None:
    def leave() -> None:
        with heed():
            sys.stdout.write("last words\n")
            sys.exit(1)

    with listen() as heard, pytest.raises(SystemExit):
        leave()
    assert heard.sum_up().out == (1, "last words")
    assert sys.stdout is not heard.out


def test_what_several_said_is_added_up() -> None:
    both = Said(out=(2, "a"), warned=(1, "W: x")) + Said(out=(3, "b"), err=(1, "c"))
    assert both == Said((5, "a"), (1, "c"), (1, "W: x"))
    assert both.tell() == (
        "it prints to stdout, 5 lines in all; the first: a",
        "it prints to stderr, 1 line in all; the first: c",
        "it warns, 1 time in all; the first: W: x",
    )
    assert Said().tell() == ()
