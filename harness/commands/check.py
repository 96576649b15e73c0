"""`harness check`: the names of hand-written layers come in, what is found about each and an exit code go out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.commands.console import CONFORMS, MISMATCH, NOTHING_RAN, Quiet, escape, say


def check(
    *targets: str,
    formula: str = "",
    inputs: str = "",
    dtypes: str = "float64,float32",
    against: str = "all",
    checks: str = "all",
    seed: int = 0,
    cases: int = 7,
    isolate: bool = False,
    timeout: float = 30.0,
    memory: float = 2048.0,
    require: str = "",
    out: Path | None = None,
    shrink: bool = True,
    quiet: Quiet = False,
) -> int:
    """Check hand-written layers: every LayerSpec of a module or file, or one by its name.

    Parameters
    ----------
    targets
        package.module, path/to/file.py, or either with :name of a LayerSpec, a list of them, or a layer class or factory.
    formula
        For a class or factory: the name of its formula in the same module, or another target; none is needed.
    inputs
        For a class or factory: the shapes of its inputs, such as 8x5,8x3.
    dtypes
        float64, float32, bfloat16, float16, comma-separated, or all.
    against
        Frameworks that differentiate the formula beside the layer: all are torch and jax, as far as installed; or none.
    checks
        Checks to run, comma-separated, or all.
    seed
        The seed of the trials.
    cases
        How many trials in each dtype.
    isolate
        Run each layer in a guarded process: what hangs, dies or takes too much memory fails one trial alone.
    timeout
        Seconds for each trial or contract, with `--isolate`.
    memory
        MiB that a layer may take, with `--isolate`, on Linux; 0 is no limit.
    require
        Frameworks that must be there: exit 4 when one is missing.
    out
        A file for the judge's rows: .csv or .json.
    shrink
        Look for the smallest case of what fails, and keep it in `.harness` for `harness replay`.
    quiet
        Print the failures alone.
    """
    from harness.custom import command

    asked = command.Asked(
        targets, formula, inputs, dtypes, against, checks, seed, cases, isolate, timeout, memory, require, out, shrink
    )
    reports, lost = command.check_targets(asked, lambda report: _tell_check(report, quiet))
    if lost:
        say(f"[red]{escape(lost)}[/]", error=True)
        return NOTHING_RAN
    failing = [report.layer for report in reports if not report.passed]
    if not failing:
        say(f"[bold green]conforms[/]: {len(reports)} layer{'s' if len(reports) != 1 else ''}")
        return CONFORMS
    say(f"[bold red]does not conform[/]: {len(failing)} of {len(reports)} layers: {escape(', '.join(failing))}")
    return MISMATCH


def _tell_check(report: Any, quiet: bool) -> None:
    """Print what a report says of one layer, and unless that is unwanted what it found besides."""
    if report.passed and quiet:
        return
    say(escape(report.describe()))
    for finding in () if quiet else report.findings:
        say(f"  [yellow]finding[/] {escape(finding)}")
