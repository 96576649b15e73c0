"""The command line: words come in, the pipeline runs, tables and pages and an exit code go out.

Exit codes: 0 conforms, 1 mismatch, 2 usage, 3 the harness itself failed, 4 nothing ran or a required framework is
missing, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Toml

CONFORMS, USAGE, HARNESS_FAILED, NOTHING_RAN = 0, 2, 3, 4
WIDE = 160

app = App(
    name="harness",
    help="Judge hand-written backward passes against what rounding can do, side by side with automatic differentiation. "
    "Exit codes: 0 conforms, 1 mismatch, 2 usage, 3 the harness itself failed, 4 nothing ran or a required framework is missing.",
    config=Toml("pyproject.toml", root_keys=["tool", "backprop-harness"], search_parents=True, must_exist=False),
    version=lambda: __import__("harness").__version__,
)


@app.command
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
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
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
        _say(f"[yellow]{name} is not installed and was not run:[/] {_escape(message)}", error=True)
    if lost := runner.require(plan):
        _say(f"[red]{_escape(lost)}[/]", error=True)
        return NOTHING_RAN
    open_folder(out)
    info = _execute(plan, quiet)
    if chosen:
        _write(out, chosen, quiet)
    _conclude(info)
    _tell_github(out)
    return int(info["exit_code"])


@app.command
def replay(case: str, *, run: Path = Path("reports/latest"), backends: str = "all", shrink: bool = False) -> int:
    """Run one case again, of a network or of a layer that `check_layer` judged: its id, a file of its JSON, or the JSON itself.

    Parameters
    ----------
    case
        An id (found in the run folder, or made again from its seed), a file, or JSON. The case of a layer imports it.
    run
        The run folder in which to look an id up.
    backends
        Backends or frameworks, comma-separated.
    shrink
        Look for the smallest network that fails in the same way, and print its JSON (needs Hypothesis; networks only).
    """
    from harness import runner
    from harness.custom.layer_case import is_case

    names = runner.choose_backends(backends)
    missing = runner.find_missing(names)
    text = _read_text(case)
    if is_case(text):
        return _replay_layer(case, text, [name for name in names if name not in missing])
    found = _find_case(text, run)
    rows = runner.replay_case(found, [name for name in names if name not in missing])
    _print_rows(found.id, rows)
    if shrink and any(row.fails for row in rows):
        _shrink(found, names=list(dict.fromkeys(row.backend for row in rows if row.fails)))
    return 1 if any(row.fails for row in rows) else CONFORMS if any(row.n_compared for row in rows) else NOTHING_RAN


@app.command
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
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
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
        _say(f"[red]{_escape(lost)}[/]", error=True)
        return NOTHING_RAN
    failing = [report.layer for report in reports if not report.passed]
    if not failing:
        _say(f"[bold green]conforms[/]: {len(reports)} layer{'s' if len(reports) != 1 else ''}")
        return CONFORMS
    _say(f"[bold red]does not conform[/]: {len(failing)} of {len(reports)} layers: {_escape(', '.join(failing))}")
    return 1


@app.command
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

    _write(run, choose("reporter", reporters, find_reporters()), quiet=False, out=out)
    return CONFORMS


@app.command
def train(
    *,
    seed: int = 0,
    steps: int = 600,
    dtype: Literal["float32", "float64"] = "float32",
    out: Path = Path("reports/latest"),
    least: float = 0.92,
) -> int:
    """Train one network on handwritten digits in NumPy, torch and JAX from the same weights, and compare the trajectories.

    Parameters
    ----------
    seed
        The seed of the weights and batches.
    steps
        Steps of gradient descent.
    dtype
        The precision of the training.
    out
        The folder that gets `training.csv`, a run folder or a new one.
    least
        The test accuracy that each framework must reach.
    """
    from harness.training import train as run_training

    training = run_training(seed=seed, steps=steps, dtype=dtype)
    out.mkdir(parents=True, exist_ok=True)
    training.frame().to_csv(out / "training.csv", index=False)
    for name, accuracy in training.accuracies.items():
        apart = "" if name == "numpy" else f", within what rounding explains: {'yes' if training.within[name] else 'NO'}"
        _say(f"{name}: test accuracy {accuracy:.1%}{apart}")
    for name in training.missing:
        _say(f"[yellow]{name} is not installed and was not trained[/]", error=True)
    good = all(accuracy >= least for accuracy in training.accuracies.values()) and all(training.within.values())
    return CONFORMS if good else 1


@app.command
def selftest(
    *,
    networks: int = 100,
    mutated: int = 20,
    seed: int = 0,
    dtypes: str = "all",
    backends: str = "numpy,torch,jax",
    against: str = "none",
    layers: str = "all",
    out: Path = Path("reports/latest"),
    jobs: int = -1,
    part: str = "1/1",
    timeout: float = 600.0,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Would this test have found a fault? Plant faults and count what is found, and judge right networks and count false alarms.

    Exit code 0 only with no false alarm and every threshold met.

    Parameters
    ----------
    networks
        How many right networks, each in every dtype; JAX runs every tenth.
    mutated
        In how many networks a dtype every fault that fits is planted.
    seed
        The seed of the networks and of where faults are planted.
    dtypes
        float64, float32, bfloat16, float16, or all.
    backends
        Backends or frameworks that judge the right networks.
    against
        Tools to give the same faults to: gradcheck, check_grads, autograd, allclose, assert_close, all or none.
    layers
        Layers of the networks: name your own to ask whether a fault in it would be found.
    out
        The folder that gets `selftest.csv` and its likes, a run folder or a new one.
    jobs
        Worker processes of one core each; -1 is one for each core, 0 runs in this process.
    part
        Which part of how many to run, such as 3/10; parts in one folder are added up.
    timeout
        Seconds after which a network counts as hanging.
    quiet
        Print the verdict alone.
    """
    from harness.selftest import plan as selftests

    settings = selftests.Settings(networks, mutated, seed, dtypes, backends, against, layers, out, jobs, part, timeout)
    plan = selftests.make_plan(settings)
    if lost := selftests.find_lost(plan):
        _say(f"[red]{_escape(lost)}[/]", error=True)
        return NOTHING_RAN
    for name, message in plan.missing.items():
        _say(f"[yellow]{name} is not installed and was not run:[/] {_escape(message)}", error=True)
    from harness.selftest.screen import run_on_screen

    return run_on_screen(plan, quiet)


@app.command(name="list")
def list_(kind: Literal["layers", "backends", "hazards", "reporters"]) -> int:
    """List what discovery finds.

    Parameters
    ----------
    kind
        layers, backends, hazards or reporters.
    """
    from harness import cases, discovery

    if kind == "layers":
        lines = {name: (found.__doc__ or "").split("\n")[0] for name, found in discovery.find_layers().items()}
    elif kind == "hazards":
        lines = {name: hazard.why for name, hazard in cases.list_hazards(discovery.find_layers()).items()}
    elif kind == "reporters":
        lines = {name: reporter.summary for name, reporter in discovery.find_reporters().items()}
    else:
        lines = {name: _describe(backend) for name, backend in discovery.find_backends().items()}
    for name, text in lines.items():
        _say(f"[bold]{_escape(name)}[/]  {_escape(text)}")
    return CONFORMS


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; a user's mistake is one line, never a traceback."""
    sys.exit(call(arguments))


def call(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except Exception as error:  # reason: whatever is not the user's mistake is the harness's own, told by its code
        return _explain(error)
    return result if isinstance(result, int) else CONFORMS


def _explain(error: Exception) -> int:
    """Return the exit code of an error, with one line for a user's mistake and a traceback for the harness's own."""
    from harness.core import BadInput

    if isinstance(error, BadInput):
        return _complain(str(error), USAGE)
    import traceback

    traceback.print_exc()
    return _complain(f"the harness itself failed: {error}", HARNESS_FAILED)


def _tell_check(report: Any, quiet: bool) -> None:
    """Print what a report says of one layer, and unless that is unwanted what it found besides."""
    if report.passed and quiet:
        return
    _say(_escape(report.describe()))
    for finding in () if quiet else report.findings:
        _say(f"  [yellow]finding[/] {_escape(finding)}")


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


def _write(run: Path, chosen: list[str], quiet: bool, out: Path | None = None) -> None:
    from harness.discovery import find_reporters
    from harness.table import load_run

    reporters = find_reporters()
    loaded = load_run(run)
    for name in chosen:
        for path in reporters[name].write(loaded, out or run):
            if not quiet:
                _say(f"wrote {_escape(str(path))}")


def _conclude(info: dict[str, Any]) -> None:
    for failure in info["failures"][:5]:
        _say(f"[red]{_escape(failure['backend'])} {failure['verdict']}[/] {_escape(failure['message'])}")
        _say(f"  harness replay {_escape(failure['case'])}")
    for stale in info["stale_findings"]:
        _say(f"[red]stale known finding[/] {_escape(stale)}")
    colour = "green" if info["exit_code"] == CONFORMS else "red"
    _say(
        f"[bold {colour}]{info['status']}[/]: {info['cases_done']} cases over {info['graphs']} graphs, "
        f"{sum(info['counts'].values())} comparisons of {info['n_compared']} numbers, {info['failed']} failing; "
        f"outside the hazards {info['ok_share']:.2%} ok, {info['powerless_share']:.2%} powerless; "
        f"largest error of an ok row {info['worst_ok']:.3f} of its bound"
    )


def _shrink(case: Any, names: list[str]) -> None:
    """Print the smallest case found, what it is made of first."""
    from harness.shrink import shrink_case

    small = shrink_case(case, names)
    widths = ", ".join(f"{name} of width {width}" for name, width in small.network.widths.items())
    _say(f"smallest case found: {' -> '.join(node.layer for node in small.network.nodes)}, batch {small.network.batch}, {widths}")
    sys.stdout.write(f"{small.to_json()}\n")


def _read_text(case: str) -> str:
    """Return the text of a file of JSON, anything else as it is."""
    from harness.core import BadInput

    if case.lstrip().startswith("{") or not case.endswith(".json"):
        return case
    try:
        return Path(case).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is no text"
        raise BadInput(f"case {case!r}: {words}; accepted is an id, a file of JSON, or JSON") from None


def _replay_layer(case: str, text: str, names: list[str]) -> int:
    """Run the case of a user's layer again, beside the backends that differentiate its formula, and say what still fails."""
    from harness.custom.replay import replay
    from harness.discovery import find_backends
    from harness.isolation import quiet

    folder = Path() if text == case else Path(case).resolve().parent
    known = [find_backends()[name] for name in names]
    with quiet():
        done = replay(text, folder, [one for one in known if one.variant in ("layer", "formula") and one.default])
    rows = [row for row in done.rows if row.node != "input"]
    if rows:
        _print_rows(f"{done.case.name} {done.case.check} {done.case.dtype}", rows)
    for message in done.failing:
        _say(f"[red]{_escape(done.case.check)} still fails:[/] {_escape(message)}")
    if not done.failing:
        _say(f"[green]{_escape(done.case.check)} of {_escape(done.case.name)} is right in this case[/]")
    return 1 if done.failing else CONFORMS


def _tell_github(run: Path) -> None:
    from harness.reporters.github import is_in_actions, tell_run

    if is_in_actions():
        from harness.table import load_run

        tell_run(load_run(run))


def _find_case(case: str, run: Path) -> Any:
    """Return the case of an id or JSON."""
    import json

    from harness.cases import find_case
    from harness.core import USUAL_DTYPES, case_from_json
    from harness.discovery import find_layers

    if case.lstrip().startswith("{"):
        return case_from_json(case)
    log = run / "cases.jsonl"
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        if f'"{case}"' in line and (record := json.loads(line))["id"] == case:
            return case_from_json(json.dumps(record["case"]))
    return find_case(case, find_layers(), USUAL_DTYPES)


def _print_rows(case: str, rows: list[Any]) -> None:
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


def _describe(backend: Any) -> str:
    try:
        state = backend.version()
    except ImportError as error:
        state = f"not installed ({error})"
    kind = "judged" if backend.decides else "a witness, decides nothing"
    asked = "default" if backend.default else "only by its own name"
    return f"{state}; {backend.variant}; {kind}; {asked}; threads: {backend.threads}"


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"harness: {message}\n")
    return code


def _say(text: str, error: bool = False) -> None:
    from rich.console import Console

    Console(stderr=error, highlight=False, soft_wrap=True).print(text)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
