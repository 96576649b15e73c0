"""What only some runs hold: a run comes in, those of its tables go out, empty where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from harness.table import Run

# The columns of each table, those of numbers after the bar; a column that a file lacks reads as unknown.
COLUMNS: Mapping[str, str] = {
    "conventions": "operation place dtype framework function version status note inside agrees | gradient low high",
    "selftest": "method kind family dtype | size networks found missed smallest_99",
    "selftest_alarms": "dtype backend | networks rows false_alarms",
    "selftest_named": "kind dtype | networks excluded_share asked found named found_share named_share",
}


def find_table(run: Run, name: str) -> pd.DataFrame:
    """Return the run's table of this name, one of COLUMNS, with all its columns: text as text, numbers as floats."""
    import pandas as pd

    text, numbers = (columns.split() for columns in COLUMNS[name].split("|"))
    held: Any = getattr(run, name, None)
    frame = (pd.DataFrame() if held is None else held).reindex(columns=[*text, *numbers])
    known = {column: frame[column].astype(object).where(frame[column].notna(), "").astype("str") for column in text}
    return frame.assign(**known, **{column: pd.to_numeric(frame[column], errors="coerce").astype(float) for column in numbers})


def list_held(run: Run) -> list[str]:
    """Return which of the tables the run holds."""
    return [name for name in COLUMNS if len(find_table(run, name))]
