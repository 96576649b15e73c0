"""Choices that fail come in; that the smallest ones found fail, are the same each time and cost no more than said goes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.minimise import is_busy, minimise

ROOT = Path(__file__).parents[1]


def test_simple_choices_are_tried_first():
    tried = []
    assert minimise((5, 5, 5), lambda choices: tried.append(choices) or True, calls=9) == (0, 0, 0)
    assert tried == [(0, 0, 0)]


def test_what_fails_at_the_start_alone_stays():
    assert minimise((3, 9), lambda choices: False, calls=50) == (3, 9)


def test_nothing_to_choose_is_no_error():
    assert minimise((), lambda choices: True, calls=5) == ()
    assert minimise((0, 0), lambda choices: True, calls=5) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_result_fails_is_no_larger_than_the_start_and_costs_no_more_than_said(seed):
    rng = np.random.default_rng(seed)
    start = tuple(map(int, rng.integers(0, 10, rng.integers(1, 7))))
    least = tuple(int(rng.integers(0, most + 1)) for most in start)
    calls = []

    def fails(choices):
        calls.append(choices)
        return all(choice >= low for choice, low in zip(choices, least, strict=True))

    found = minimise(start, fails, calls=40)
    assert all(low <= choice <= most for low, choice, most in zip(least, found, start, strict=True))
    assert len(calls) <= 40
    assert len(set(calls)) == len(calls)


def test_another_process_finds_the_same():
    program = "from harness.minimise import minimise; print(minimise((9,) * 6, lambda c: c[2] > 3 and c[4] + c[5] > 6, calls=60))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    found = minimise((9,) * 6, lambda c: c[2] > 3 and c[4] + c[5] > 6, calls=60)
    assert ran.stdout.strip() == str(found)
    assert found[2] == 4
    assert sum(found[4:]) == 7


@settings(max_examples=1)
@given(st.just(0))
def test_a_test_of_hypothesis_is_noticed(nothing):
    assert is_busy()


def test_other_tests_are_none():
    assert not is_busy()
