"""The kill score: a run comes in, which planted faults were found, how small, and how often right layers were accused go out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.reporters import words
from harness.reporters.optional import find_table
from harness.reporters.summaries import list_records, order_dtypes

if TYPE_CHECKING:
    import pandas as pd

    from harness.table import Run

JUDGE = "verdict"
HEADLINE = "dW scaled by 1 + e"
USUAL_SIZE = 0.01


@dataclass(frozen=True, eq=False)
class KillScore:
    """What a self-test showed.

    `found` has a row for each kind, method and dtype with the share found (of a graded fault at the size nearest to
    1 %), `smallest` for each graded one with the smallest size found in 99 % of the networks, `alarms` for each dtype
    and accuser, `named` for each known mistake of one layer. `judge` and `headline` are the method and the kind of
    fault that the tables show, `dtypes` their columns.
    """

    found: pd.DataFrame
    smallest: pd.DataFrame
    alarms: pd.DataFrame
    named: pd.DataFrame
    judge: str
    headline: str
    dtypes: tuple[str, ...]

    @property
    def false_alarms(self) -> int:
        """How many rows of this project's accused a correct layer; what other tools did is not among them."""
        return int(self.alarms.loc[~self._of("rival:"), "false_alarms"].sum())

    @property
    def judged(self) -> int:
        """How many comparisons of correct layers those are among; what the checks say one by one is counted once."""
        return int(self.alarms.loc[~(self._of("rival:") | self._of("check:")), "rows"].sum())

    @property
    def rivals(self) -> tuple[int, int]:
        """How many correct networks other tools accused, and how many they were asked about."""
        theirs = self.alarms[self._of("rival:")]
        return int(theirs["false_alarms"].sum()), int(theirs["rows"].sum())

    def _of(self, prefix: str) -> pd.Series[bool]:
        return self.alarms["backend"].str.startswith(prefix)

    @property
    def by_kind(self) -> list[dict[str, Any]]:
        """For each kind its size in words and, by dtype, what the judge found in how many networks."""
        own = self.found[self.found["method"] == self.judge]
        return [
            {"kind": kind, "family": rows["family"].iloc[0], "size": show_size(rows["size"].iloc[0]), "cells": self._cells(rows)}
            for kind, rows in own.groupby("kind", sort=False)
        ]

    @property
    def by_method(self) -> list[dict[str, Any]]:
        """For each method the smallest size of the headline's fault that it finds, by dtype in words."""
        rows = self.smallest[self.smallest["kind"] == self.headline]
        return [
            {"method": method, "cells": [_show_smallest(own, dtype) for dtype in self.dtypes]}
            for method, own in rows.groupby("method", sort=False)
        ]

    def _cells(self, rows: pd.DataFrame) -> list[dict[str, Any] | None]:
        known = {str(row["dtype"]): row for row in list_records(rows)}
        return [known.get(dtype) for dtype in self.dtypes]


def find_kill_score(run: Run) -> KillScore | None:
    """Return the kill score of a run that holds one, or None."""
    table, alarms = (_count(find_table(run, name)) for name in ("selftest", "selftest_alarms"))
    if table.empty and alarms.empty:
        return None
    dtypes = order_dtypes([*table["dtype"].unique(), *alarms["dtype"].unique()])
    methods = list(dict.fromkeys(table["method"]))
    graded = table[table["smallest_99"].notna()].drop_duplicates(["method", "kind", "dtype"])
    kinds = list(dict.fromkeys(graded["kind"]))
    return KillScore(
        found=_pick_size(table),
        smallest=graded[["method", "kind", "dtype", "networks", "smallest_99"]],
        named=_count(find_table(run, "selftest_named")),
        alarms=alarms.sort_values("dtype", key=lambda names: names.map(dtypes.index), kind="stable"),
        judge=JUDGE if JUDGE in methods or not methods else methods[0],
        headline=HEADLINE if HEADLINE in kinds or not kinds else kinds[0],
        dtypes=tuple(dtypes),
    )


def show_size(size: float) -> str:
    """Return the size of a fault in words; a gross one has none.

    >>> show_size(0.01), show_size(math.nan)
    ('0.01', 'gross')
    """
    return "gross" if math.isnan(size) else words.measure(size)


def show_smallest(size: float) -> str:
    """Return the smallest size found in 99 % of the networks in words.

    >>> show_smallest(5e-14), show_smallest(math.inf), show_smallest(math.nan)
    ('5e-14', 'never', '–')
    """
    return "never" if math.isinf(size) else words.measure(size)


def _count(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with 0 for every count that it lacks."""
    counts = [name for name in ("networks", "found", "missed", "rows", "false_alarms") if name in table]
    return table.fillna(dict.fromkeys(counts, 0))


def _show_smallest(rows: pd.DataFrame, dtype: str) -> str:
    own = rows.loc[rows["dtype"] == dtype, "smallest_99"]
    return show_smallest(float(own.iloc[0])) if len(own) else words.MISSING


def _pick_size(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each kind, method and dtype: of a graded fault the one at the size nearest to 1 %, on a log scale."""
    with np.errstate(divide="ignore"):
        far = (np.log10(table["size"]) - math.log10(USUAL_SIZE)).abs().fillna(0.0)
    nearest = table.assign(far=far).sort_values("far", kind="stable").drop_duplicates(["kind", "method", "dtype"])
    return (
        nearest.sort_index()
        .drop(columns="far")
        .assign(share=lambda rows: rows["found"] / rows["networks"].where(lambda n: n > 0))
    )
