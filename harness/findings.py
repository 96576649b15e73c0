"""Known findings: a committed list and the rows of a run come in, the rows they excuse and the entries gone stale go out.

A finding is a fault of a framework that was reproduced in a few lines, in which the oracle and an independent
witness agree against the accused. It excuses only the rows it names, and fails the run when it names a case that
ran without it: a list that nobody prunes would hide the next fault.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.core import BadInput, Comparison

FILE = Path(__file__).with_name("known_findings.toml")


@dataclass(frozen=True)
class Finding:
    """One known finding: whom it accuses of what in which cases, why, and the script that shows it."""

    id: str
    reason: str
    reproduction: str
    backend: str
    layer: str
    quantity: str
    verdict: str
    cases: tuple[str, ...]

    def excuses(self, row: Comparison) -> bool:
        """Whether the row is this finding."""
        found = (row.backend, row.layer, row.quantity, row.verdict)
        return found == (self.backend, self.layer, self.quantity, self.verdict) and row.case in self.cases


@dataclass(eq=False)
class Ledger:
    """Counts of which findings were seen and which could have been."""

    findings: Sequence[Finding]
    seen: set[tuple[str, str]] = field(default_factory=set)
    due: set[tuple[str, str]] = field(default_factory=set)

    def excuse(self, rows: Iterable[Comparison]) -> list[Comparison]:
        """Return the rows; those of known findings decide nothing and say so."""
        return [self._excuse(row) for row in rows]

    def _excuse(self, row: Comparison) -> Comparison:
        for finding in self.findings:
            if row.case in finding.cases and row.backend == finding.backend:
                self.due.add((finding.id, row.case))
            if finding.excuses(row):
                self.seen.add((finding.id, row.case))
                return replace(row, decides=False, message=f"known finding {finding.id}: {finding.reason} | {row.message}")
        return row

    @property
    def stale(self) -> list[str]:
        """Findings that a case was named for and did not show."""
        return sorted(f"{finding} in {case}" for finding, case in self.due - self.seen)


def read_findings(path: Path = FILE) -> list[Finding]:
    """Return the findings of a TOML file of `[[finding]]` tables. Raises BadInput on one that lacks or has another field."""
    try:
        records = tomllib.loads(path.read_text(encoding="utf-8")).get("finding", [])
        return [Finding(**{**record, "cases": tuple(record["cases"])}) for record in records]
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        accepted = ", ".join(Finding.__dataclass_fields__)
        text = f"known findings {str(path)!r}: {error}; accepted are [[finding]] tables with the fields {accepted}"
        raise BadInput(text) from None
