"""Minimising: the choices of something that fails come in, the smallest choices found that still fail go out.

Hypothesis tries and shrinks them. Needs Hypothesis, which is an extra: `is_available` says whether it is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from random import Random

Choices = tuple[int, ...]
BOXES = (0.0, 0.5, 0.75)
MOST_EXAMPLES = 15


def is_available() -> bool:
    """Whether Hypothesis is installed."""
    return find_spec("hypothesis") is not None


def is_busy() -> bool:
    """Whether a test of Hypothesis's is running, which shrinks by itself and has nothing shrunk inside."""
    hypothesis = sys.modules.get("hypothesis")
    return hypothesis is not None and bool(hypothesis.currently_in_test_context())


def minimise(start: Choices, fails: Callable[[Choices], bool], calls: int) -> Choices:
    """Return choices from 0, the simplest, to those of `start`, for which `fails` is true as it is for `start`.

    `fails` is called at most `calls` times, never twice with the same choices, and the same `start` and `fails` give the
    same result. Where all simple choices hide the failure, it is looked for ever nearer to `start`.

    >>> minimise((9, 9, 9), lambda choices: choices[1] >= 4, calls=100)
    (0, 4, 0)
    """
    known: dict[Choices, bool] = {start: True}

    def still_fails(choices: Choices) -> bool:
        if choices not in known:
            known[choices] = len(known) <= calls and fails(choices)
        return known[choices]

    boxes = (tuple(int(most * part) for most in start) for part in BOXES)
    return next((found for low in boxes if (found := _find(low, start, still_fails)) is not None), start)


def _find(low: Choices, high: Choices, fails: Callable[[Choices], bool]) -> Choices | None:
    """Return the smallest failing choices that Hypothesis finds between two, None where it finds none."""
    from hypothesis import Phase, find, settings
    from hypothesis import strategies as st
    from hypothesis.errors import NoSuchExample

    places = [st.integers(least, most) for least, most in zip(low, high, strict=True)]
    fixed = settings(
        database=None, max_examples=MOST_EXAMPLES, phases=(Phase.generate, Phase.shrink), deadline=None, backend="hypothesis"
    )
    try:
        return find(st.tuples(*places), fails, settings=fixed, random=Random(0))
    except NoSuchExample:
        return None
