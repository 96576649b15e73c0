"""Conventions: a run comes in, what each framework returns at every kink goes out as lines of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.reporters import words
from harness.reporters.optional import find_table
from harness.reporters.summaries import order_dtypes

if TYPE_CHECKING:
    import pandas as pd

    from harness.table import Run

Tone = Literal["ok", "bad", "skip"]
ABSENT = {"unsupported": "–", "unavailable": "not installed", "error": "fails"}
LAYERS = "numpy"
TITLES = {LAYERS: "layer"}


@dataclass(frozen=True)
class Answer:
    """What one function returns at a kink: the gradient in words, the function where that is worth saying, and its tone."""

    text: str
    function: str
    tone: Tone


@dataclass(frozen=True)
class Kink:
    """A line of the table: the interval of right gradients, the answers by framework, and what else must be known."""

    operation: str
    place: str
    interval: str
    answers: tuple[tuple[Answer, ...], ...]
    agrees: str
    note: str


@dataclass(frozen=True)
class Atlas:
    """The kinks of a run with the frameworks that were asked, how often these part, and what is not right."""

    frameworks: tuple[str, ...]
    versions: tuple[str, ...]
    kinks: tuple[Kink, ...]
    parted: int
    outside: int
    missing: tuple[str, ...]


def find_atlas(run: Run) -> Atlas | None:
    """Return the conventions that the run recorded, those of its widest dtype first; None where it recorded none."""
    table = find_table(run, "conventions")
    if table.empty:
        return None
    widest = table[table["dtype"] == order_dtypes(table["dtype"].unique())[0]]
    names = tuple(dict.fromkeys(widest["framework"]))
    lines = [_kink(rows, names) for _, rows in widest.groupby(["operation", "place"], sort=False)]
    gone = widest[widest["status"] == "unavailable"]
    return Atlas(
        frameworks=tuple(TITLES.get(name, name) for name in names),
        versions=tuple("" if name == LAYERS else _first(widest, name) for name in names),
        kinks=tuple(lines),
        parted=sum(line.agrees == "differ" for line in lines),
        outside=int((widest["inside"] == "False").sum()),
        missing=tuple(dict.fromkeys(gone["note"])),
    )


def show_gradient(gradient: float) -> str:
    """Return a gradient in words; one that is no number is named.

    >>> show_gradient(0.5), show_gradient(math.nan), show_gradient(-math.inf)
    ('0.5', 'NaN', '−∞')
    """
    if math.isnan(gradient):
        return "NaN"
    return words.measure(gradient) if math.isfinite(gradient) else "∞" if gradient > 0 else "−∞"


def show_interval(low: float, high: float) -> str:
    """Return an interval in words.

    >>> show_interval(0.0, 1.0), show_interval(1.0, 1.0), show_interval(math.nan, math.nan)
    ('0 to 1', '1', 'none')
    """
    if math.isnan(low):
        return "none"
    return show_gradient(low) if low == high else f"{show_gradient(low)} to {show_gradient(high)}"


def _first(table: pd.DataFrame, framework: str) -> str:
    return str(table.loc[table["framework"] == framework, "version"].iloc[0])


def _kink(rows: pd.DataFrame, names: Iterable[str]) -> Kink:
    first = rows.iloc[0]
    answers = tuple(_answers(rows[rows["framework"] == name]) for name in names)
    agrees = {"True": "agree", "False": "differ"}.get(first["agrees"], "")
    interval = show_interval(first["low"], first["high"])
    return Kink(first["operation"], first["place"], interval, answers, agrees, "; ".join(_notes(rows)))


def _notes(rows: pd.DataFrame) -> list[str]:
    """Return what is noted of functions that ran or failed; that a framework has none is said by its cell."""
    said = rows[rows["status"].isin(["ok", "error"]) & rows["note"].ne("")]
    functions = said.groupby("note", sort=False)["function"].agg(", ".join)
    return [f"{function}: {note}" for note, function in functions.items()]


def _answers(rows: pd.DataFrame) -> tuple[Answer, ...]:
    """Return a framework's answers, alike ones as one, each with its functions where they are not all alike."""
    answers: dict[tuple[str, Tone], list[str]] = {}
    for row in rows.to_dict("records"):
        answers.setdefault(_said(row), []).append(str(row["function"]))
    several = len(answers) > 1
    return tuple(Answer(text, _brief(names) if several else "", tone) for (text, tone), names in answers.items())


def _brief(functions: Iterable[str]) -> str:
    """Return dotted names without what all of a framework's share."""
    return ", ".join(name if " " in name else name.rpartition(".")[2] for name in functions)


def _said(row: dict[Any, Any]) -> tuple[str, Tone]:
    if row["status"] != "ok":
        return ABSENT.get(str(row["status"]), str(row["status"])), "skip"
    return show_gradient(row["gradient"]), "bad" if row["inside"] == "False" else "ok"
