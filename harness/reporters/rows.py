"""Rows: tidied comparisons come in, the failing and the worst of them go out as tables that a reader searches and sorts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.reporters import summaries, words

if TYPE_CHECKING:
    import pandas as pd

MOST_FAILING = 2000
MOST_WORST = 200
PREVIEW = 10
LONGEST_MESSAGE = 120
TEXT = ("case", "verdict", "culprit", "layer", "node", "quantity", "who", "dtype", "hazards", "worst_index")


@dataclass(frozen=True, eq=False)
class RowTable:
    """A table for readers with and without scripts.

    `rows` of `total` are shown; `preview` holds the first of them as text, `arguments` all of them as itables wants them.
    """

    name: str
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: int
    total: int
    preview: tuple[tuple[str, ...], ...]
    arguments: Mapping[str, Any]


def table_failing(frame: pd.DataFrame) -> RowTable:
    """Return the rows that turn the run red, from the worst."""
    failing = summaries.failing_rows(frame)
    return _table("failing", "Failures", "Comparisons that fail, from the worst", failing.head(MOST_FAILING), len(failing))


def table_worst(frame: pd.DataFrame) -> RowTable:
    """Return the deciding rows with the largest errors in units of their bounds."""
    total = len(summaries.measured_rows(frame))
    caption = "Deciding comparisons with the largest errors in units of their bounds"
    return _table("worst", "Worst rows", caption, summaries.worst_rows(frame, MOST_WORST), total)


def _table(name: str, title: str, caption: str, rows: pd.DataFrame, total: int) -> RowTable:
    shown = _readable(rows)
    return RowTable(
        name=name,
        title=title,
        caption=f"{caption}: showing {words.count(len(shown))} of {words.count(total)}.",
        columns=tuple(map(str, shown.columns)),
        rows=len(shown),
        total=total,
        preview=tuple(tuple(map(_cell, row)) for row in shown.head(PREVIEW).itertuples(index=False)),
        arguments=_itables_arguments(shown) if len(shown) else {},
    )


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the columns that a reader looks at; text stays text, numbers stay numbers for sorting."""
    import pandas as pd

    text = rows.astype(dict.fromkeys(TEXT, "str"))
    wrong = zip(rows["n_wrong"], rows["n_compared"], strict=True)
    return pd.DataFrame(
        {
            "case": text["case"],
            "verdict": text["verdict"],
            **({"who is wrong": text["culprit"]} if text["culprit"].ne("").any() else {}),
            "in bounds": _numbers(rows["error_in_bounds"]),
            "backend": text["who"],
            "dtype": text["dtype"],
            "layer": text["layer"],
            "quantity": text["node"] + "." + text["quantity"],
            "got": [f"{value:.9g}" for value in _numbers(rows["got"])],
            "expected": [f"{value:.9g}" for value in _numbers(rows["expected"])],
            "at": text["worst_index"],
            "wrong": [f"{words.count(one)} of {words.count(compared)}" for one, compared in wrong],
            "ulps": _numbers(rows["ulps"]),
            "to norm": _numbers(rows["relative_to_norm"]),
            "hazards": text["hazards"],
            "message": [words.clip(message, LONGEST_MESSAGE) for message in rows["message"]],
        }
    )


def _numbers(column: pd.Series[Any]) -> pd.Series[float]:
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").astype(float)


def _cell(value: Any) -> str:
    return words.measure(value) if isinstance(value, float) else str(value)


def _itables_arguments(rows: pd.DataFrame) -> dict[str, Any]:
    """Return what the script of itables needs to show the rows; itables escapes their text."""
    import pandas as pd
    from itables.javascript import get_itable_arguments

    with pd.option_context("display.float_format", words.measure):
        arguments = get_itable_arguments(rows, app_mode=True, showIndex=False, maxBytes=0, pageLength=PREVIEW)
    return {**arguments, "classes": ["display", "compact", "nowrap"], "style": {"width": "100%"}}
