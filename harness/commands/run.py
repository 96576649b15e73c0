"""`harness run`: settings come in, random networks are run and judged, a run folder and an exit code go out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.commands.console import CONFORMS, NOTHING_RAN, Quiet, escape, say
from harness.commands.report import write


def run(
    *,
    cases: int = 500,
    seed: int = 0,
    backends: str = "all",
    dtypes: str = "float64,float32",
    layers: str = "all",
    hazards: str = "all",
    require: str = "",
    out: Path = Path("reports/latest"),
    jobs: int = -1,
    draws: int = 20,
    timeout: float = 300.0,
    timings: bool = True,
    reporters: str = "all",
    quiet: Quiet = False,
) -> int:
    """Run random networks on every backend, judge every gradient, and write tables and pages.

    Parameters
    ----------
    cases
        How many cases; cases share networks, see `--draws`.
    seed
        The seed of the plan: the same seed and settings give the same cases.
    backends
        Backends or frameworks, comma-separated (`harness list backends`).
    dtypes
        float64, float32, bfloat16, float16, comma-separated, or all.
    layers
        Layers of the random networks (`harness list layers`).
    hazards
        Hazards to plant (`harness list hazards`), or none.
    require
        Backends or frameworks that must be there: exit 4 when one is missing.
    out
        The run folder; what an earlier run left there is replaced.
    jobs
        Worker processes of one core each; -1 is one for each core, 0 runs in this process.
    draws
        How many cases share a network, which is compiled once.
    timeout
        Seconds after which the cases of one network count as hanging.
    timings
        Time the backends after the cases.
    reporters
        Formats to write (`harness list reporters`), or none.
    quiet
        Print the verdict alone.
    """
    from harness import runner
    from harness.discovery import choose, find_reporters
    from harness.table import open_folder

    settings = runner.Settings(cases, seed, backends, dtypes, layers, hazards, require, out, jobs, draws, timeout, timings)
    plan = runner.make_plan(settings)
    chosen = [] if reporters == "none" else choose("reporter", reporters, find_reporters())
    for name, message in plan.missing.items():
        say(f"[yellow]{name} is not installed and was not run:[/] {escape(message)}", error=True)
    if lost := runner.require(plan):
        say(f"[red]{escape(lost)}[/]", error=True)
        return NOTHING_RAN
    open_folder(out)
    info = _execute(plan, quiet)
    if chosen:
        write(out, chosen, quiet)
    _conclude(info)
    _tell_github(out)
    return int(info["exit_code"])


def _execute(plan: Any, quiet: bool) -> dict[str, Any]:
    """Run the plan behind a progress bar with rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from harness.runner import execute

    rate = TextColumn("{task.fields[rate]}")
    columns = [TextColumn("cases"), BarColumn(), MofNCompleteColumn(), rate, TimeElapsedColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("cases", total=plan.settings.cases, rate="")

        def advance(done: int, tally: Any) -> None:
            bar.advance(task, done)
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            failing = f" [red]{tally.failed} failing rows[/]" if tally.failed else ""
            bar.update(task, rate=(f"{speed:.1f}/s" if speed else "") + failing)

        return execute(plan, advance)


def _conclude(info: dict[str, Any]) -> None:
    for failure in info["failures"][:5]:
        say(f"[red]{escape(failure['backend'])} {failure['verdict']}[/] {escape(failure['message'])}")
        say(f"  harness replay {escape(failure['case'])}")
    for stale in info["stale_findings"]:
        say(f"[red]stale known finding[/] {escape(stale)}")
    colour = "green" if info["exit_code"] == CONFORMS else "red"
    say(
        f"[bold {colour}]{info['status']}[/]: {info['cases_done']} cases over {info['graphs']} graphs, "
        f"{sum(info['counts'].values())} comparisons of {info['n_compared']} numbers, {info['failed']} failing; "
        f"outside the hazards {info['ok_share']:.2%} ok, {info['powerless_share']:.2%} powerless; "
        f"largest error of an ok row {info['worst_ok']:.3f} of its bound"
    )


def _tell_github(run: Path) -> None:
    from harness.reporters.github import is_in_actions, tell_run

    if is_in_actions():
        from harness.table import load_run

        tell_run(load_run(run))
