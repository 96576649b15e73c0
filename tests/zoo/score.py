"""Scores: a fault and the report on its layer come in; whether it was found, and whether its cause was named, goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.custom.report import CheckReport
from tests.zoo.zoo import Fault

Named = Literal["named", "wrong", "silent"]

# What the judge and the contracts say in so many words needs no diagnosis: the verdict, or the check's name, is the cause.
VERDICTS: Mapping[str, str] = {"shape": "shape", "error": "raises"}
CHECKS: Mapping[str, str] = {"deterministic": "nondeterministic"}


@dataclass(frozen=True)
class Score:
    """What a report on a fault comes to; `expected` says that one of the checks failed that the fault names."""

    fault: str
    found: bool
    expected: bool
    said: frozenset[str]
    named: Named

    @property
    def is_right_to_say(self) -> bool:
        """Whether a cause of the fault was named and no other."""
        return self.named == "named"


def score(fault: Fault, report: CheckReport) -> Score:
    """Return the score; a cause that is not among the fault's makes the whole answer wrong, whatever else is right in it."""
    failing = {result.check for result in report.failures}
    said = find_said(report)
    expected = bool(failing & fault.found_by)
    return Score(fault.name, not report.passed, expected, said, _decide(fault, said, failing))


def find_said(report: CheckReport) -> frozenset[str]:
    """Return the causes that a report names: by its diagnosis, by a verdict, or by a check that says it all."""
    diagnosed = {cause for result in report.failures for cause in getattr(result, "causes", ())}
    verdicts = {VERDICTS[row.verdict] for row in report.comparisons if row.variant == "layer" and row.verdict in VERDICTS}
    checks = {CHECKS[result.check] for result in report.failures if result.check in CHECKS}
    return frozenset(diagnosed | verdicts | checks)


def _decide(fault: Fault, said: frozenset[str], failing: set[str]) -> Named:
    """Return how the answer stands; where gradients are right, the contract that is broken is the answer."""
    if said - fault.causes:
        return "wrong"
    only_contracts = not failing & {"gradients", "forward"} and bool(failing & fault.found_by)
    return "named" if said or only_contracts else "silent"


def share_found(scores: Iterable[Score]) -> float:
    """Return the share of the faults that were found. Raises ZeroDivisionError where there are none."""
    found = [one.found for one in scores]
    return sum(found) / len(found)


def share_named(scores: Iterable[Score], faults: Mapping[str, Fault]) -> float:
    """Return the share of faults whose cause was named, of those that have one. Raises ZeroDivisionError where none has."""
    named = [one.is_right_to_say for one in scores if "none" not in faults[one.fault].causes]
    return sum(named) / len(named)


def share_wrong(scores: Iterable[Score]) -> float:
    """Return the share of the faults for which a wrong cause was named. Raises ZeroDivisionError where there are none."""
    wrong = [one.named == "wrong" for one in scores]
    return sum(wrong) / len(wrong)
