"""CSV: a run comes in, its tables go out as files that a spreadsheet or pandas reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reporters.optional import list_held

if TYPE_CHECKING:
    from harness.table import Run

TABLES = ("comparisons", "discrepancies", "timings")


@dataclass(frozen=True)
class CsvReporter:
    """Writes `comparisons.csv`, `discrepancies.csv` and `timings.csv`, as `harness.table` writes them during a run.

    What only some runs hold (conventions, the kill score) is written where it is not there yet.
    """

    name: str = "csv"
    summary: str = "comparisons.csv, discrepancies.csv and timings.csv, safe to open in a spreadsheet"

    def write(self, run: Run, folder: Path) -> list[Path]:
        from harness.table import guard_frame

        held = [name for name in list_held(run) if not (folder / f"{name}.csv").exists()]
        paths = [folder / f"{table}.csv" for table in (*TABLES, *held)]
        for path in paths:
            guarded = guard_frame(getattr(run, path.stem))
            guarded.to_csv(path, index=False, na_rep="nan", lineterminator="\r\n", encoding="utf-8")
        return paths


REPORTER = CsvReporter()
