"""The screen of a selftest: a score comes in, tables of what was found and missed go out to a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from harness.core import DTYPES
from harness.selftest.driver import Progress as Done
from harness.selftest.driver import execute
from harness.selftest.plan import Plan, count_steps
from harness.selftest.score import Score
from harness.selftest.tables import CHECKS

WIDE = 200


def run_on_screen(plan: Plan, quiet: bool = False) -> int:
    """Run a plan behind a progress bar, print its score (the verdict alone when `quiet`), and return the exit code."""
    columns = [TextColumn("networks"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[state]}")]
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("networks", total=count_steps(plan), state="")

        def advance(done: Done) -> None:
            state = f"[red]{done.alarms} false alarms[/]" if done.alarms else ""
            bar.update(task, completed=len(done.graphs) + done.tasks, state=state)

        found = execute(plan, advance)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    if quiet:
        console.print(found.status, highlight=False)
    else:
        print_score(found, console)
    return found.code


def print_score(found: Score, console: Console) -> None:
    """Print the kinds by dtype and method, the named defects, the false alarms, and what is not as it must be."""
    for dtype in [name for name in DTYPES if name in set(found.detection["dtype"])]:
        console.print(make_detection_table(found.detection[found.detection["dtype"] == dtype], dtype))
    if len(found.named):
        console.print(make_table("named defects", found.named))
    console.print(make_table("correct networks", found.alarms))
    steady, scanned = found.monotone
    if len(found.detection):
        console.print(
            f"{found.equivalent:.1%} of the mutants are equivalent and were left out; a smaller fault was found where a larger "
            f"one was missed in {scanned - steady} of {scanned} trials of every size"
        )
    if len(found.named) and found.untried:
        console.print(f"never tried, for no network had a layer for it: {', '.join(found.untried)}", highlight=False)
    for line in found.unmet:
        console.print(f"[red]not as it must be:[/] {line}", highlight=False)
    done, parts = found.parts
    colour = "green" if found.code == 0 else "red"
    console.print(f"[bold {colour}]{found.status}[/] ({done} of {parts} parts done)", highlight=False)


def make_detection_table(rows: pd.DataFrame, dtype: str) -> Table:
    """Return the kinds of one dtype: the smallest size found in 99 % of the networks, or the share that is found."""
    methods = _order_methods(list(rows["method"].unique()))
    right = [Column(method, justify="right", overflow="fold") for method in methods]
    table = Table(*[Column("kind", overflow="fold"), Column("networks", justify="right"), *right])
    table.title = f"{dtype}: smallest fault found in 99 % of the networks, or the share of them in which it is found"
    for kind, group in rows.groupby("kind", sort=False):
        cells = [describe_finding(group[group["method"] == method]) for method in methods]
        table.add_row(str(kind), str(group["networks"].max()), *cells)
    return table


def describe_finding(rows: pd.DataFrame) -> str:
    """Return what one method does with one kind in one dtype, in a cell; the networks that it accuses anyway are not its.

    >>> describe_finding(pd.DataFrame())
    '-'
    """
    if not len(rows):
        return "-"
    least, first = float(rows["smallest_99"].iloc[0]), rows.iloc[-1]
    if math.isnan(least):
        return f"{first['found'] / first['networks']:.1%}"
    return f"{least:.0e}" if least < math.inf else "never"


def make_table(title: str, frame: pd.DataFrame) -> Table:
    """Return a frame as a table."""
    table = Table(*[Column(str(name).replace("_", " "), overflow="fold") for name in frame], title=title)
    for row in frame.itertuples(index=False):
        table.add_row(*[_describe(value) for value in row])
    return table


def _describe(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _order_methods(methods: Sequence[str]) -> list[str]:
    """Return the checks in their own order, then the rivals."""
    return [name for name in CHECKS if name in methods] + [name for name in methods if name not in CHECKS]
