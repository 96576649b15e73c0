"""Reports of one layer: what every check found comes in, a report that can be read, printed and raised goes out."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.core import FINDINGS, Comparison
from harness.custom.example import Example

if TYPE_CHECKING:
    import pandas as pd

State = Literal["passed", "failed", "expected", "unexpected pass", "skipped"]
MOST_LINES, WIDEST = 19, 600
UNTOLD = "noise-unknown"


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
    `remarks` what else is worth knowing of the layer, `said` what it printed and warned of; `examples` the smallest cases found
    of what fails.
    """

    layer: str
    results: tuple[CheckResult, ...]
    comparisons: tuple[Comparison, ...]
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    reference: str = ""
    examples: tuple[Example, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the layer conforms: something was checked, and nothing failed."""
        return any(result.state in ("passed", "expected") for result in self.results) and not self.failures

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
        return (*rows, *notes, *self.remarks, *self.said)

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
        head = f"{self.layer} does not conform: {len(self.failures)} of {len(ran)} checks fail"
        shown, reference = _show_examples(self.examples, {one.check for one in self.failures}), self._tell_reference()
        told = _fit(_tell_once(self.failures), MOST_LINES - 1 - len(shown) - len(reference))
        return "\n".join([head, *(f"  {line}" for line in [*told, *shown]), *reference])

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


def _tell_once(failures: Sequence[CheckResult]) -> list[list[str]]:
    """Return the lines of each check and backend: with its message in the first dtype that tells why."""
    first: dict[tuple[str, str], CheckResult] = {}
    dtypes: dict[tuple[str, str], list[str]] = {}
    for result in failures:
        key = (result.check, result.backend)
        if first.setdefault(key, result).message.startswith(UNTOLD) and not result.message.startswith(UNTOLD):
            first[key] = result  # another dtype says more
        dtypes.setdefault(key, []).append(result.dtype)
    told = []
    for (check, backend), result in first.items():
        what, worst, details = _cut(" ".join(result.message.split())).partition("; worst ")
        lines = [f"{check} [{backend}, {', '.join(dtypes[check, backend])}]: {what}"]
        lines += [f"  {line}" for line in "; ".join([worst[2:] + details]).split("; ", 1)] if worst else []
        told.append([*lines, *([f"  diagnosis: {result.diagnosis}"] if result.diagnosis else [])])
    return told


def _fit(told: Sequence[Sequence[str]], room: int) -> list[str]:
    """Return as many lines as there is room for: all of the first failures, of the others the first line."""
    lines: list[str] = []
    for i, own in enumerate(told):
        left = room - len(lines) - (len(told) - i - 1)
        lines += own if len(own) <= left else [f"{own[0]}{_cut_short(own)}"]
    return lines if len(lines) <= room else [*lines[: room - 1], "and more: see report.failures"]


def _cut_short(lines: Sequence[str]) -> str:
    return f"; {lines[1].strip()}" if len(lines) > 1 else ""


def _show_examples(examples: Sequence[Example], checks: Collection[str]) -> list[str]:
    """Return the lines of the first example of these checks, and of the others how to run them again."""
    own = [one for one in examples if one.check in checks]
    if not own:
        return []
    others = [f"harness replay {one.case_file} ({one.check})" for one in own[1:] if one.case_file]
    return [*map(_cut, own[0].describe()), *([f"  the others: {', '.join(others)}"] if others else [])]


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
