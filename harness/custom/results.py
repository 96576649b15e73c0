"""Results: the judge's rows on all trials of a layer come in, what each check came to goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.core import PASSING, Backend, Comparison
from harness.custom.reference import Reference, describe_references
from harness.custom.report import CheckResult
from harness.custom.setting import About
from harness.custom.stability import find_unstable
from harness.custom.unaided import find_visible

NOT_JUDGED = "no formula was given, so the forward pass is not judged"


def skip_stopped(result: CheckResult, rows: Sequence[Comparison], stopped: str) -> CheckResult:
    """Return the result; skipped where nothing was compared because no layer could be made to compare with."""
    if not stopped or result.backend == "numpy" or any(row.backend == result.backend for row in rows):
        return result
    return replace(result, state="skipped", message=f"the layer does not run: {stopped}")


def tell_reference(references: Sequence[Reference], rows: Sequence[Comparison], idle: Sequence[Backend]) -> str:
    """Return what the gradients of a layer without a formula were held against, and who had nothing to differentiate."""
    names = " and ".join(backend.name for backend in idle)
    said = f"; {names} had nothing to differentiate, for no formula was given" if names else ""
    return describe_references(references, find_visible(rows)) + said


def skip_unjudged(result: CheckResult, about: About, rows: Sequence[Comparison]) -> CheckResult:
    """Return the result; skipped where there is no formula that could have judged it, which is no reason to pass.

    An output of a wrong dtype, or none at all, is wrong all the same.
    """
    if about.has_formula or result.check == "power":
        return result
    if result.check == "forward":
        wrong = result.backend == "numpy" and any(row.quantity in ("y", "all") for row in rows if row.backend == "numpy")
        return result if wrong else replace(result, state="skipped", message=NOT_JUDGED)
    if about.is_unaided and result.backend != "numpy":
        return replace(result, state="skipped", message=f"no formula was given: {result.backend} has nothing to differentiate")
    return result


def sum_up(rows: Sequence[Comparison], dtype: str, backends: Sequence[Backend], trials: int) -> list[CheckResult]:
    """Return what the checks of values come to in one dtype, of each backend, from the rows of all its trials."""
    results = []
    for backend in backends:
        own = [row for row in rows if row.backend == backend.name]
        whole = [row for row in own if row.node == "network"]  # a pass that failed has neither output nor gradients
        outputs = [row for row in own if row.quantity == "y"] + whole
        gradients = [row for row in own if row.quantity != "y" and row not in whole] + whole
        results.append(_decide("forward", outputs, dtype, backend.name, trials))
        results.append(_decide("gradients", gradients, dtype, backend.name, trials))
        if backend.variant == "layer":
            results.append(_weigh_power(gradients, rows, dtype, backend.name, trials))
    return results


def _decide(check: str, rows: Sequence[Comparison], dtype: str, backend: str, trials: int) -> CheckResult:
    """Return what the rows come to: the message is that of the worst row."""
    failing = [row for row in rows if row.verdict not in PASSING or row.verdict == "unavailable"]
    if not rows:
        return CheckResult(check, dtype, backend, "failed", "nothing was compared", trials)
    if not failing:
        return CheckResult(check, dtype, backend, "passed", "", trials)
    worst = max(failing, key=_rank)
    cases = len({row.case for row in failing})
    apart = abs(worst.got - worst.expected) / abs(worst.expected) if worst.expected else float("nan")
    size = f", off by {apart:.2g} of the value" if np.isfinite(apart) and worst.verdict == "mismatch" else ""
    culprit = f"; wrong is {worst.culprit}" if worst.culprit else ""
    message = f"{worst.verdict} in {cases} of {trials} trials{size}: {worst.message}{culprit} (trial {worst.case})"
    return CheckResult(check, dtype, backend, "failed", message, trials, case=worst.case)


def _rank(row: Comparison) -> tuple[bool, bool, bool, float]:
    """Return a key by which the row that tells most comes last: of the node itself before the graph's, of the largest error.

    That the noise is unknown follows from what is wrong elsewhere, where anything is.
    """
    return row.verdict != "noise-unknown", row.node != "network", row.layer != "input", float(np.nan_to_num(row.error_in_bounds))


def _weigh_power(
    rows: Sequence[Comparison], rows_of_all: Sequence[Comparison], dtype: str, backend: str, trials: int
) -> CheckResult:
    """Return whether every quantity had a trial in which an error of 1 % would have been seen."""
    shown = {row.quantity for row in rows if row.verdict != "powerless"}
    blunt = sorted({row.quantity for row in rows} - shown)
    if not blunt:
        return CheckResult("power", dtype, backend, "passed", "", trials)
    unstable = find_unstable(rows_of_all)
    why = [unstable[dtype, name] for name in blunt if (dtype, name) in unstable]
    advice = f"{why[0]}" if why else "give inputs at which it is not lost in rounding, or 0"
    message = f"no trial could have shown an error of 1 % in {', '.join(blunt)}: {advice}"
    return CheckResult("power", dtype, backend, "failed", message, trials)


def is_cast(row: Comparison) -> bool:
    """Whether a result, and no cotangent on its way, came back in the other of float64 and float32 than went in."""
    other = {"float32": "float64", "float64": "float32"}.get(row.dtype, "none")
    return row.verdict == "dtype" and f"the dtype is {other}" in row.message and row.quantity != "dy"


def expect(results: Sequence[CheckResult], expected: Mapping[str, str]) -> list[CheckResult]:
    """Return the results with expected failures as such; a check that was to fail and fails nowhere is a failure."""
    failing = {result.check for result in results if result.fails}
    return [_expect_one(result, expected, failing) for result in results]


def _expect_one(result: CheckResult, expected: Mapping[str, str], failing: set[str]) -> CheckResult:
    if result.check not in expected or result.state == "skipped":
        return result
    reason = expected[result.check]
    if result.fails:
        return replace(result, state="expected", message=f"expected ({reason}): {result.message}")
    if result.check in failing:
        return result
    return replace(
        result, state="unexpected pass", message=f"it was expected to fail ({reason}), and does not: take it from the list"
    )
