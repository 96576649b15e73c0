"""`harness report`: a run folder comes in, its pages and tables go out."""

from __future__ import annotations

from pathlib import Path

from harness.commands.console import CONFORMS, escape, say


def report(run: Path = Path("reports/latest"), *, reporters: str = "all", out: Path | None = None) -> int:
    """Write the pages and tables of a run folder again.

    Parameters
    ----------
    run
        The run folder.
    reporters
        Formats to write, comma-separated (`harness list reporters`).
    out
        Where to write; the run folder by default.
    """
    from harness.discovery import choose, find_reporters

    write(run, choose("reporter", reporters, find_reporters()), quiet=False, out=out)
    return CONFORMS


def write(run: Path, chosen: list[str], quiet: bool, out: Path | None = None) -> None:
    """Write the chosen formats of a run folder, and name every file unless that is unwanted."""
    from harness.discovery import find_reporters
    from harness.table import load_run

    reporters = find_reporters()
    loaded = load_run(run)
    for name in chosen:
        for path in reporters[name].write(loaded, out or run):
            if not quiet:
                say(f"wrote {escape(str(path))}")
