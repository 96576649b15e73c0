"""Thresholds and sizes come in; trials as a selftest makes them go out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from harness.selftest.tables import Trial

TrialMaker = Callable[..., list[Trial]]
SIZES = (1e-3, 1e-2, 1e-1)


@pytest.fixture(scope="session")
def make_trials() -> TrialMaker:
    """Return a function that makes one trial for each smallest size that the local check is said to have found."""

    def make(
        found: Sequence[float], kind: str = "graded", dtype: str = "float64", graded: bool = True, **more: object
    ) -> list[Trial]:
        sizes = SIZES if graded else ()
        return [
            Trial(
                i, f"c{i}", "float64", kind, "scale", graded, "affine1", "affine", sizes,
                **{"smallest": {"local": value, "verdict": value, "network": math.inf}, **more},
            )
            for i, value in enumerate(found)
        ]  # fmt: skip

    return make
