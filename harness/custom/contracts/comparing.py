"""Comparisons of passes: two passes come in, the names of the quantities in which they part go out."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.contracts.subject import Inputs, Pass, Subject
from harness.judge.local import same_bits

CLOSE = 1e-3
ROUNDINGS = 16  # of the largest difference between four runs: what the judge allows, in standard deviations


def list_parted(a: Pass, b: Pass) -> str:
    """Return the quantities in which two passes differ in any bit."""
    ours, theirs = a.name(), b.name()
    names = dict.fromkeys([*ours, *theirs])
    return ", ".join(name for name in names if not same_bits(ours.get(name), theirs.get(name)))


def say(parted: str, words: str) -> str:
    """Return the words and the quantities behind them; nothing where there are none.

    >>> say("dx0, dW", "they differ"), say("", "they differ")
    ('they differ: dx0, dW', '')
    """
    return f"{words}: {parted}" if parted else ""


def list_apart(subject: Subject, found: Pass, right: Pass, inputs: Inputs, dy: Array, close: float = CLOSE) -> str:
    """Return the quantities of `right` from which a pass over these arrays is further than rounding could bring it.

    A thousandth of the largest entry is more than any order of sums makes, and far less than any wrong index does. Where that is
    exceeded, what numbers a few units of rounding apart would give excuses layers whose results cancel.
    """
    wanted = {name: value for name, value in right.name().items() if value is not None}
    apart = [name for name, value in wanted.items() if not are_close(found.name().get(name), value, close)]
    if not apart:
        return ""
    noise = find_noise(subject, inputs, dy)
    ours = found.name()
    return ", ".join(name for name in apart if not are_close(ours.get(name), wanted[name], close, noise.get(name, 0.0)))


def are_close(a: Any, b: Any, close: float = CLOSE, noise: float = 0.0) -> bool:
    """Whether two results have the same shape, the same entries that are no numbers, and numbers close to one another."""
    if a is None or b is None or np.shape(a) != np.shape(b):
        return a is b
    finite = np.isfinite(a) & np.isfinite(b)
    if not (np.isfinite(a) == np.isfinite(b)).all():
        return False
    one, other = (np.where(finite, value, 0).astype(np.float64) for value in (a, b))
    apart = float(np.abs(one - other).max(initial=0.0))
    return apart <= close * float(np.abs(other).max(initial=0.0)) + ROUNDINGS * noise


def find_noise(subject: Subject, inputs: Inputs, dy: Array, still: bool = False) -> dict[str, float]:
    """Return how far roundings move each quantity, of arrays that lie in memory in the usual way.

    No gradient is surer than a unit of rounding of dy: a difference that cancels to 0 shows no noise, and is not exact.
    """
    inputs, dy = tuple(np.array(value, order="C") for value in inputs), np.array(dy, order="C")
    base = subject.run(inputs, dy).name()
    least = float(np.finfo(subject.dtype).eps * np.abs(dy).max(initial=0.0))
    noise = {name: least for name in base if name != "y"}
    for one in subject.nudge(inputs, dy, still):
        for name, value in one.name().items():
            own: Any = base.get(name)
            if value is not None and np.shape(value) == np.shape(own):
                apart = np.abs(np.asarray(value, np.float64) - np.asarray(own, np.float64)).max(initial=0.0)
                noise[name] = max(noise.get(name, 0.0), float(np.nan_to_num(apart)))
    return noise
