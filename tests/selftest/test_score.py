"""Counts come in; the status and the exit code go out."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.selftest.score import decide, list_false
from harness.selftest.tables import ALARMS

CLEAN = pd.DataFrame([("float32", "numpy", 3, 12, 0), ("float32", "rival:allclose", 3, 3, 2)], columns=list(ALARMS))
ALARMED = pd.DataFrame([("float32", "numpy", 3, 12, 1)], columns=list(ALARMS))
NOTHING = pd.DataFrame(columns=list(ALARMS))


@pytest.mark.parametrize(
    ("unmet", "alarms", "trials", "stopped", "status", "code"),
    [
        ((), CLEAN, 5, 0, "conforms", 0),
        (("a threshold",), CLEAN, 5, 0, "not all found", 1),
        (("numpy: 1",), ALARMED, 5, 0, "false alarms", 1),
        (("numpy: 1",), ALARMED, 5, 130, "false alarms", 1),
        (("a threshold",), CLEAN, 5, 130, "interrupted", 130),
        ((), CLEAN, 0, 2, "bad input", 2),
        ((), CLEAN, 0, 3, "harness failed", 3),
        ((), NOTHING, 0, 0, "nothing ran", 4),
        ((), NOTHING, 0, 130, "interrupted", 130),
    ],
)
def test_only_no_false_alarm_and_every_threshold_met_conforms(unmet, alarms, trials, stopped, status, code):
    assert decide(unmet, alarms, trials, stopped) == (status, code)


def test_a_rivals_false_alarms_are_its_own_affair():
    assert list_false(CLEAN) == []
    assert [row.backend for row in list_false(ALARMED)] == ["numpy"]
