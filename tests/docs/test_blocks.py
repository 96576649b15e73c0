"""Code of a page comes in; that what it prints is what the page shows, or the build fails, goes out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from docs._extensions import blocks
from docs._extensions.blocks import NotSaid, run_block, run_twins


def test_a_block_shows_what_it_prints_and_keeps_its_names():
    names = {}
    assert run_block("x = 2\nprint(x)\nprint('done')", names) == "2\ndone"
    assert run_block("print(x + 1)", names) == "3"


def test_an_error_that_is_expected_is_shown_behind_what_was_printed():
    assert run_block("print('first')\nraise ValueError('bad')", {}, raises="ValueError") == "first\nValueError: bad"


def test_an_error_that_nobody_expects_goes_through():
    with pytest.raises(ZeroDivisionError):
        run_block("1 / 0", {}, raises="ValueError")


def test_an_expected_error_that_does_not_come_is_an_error():
    with pytest.raises(NotSaid, match="no ValueError was raised"):
        run_block("print(1)", {}, raises="ValueError")


def test_what_a_page_claims_must_be_printed():
    assert run_block("print('all is well')", {}, says=["all", "well"]) == "all is well"
    with pytest.raises(NotSaid, match="ill"):
        run_block("print('all is well')", {}, says=["all", "ill"])


def test_warnings_are_shown_without_their_place():
    source = "import warnings\nfor _ in range(2):\n    warnings.warn('take care')"
    assert run_block(source, {}) == "UserWarning: take care"


def test_an_error_is_told_with_the_line_of_the_page():
    with pytest.raises(ZeroDivisionError) as raised:
        run_block("x = 1\nx / 0", {}, path="/pages/some.md", line=7)
    last = raised.traceback[-1]
    assert (str(last.path), last.lineno + 1) == ("/pages/some.md", 8)


def _plant(monkeypatch, **example):
    monkeypatch.setattr(blocks, "import_module", lambda name: SimpleNamespace(**example))


class Square:
    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, dy):
        return 2 * self.x * dy


class Half(Square):
    def backward(self, dy):
        return self.x * dy


def _specify(layer):
    from harness import LayerSpec

    return LayerSpec(layer, lambda xp, params, x: x * x, inputs=[(4, 3)])


def test_twins_are_shown_with_what_is_said_of_both(monkeypatch):
    _plant(monkeypatch, right=_specify(Square), wrong=_specify(Half), FINDS=("gradients", "it is half the truth"))
    right, wrong = run_twins("planted")
    assert right.startswith("Square conforms")
    assert "it is half the truth" in wrong


@pytest.mark.parametrize(
    ("right", "wrong", "finds", "words"),
    [
        (Half, Half, ("gradients", "it is half the truth"), "the right layer of planted does not conform"),
        (Square, Square, ("gradients", "it is half the truth"), "does not fail gradients"),
        (Square, Half, ("gradients", "it is transposed"), "is not in the output"),
    ],
    ids=["the right one is wrong", "the wrong one is right", "another diagnosis"],
)
def test_twins_that_are_not_what_they_should_be_fail_the_build(monkeypatch, right, wrong, finds, words):
    _plant(monkeypatch, right=_specify(right), wrong=_specify(wrong), FINDS=finds)
    with pytest.raises(NotSaid, match=words):
        run_twins("planted")
