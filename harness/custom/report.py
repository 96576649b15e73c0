"""Reports of one layer: what every check found comes in, a report that can be read, printed and raised goes out."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.core import FINDINGS, Comparison

if TYPE_CHECKING:
    import pandas as pd

State = Literal["passed", "failed", "expected", "unexpected pass", "skipped"]
MOST_TOLD, WIDEST = 8, 600


@dataclass(frozen=True)
class CheckResult:
    """What one check found in one dtype and of whom, its state, and what is wrong or why it was skipped.

    `diagnosis` says for a wrong gradient which known fault explains it, or that none does; `causes` names what was found, in
    the words of `harness.custom.faults.CAUSES`; `case` is the id of the trial that shows the failure best, empty where no
    single one does.
    """

    check: str
    dtype: str
    backend: str
    state: State
    message: str = ""
    trials: int = 0
    diagnosis: str = ""
    causes: tuple[str, ...] = ()
    case: str = ""

    @property
    def fails(self) -> bool:
        """Whether the layer does not conform for this."""
        return self.state in ("failed", "unexpected pass")

    @property
    def is_noted(self) -> bool:
        """Whether it passed, and there is something worth knowing."""
        return self.state == "passed" and bool(self.message)


@dataclass(frozen=True, eq=False)
class CheckReport:
    """Everything that was found about one layer.

    `results` holds one entry for each check, dtype and backend; `comparisons` the rows of the judge behind them;
    `reference` says, where no formula was given, what the gradients were held against, and how small a fault that shows;
    `remarks` what else is worth knowing of the layer.
    """

    layer: str
    results: tuple[CheckResult, ...]
    comparisons: tuple[Comparison, ...]
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    reference: str = ""

    @property
    def passed(self) -> bool:
        """Whether the layer conforms: something was checked, and nothing failed."""
        checked = bool(self.comparisons) or any(result.state in ("passed", "expected") for result in self.results)
        return checked and not self.failures

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The results that fail, in the order in which the checks ran."""
        return tuple(result for result in self.results if result.fails)

    @property
    def findings(self) -> tuple[str, ...]:
        """What is no failure and worth knowing: a convention at a kink, sums kept in a narrow dtype, a constant's rounding."""
        told = {
            (row.backend, row.dtype, row.quantity, row.verdict): row.message
            for row in self.comparisons
            if row.verdict in FINDINGS
        }
        rows = (f"{backend}, {dtype}, {name}: {verdict}: {text}" for (backend, dtype, name, verdict), text in told.items())
        notes = (f"{one.backend}, {one.dtype}, {one.check}: {one.message}" for one in self.results if one.is_noted)
        return (*rows, *notes, *self.remarks)

    def to_frame(self) -> pd.DataFrame:
        """Return the judge's rows as a table; `harness.table.COLUMNS` says what its columns hold."""
        from dataclasses import asdict

        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.comparisons])

    def describe(self) -> str:
        """Return in less than 20 lines whether the layer conforms and, where it does not, what is wrong."""
        ran = [result for result in self.results if result.state != "skipped"]
        if self.passed:
            numbers = sum(row.n_compared for row in self.comparisons)
            skipped = len(self.results) - len(ran)
            words = [f"{self.layer} conforms: {len(ran)} checks, {numbers} numbers compared"]
            words += [f"{skipped} not applicable"] if skipped else []
            words += [f"{len(self.findings)} findings (report.findings)"] if self.findings else []
            return "\n".join([", ".join(words), *self._tell_reference()])
        if not self.failures:
            return f"{self.layer}: nothing was checked, {len(self.results)} not applicable"
        lines = [f"{self.layer} does not conform: {len(self.failures)} of {len(ran)} checks fail"]
        told = _tell_once(self.failures)
        lines += [f"  {line}" for line in told[:MOST_TOLD]]
        if len(told) > MOST_TOLD:
            lines.append("  and more: see report.failures")
        return "\n".join([*lines, *self._tell_reference()])

    def _tell_reference(self) -> list[str]:
        return [f"reference: {self.reference}"] if self.reference else []

    def __repr__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        """Return the report as a notebook shows it: every text in it is escaped."""
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(text)}</td>" for text in (r.check, r.backend, r.dtype, r.state, r.message))
            + "</tr>"
            for r in self.results
        )
        head = "".join(f"<th>{name}</th>" for name in ("check", "backend", "dtype", "state", "what was found"))
        told = "".join(f"<p>{html.escape(line)}</p>" for line in self._tell_reference())
        return f"<p><b>{html.escape(self.describe().splitlines()[0])}</b></p>{told}<table><tr>{head}</tr>{rows}</table>"


class ConformanceError(AssertionError):
    """A layer does not conform; `report` holds everything that was found."""

    def __init__(self, report: CheckReport) -> None:
        super().__init__(report.describe())
        self.report = report


def _tell_once(failures: Sequence[CheckResult]) -> list[str]:
    """Return one line for each check and backend: with its message in the first dtype in which it fails."""
    first: dict[tuple[str, str], CheckResult] = {}
    dtypes: dict[tuple[str, str], list[str]] = {}
    for result in failures:
        key = (result.check, result.backend)
        first.setdefault(key, result)
        dtypes.setdefault(key, []).append(result.dtype)
    lines = []
    for (check, backend), result in first.items():
        lines.append(f"{check} [{backend}, {', '.join(dtypes[check, backend])}]: {_cut(result.message)}")
        lines += [f"  diagnosis: {result.diagnosis}"] if result.diagnosis else []
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
