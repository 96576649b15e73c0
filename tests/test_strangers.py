"""Errors and objects of strangers come in; one safe line of words about each goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.strangers import find, find_place, is_out_of_memory, is_strange, one_line, read_place, show, tell


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Odd:
    def __repr__(self) -> str:
        return "two\nlines " + "x" * 10**6

    @property
    def broken(self) -> Any:
        raise KeyError("broken")


def catch(work: Any) -> BaseException:
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


def test_an_error_is_told_with_the_last_line_of_a_strangers_file() -> None:
    def fail() -> None:
        np.linalg.inv(np.ones((2, 3)))  # raises in a file of NumPy's

    text = tell(catch(fail))
    assert text.startswith("LinAlgError: ")
    assert text.endswith("of test_strangers.py, in fail)")


def test_an_error_without_words_or_with_too_many_is_told() -> None:
    assert tell(Mute()) == "Mute: (its text cannot be read)"
    assert tell(StopIteration()) == "StopIteration"
    assert len(tell(ValueError("x" * 10**7))) < 600


def test_what_an_object_says_of_itself_is_cut_to_one_line() -> None:
    assert show(Odd()).startswith("two lines xxx")
    assert len(show(Odd())) == 80
    assert find(Odd(), "broken") is None
    assert find(Odd(), "missing") is None


@pytest.mark.parametrize("letter", ["\x1b", "\x00", "\r", "\u202e", "\ud800", "\x9b"])
def test_nothing_reaches_a_terminal_that_could_steer_it(letter: str) -> None:
    words = one_line(f"a{letter}b")
    assert words.isprintable()
    assert letter not in words


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte"), True),
        (ValueError("memory"), False),
        (Mute(), False),
    ],
)
def test_no_memory_is_told_in_the_words_of_each_framework(error: BaseException, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


@pytest.mark.parametrize(
    ("path", "strange"),
    [
        ("/home/me/layer.py", True),
        ("<stdin>", True),
        ("<frozen importlib._bootstrap>", False),
        (str(Path(np.__file__)), False),
        (str(Path(tell.__code__.co_filename)), False),
    ],
)
def test_whose_a_file_is(path: str, strange: bool) -> None:
    assert is_strange(path) is strange


DUMP = """Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/site-packages/numpy/core.py", line 5 in string_at
  File "/usr/lib/python3.11/site-packages/their_layers/swish.py", line 33 in backward
  File "/home/me/run.py", line 12 in <module>
"""


def test_the_last_words_of_a_process_are_read() -> None:
    assert read_place(DUMP) == " (line 12 of run.py, in <module>)"
    installed = DUMP.replace("/home/me/run.py", "/usr/lib/python3.11/site-packages/jax/run.py")
    assert read_place(installed) == " (line 33 of swish.py, in backward)"
    assert read_place("") == ""
    assert find_place(ValueError("never raised")) == ""
