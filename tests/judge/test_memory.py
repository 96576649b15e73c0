"""Arrays come in; judging them once or again goes out, by whether they are bit for bit the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.core import NodeTrace
from harness.judge.double_double import DoubleDouble
from harness.judge.memory import fingerprint, name_arrays, recall, remember

SEEN = NodeTrace(
    inputs=(np.array([1.0, 2.0]),), y=np.array([3.0, 4.0]), dy=np.array([1.0, 1.0]), dx=(np.array([5.0, 6.0]), None),
    dparams={"W": np.array([7.0])},
)  # fmt: skip
CHANGES = {
    "an input": {"inputs": (np.array([1.0, np.nextafter(2.0, 3.0)]),)},
    "the output": {"y": np.array([4.0, 3.0])},
    "the upstream gradient": {"dy": np.array([[1.0, 1.0]])},
    "a gradient": {"dx": (np.array([5.0, -6.0]), None)},
    "a gradient that is there": {"dx": (np.array([5.0, 6.0]), np.array([0.0]))},
    "a parameter's gradient": {"dparams": {"W": np.array([7.0], np.float32)}},
    "a parameter's name": {"dparams": {"V": np.array([7.0])}},
}


def count(calls: list[int]) -> int:
    calls.append(1)
    return len(calls)


def test_outside_everything_is_judged():
    calls: list[int] = []
    assert [recall(("a",), name_arrays(SEEN), lambda: count(calls)) for _ in range(3)] == [1, 2, 3]


def test_inside_the_same_is_judged_once():
    calls: list[int] = []
    with remember():
        assert [recall(("a",), name_arrays(replace(SEEN)), lambda: count(calls)) for _ in range(3)] == [1, 1, 1]
        assert recall(("b",), name_arrays(SEEN), lambda: count(calls)) == 2
    assert recall(("a",), name_arrays(SEEN), lambda: count(calls)) == 3


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_differs_is_another_trace(change):
    assert fingerprint(name_arrays(SEEN)) == fingerprint(name_arrays(replace(SEEN, y=SEEN.y.copy())))
    assert fingerprint(name_arrays(replace(SEEN, **CHANGES[change]))) != fingerprint(name_arrays(SEEN))


def test_longdouble_is_told_by_its_numbers_not_by_its_padding():
    third = np.longdouble(1) / 3
    one, other = np.frombuffer(b"\xff" * 16, np.longdouble).copy(), np.zeros(1, np.longdouble)
    one[0] = other[0] = third
    assert fingerprint(name_arrays(replace(SEEN, y=one))) == fingerprint(name_arrays(replace(SEEN, y=other)))
    other[0] = third + np.longdouble(2.0**-60)
    assert fingerprint(name_arrays(replace(SEEN, y=one))) != fingerprint(name_arrays(replace(SEEN, y=other)))


@pytest.mark.parametrize("place", ["y", "dW"])
def test_double_double_is_told_by_both_of_its_parts(place):
    """What a large network in float64 is run in one precision up."""

    def trace(low: float) -> NodeTrace:
        wide = DoubleDouble(np.array([1.0]), np.array([low]))
        return replace(SEEN, y=wide) if place == "y" else replace(SEEN, dparams={"W": wide})

    assert fingerprint(name_arrays(trace(1e-20))) == fingerprint(name_arrays(trace(1e-20)))
    assert fingerprint(name_arrays(trace(1e-20))) != fingerprint(name_arrays(trace(2e-20)))
