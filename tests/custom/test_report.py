"""Results and examples come in; that the message stays short and says what matters goes out."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness import CheckReport
from harness.custom.example import Example
from harness.custom.report import MOST_LINES, CheckResult

WRONG = (
    "mismatch in 7 of 7 trials, off by 0.5 of the value: A.dx: 3 of 4 entries are further from the truth than rounding moves "
    "them; worst dx[0] = 1.0, truth 2.0, 1e+15 times what rounding can do; wrong is your layer (trial A-s0t1)"
)


def fail(check: str, message: str = WRONG, dtype: str = "float64", **more: Any) -> CheckResult:
    return CheckResult(check, dtype, "numpy", "failed", message, 7, **more)


def report(*results: CheckResult, examples: tuple[Example, ...] = ()) -> str:
    return CheckReport("A", results, (), examples=examples).describe()


def test_a_failure_has_a_line_for_what_is_wrong_where_who_and_why() -> None:
    lines = report(fail("gradients", diagnosis="dx: it is half the truth")).splitlines()
    assert [line.split(" ")[2:4] for line in lines[:1]] == [["not", "conform:"]]
    assert "3 of 4 entries" in lines[1]
    assert lines[2].strip() == "worst dx[0] = 1.0, truth 2.0, 1e+15 times what rounding can do"
    assert lines[3].strip() == "wrong is your layer (trial A-s0t1)"
    assert lines[4].strip() == "diagnosis: dx: it is half the truth"


def test_any_number_of_failures_fits_and_the_example_is_never_cut() -> None:
    example = Example(
        "gradients", "float64", "dx", "mismatch", "", inputs={"x": np.ones((1, 1))}, dy=np.ones((1, 1)), got=np.ones((1, 1)),
        expected=np.zeros((1, 1)), case_file="a.json", script="a.py", note="take care",
    )  # fmt: skip
    for count in range(1, 40):
        text = report(fail("gradients"), *(fail(f"check_{i}") for i in range(count)), examples=(example, example))
        assert len(text.splitlines()) <= MOST_LINES < 20
        assert "run it again: harness replay a.json, or python a.py" in text
        assert "take care" in text
        assert text.splitlines()[1].strip().startswith("gradients [numpy, float64]")
    assert "and more: see report.failures" in text


def test_what_another_dtype_says_of_a_noise_that_is_unknown_comes_first() -> None:
    text = report(fail("gradients", "noise-unknown in 7 of 7 trials: no"), fail("gradients", "dtype in 7 of 7 trials", "float32"))
    assert "gradients [numpy, float64, float32]: dtype in 7 of 7 trials" in text


def test_lines_of_strangers_do_not_make_more_lines() -> None:
    assert len(report(fail("deterministic", "it raises ValueError: one\ntwo\n\nthree")).splitlines()) == 2


def test_an_example_of_another_check_is_not_shown() -> None:
    other = Example("forward", "float64", "y", "mismatch", "wrong")
    assert "smallest case" not in report(fail("gradients"), examples=(other,))
