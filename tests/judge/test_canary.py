"""The judge comes in; nothing goes out while it sees, and a fault that names what it let pass when it does not."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judge import canary
from harness.judge.canary import FAULTS, JudgeFault, check_judge


def test_the_judge_sees():
    check_judge()
    assert len(FAULTS) >= 5


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one(fault):
    right = np.linspace(1, 2, 6).reshape(2, 3)
    kept = right.copy()
    planted = FAULTS[fault](right, 0.01)
    assert not np.array_equal(planted, right, equal_nan=True)
    assert (planted.shape, planted.dtype) == (right.shape, right.dtype)
    assert np.array_equal(right, kept)


def test_a_fault_that_is_none_passes_and_is_named(monkeypatch):
    monkeypatch.setattr(canary, "FAULTS", {"not changed at all": lambda value, little: value})
    with pytest.raises(JudgeFault, match=r"a planted fault passes for right: y not changed at all in float64"):
        check_judge()


def test_a_judge_that_calls_the_truth_wrong_is_named(monkeypatch):
    right = canary._round_truth
    monkeypatch.setattr(canary, "_round_truth", lambda problem: {name: 1.5 * value for name, value in right(problem).items()})
    with pytest.raises(JudgeFault, match="the truth itself, rounded to float64, is called mismatch"):
        check_judge()
