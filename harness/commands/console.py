"""Console: text and the rows of the judge come in, what a person reads on the terminal goes out."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

CONFORMS, MISMATCH, USAGE, HARNESS_FAILED, NOTHING_RAN = 0, 1, 2, 3, 4
WIDE = 160
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")]


def say(text: str, error: bool = False) -> None:
    """Print a line with rich's markup in it, to standard error on request."""
    from rich.console import Console

    Console(stderr=error, highlight=False, soft_wrap=True).print(text)


def escape(text: str) -> str:
    """Return the text so that rich prints it as it is."""
    from rich import markup

    return markup.escape(text)


def print_rows(case: str, rows: list[Any]) -> None:
    """Print the judge's rows of one case as a table, and below it what they say."""
    from rich.console import Console
    from rich.table import Column, Table

    names = ("backend", "node", "quantity", "check", "verdict", "error / bound", "ulps", "power", "compared")
    table = Table(*[Column(name, overflow="fold") for name in names], title=case)
    for row in rows:
        colour = "red" if row.fails else "green" if row.verdict == "ok" else "yellow"
        numbers = (f"{row.error_in_bounds:.3g}", f"{row.ulps:.3g}", f"{row.power:.2g}", str(row.n_compared))
        table.add_row(row.backend, row.node, row.quantity, row.check, f"[{colour}]{row.verdict}[/]", *numbers)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    console.print(table)
    for row in rows:
        if row.message:
            console.print(f"{row.backend} {row.node}.{row.quantity}: {row.message}", markup=False)
