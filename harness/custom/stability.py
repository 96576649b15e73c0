"""Stability: the judge's rows come in, which results a layer loses far more of to rounding than its formula does goes out.

A right algorithm may be an unstable one: the variance as a mean of squares less a squared mean is right, and far from the
mean next to nothing of it is left. Its own rounding excuses it, so that no comparison fails; this says it.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.core import Comparison

FAR = 100.0


def find_unstable(rows: Sequence[Comparison]) -> dict[tuple[str, str], str]:
    """Return for a dtype and quantity what is lost, in words, where the layer could hide FAR times what a framework could.

    A row's `power` is the smallest relative error that would have been seen; the frameworks differentiate the formula on the
    very same numbers, so that the ratio of the two powers is that of what rounding does to the two.
    """
    theirs: dict[tuple[str, str, str], float] = {}
    for row in rows:
        if row.variant == "formula" and row.power > 0:
            key = (row.case, row.dtype, row.quantity)
            theirs[key] = min(row.power, theirs.get(key, row.power))
    worst: dict[tuple[str, str], float] = {}
    for row in rows:
        least = theirs.get((row.case, row.dtype, row.quantity))
        if row.variant == "layer" and least and row.power > FAR * least:
            worst[row.dtype, row.quantity] = max(row.power / least, worst.get((row.dtype, row.quantity), 0.0))
    return {key: _say(ratio) for key, ratio in worst.items()}


def _say(ratio: float) -> str:
    lost = (
        f"rounding takes up to {ratio:.0f} times as much of it as of its formula" if ratio < 1e9 else "rounding takes all of it"
    )
    return f"unstable: {lost}; that is no fault, but another way to compute it loses less"
