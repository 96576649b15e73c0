"""The zoo: faults planted in right layers come in, what this tool and others find of them and how often they cry wolf goes out.

`python -m benchmarks.zoo` gives every fault of `tests/zoo` to `check_layer` (no framework beside it, float64 and float32) and
to `torch.autograd.gradcheck` (slow and fast), `jax.test_util.check_grads` and `autograd.test_util.check_grads`, each with
its defaults, in float64, on the same seven draws of the same inputs: a fault is found when one draw fails, and the right
layer that it was planted in passes on the same draws, for who accuses everything has found nothing. The right layers go to
all of them as well, under `--seeds` seeds to this tool and under fewer to the others, which are slow; an accusation in any
draw of one seed is one false alarm. What was found is kept as it comes, in `zoo.jsonl`: a run that was stopped goes on with
`--resume`, while the code is the same. Required of this tool: at least 99 % of the faults found, no false alarm, the
cause named for at least 90 % and a wrong one for less than 3 % of the faults that were held out when it was built.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from cyclopts import App
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.zoo_rivals import RIVALS, ask
from harness import check_layer
from harness.core import USUAL_DTYPES
from harness.custom.report import CheckResult
from harness.custom.spec import LayerSpec
from harness.custom.trials import VARIATIONS, draw_trials
from harness.selftest.pool import run_tasks
from tests.zoo.score import score
from tests.zoo.zoo import CAUSES, find_zoo

OURS, FOUND, NAMED, WRONG = "check_layer", 0.99, 0.9, 0.03
TIMEOUT = 600.0
RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]

app = App(name="python -m benchmarks.zoo", help="Count what check_layer and other tools find of the faults of the zoo.")


@dataclass(frozen=True)
class Task:
    """A fault or a right layer by its name, the tools that are asked about it, and the seed of its draws."""

    name: str
    is_fault: bool
    tools: tuple[str, ...]
    seed: int = 0


@app.default
def main(
    *,
    seeds: int = 100,
    rival_seeds: int = 2,
    only: str = "",
    every: int = 1,
    jobs: int = os.cpu_count() or 1,
    resume: bool = False,
    out: Path = RESULTS,
) -> int:
    """Ask all tools, print the tables, write `zoo.csv` and return 1 when a requirement is not met.

    Parameters
    ----------
    seeds
        Under how many seeds the right layers are given to check_layer, in both dtypes.
    rival_seeds
        Under how many of these they are given to the other tools.
    only
        Part of the names of the layers and faults to take; all when empty.
    every
        Take every so many of the faults and of the right layers.
    jobs
        How many processes.
    resume
        Take over what an earlier run of the same code found before it was stopped.
    out
        The folder of the CSV file, and of what was found until then.
    """
    started = time.perf_counter()
    tasks = plan(seeds, rival_seeds, only, every)
    console = Console(width=130)
    if not tasks:
        console.print(f"only: no layer and no fault has {only!r} in its name")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    log = out / "zoo.jsonl"
    if wrong := open_log(log, resume):
        console.print(wrong)
        return 2
    frame = settle(pd.DataFrame(run(tasks, jobs, log)))
    frame.to_csv(out / "zoo.csv", index=False, float_format="%.6g")
    console.print(draw_tools(frame, seeds, rival_seeds, time.perf_counter() - started), draw_causes(frame))
    holds = True
    for text, value, met in weigh(frame):
        console.print(f"{text}: {value}: [bold]{'holds' if met else 'FAILS'}[/]")
        holds &= met
    return 0 if holds else 1


def plan(seeds: int, rival_seeds: int, only: str, every: int) -> list[Task]:
    """Return the tasks: faults on all tools, and their right layers on as many seeds as each tool is given."""
    zoo, tools = find_zoo(), (OURS, *RIVALS)
    faults = [name for name in zoo.faults if only in name][::every]
    right = dict.fromkeys(zoo.faults[name].right.name for name in faults)
    tasks = [Task(name, True, tools) for name in faults]
    return tasks + [Task(name, False, tools if seed < rival_seeds else (OURS,), seed) for seed in range(seeds) for name in right]


def run(tasks: Sequence[Task], jobs: int, log: Path) -> Iterator[Row]:
    """Yield the rows of all tasks as they are done; of a process that hung or died, a row that says so for each tool.

    What the log has of a task is not asked again, and what is new is added to it, but for what was lost.
    """
    known = recall(log)
    yield from (row for task in tasks for row in known.get(task, ()))
    rest = [task for task in tasks if task not in known]
    done = run_tasks(answer, rest, jobs, TIMEOUT)
    with log.open("a", encoding="utf-8") as file:
        for task, rows, lost in track(done, total=len(rest), description="the zoo", console=Console(stderr=True), transient=True):
            if rows is not None:
                file.write(json.dumps([astuple(task), rows]) + "\n")
                file.flush()
            yield from rows or [describe(task) | {"tool": tool, "lost": lost} for tool in task.tools]


def open_log(log: Path, resume: bool) -> str:
    """Make the log ready to be added to, anew unless an earlier run is to go on; return why that cannot be, where it cannot."""
    now = fingerprint()
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
    if resume and lines and lines[0].strip() != now:
        return f"resume: the code has changed since {log} was written; accepted is a log of the same code"
    kept = [line for line in lines[1:] if line.endswith("\n")] if resume else []  # the last one may have been cut off
    fresh = log.with_suffix(".new")
    fresh.write_text("".join([f"{now}\n", *kept]), encoding="utf-8")
    fresh.replace(log)
    return ""


def fingerprint() -> str:
    """Return a hash of all code on which a result depends."""
    folders = (Path(__file__).parents[1] / name for name in ("harness", "reference_layers", "tests/zoo", "benchmarks"))
    found = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def recall(log: Path) -> dict[Task, list[Row]]:
    """Return the rows of each task in a log."""
    _, *lines = log.read_text(encoding="utf-8").splitlines()
    found = ((Task(name, is_fault, tuple(tools), seed), rows) for (name, is_fault, tools, seed), rows in map(json.loads, lines))
    return dict(found)


def answer(task: Task) -> list[Row]:
    """Return a row for each tool that the task asks."""
    return [describe(task) | (ask_us(task) if tool == OURS else ask_rival(task, tool)) for tool in task.tools]


def describe(task: Task) -> Row:
    """Return what the task is, as columns; what a tool says is added to it."""
    zoo = find_zoo()
    right = zoo.faults[task.name].right if task.is_fault else zoo.right[task.name]
    row: Row = {"name": task.name, "right": right.name, "framework": right.framework, "is_fault": task.is_fault}
    row |= {"seed": task.seed, "accused": False, "named": "", "lost": "", "causes": "", "held_out": False}
    if not task.is_fault:
        return row
    fault = zoo.faults[task.name]
    return row | {"causes": " ".join(sorted(fault.causes)), "held_out": fault.held_out}


def settle(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a column `found`: of a fault, whether the tool accuses it and not the right layer beside it.

    >>> rows = [("a", True, True), ("b", True, True), ("a", False, False), ("b", False, True)]
    >>> columns = ["right", "is_fault", "accused"]
    >>> settle(pd.DataFrame(rows, columns=columns).assign(tool="t", seed=0)).found.tolist()
    [True, False, False, False]
    """
    alarms = frame[~frame.is_fault & (frame.seed == 0) & frame.accused]
    crying = set(zip(alarms.tool, alarms.right, strict=True))
    cries = [pair in crying for pair in zip(frame.tool, frame.right, strict=True)]
    return frame.assign(found=frame.is_fault & frame.accused & ~pd.Series(cries, index=frame.index, dtype=bool))


def _find_spec(task: Task) -> LayerSpec:
    zoo = find_zoo()
    return zoo.faults[task.name].spec if task.is_fault else zoo.right[task.name].spec


def ask_us(task: Task) -> Row:
    """Return whether check_layer accuses the layer, and of a fault whether it names the cause."""
    start = time.process_time()
    report = check_layer(_find_spec(task), against=[], dtypes=USUAL_DTYPES, seed=task.seed, on_fail="report")
    row: Row = {"tool": OURS, "accused": not report.passed, "seconds": time.process_time() - start}
    if not task.is_fault:
        return row | {"said": "; ".join(sorted({one.check for one in report.failures}))}
    found = score(find_zoo().faults[task.name], report)
    return row | {"named": found.named, "said": " ".join(sorted(found.said))}


def ask_rival(task: Task, tool: str) -> Row:
    """Return whether a tool accuses the layer in any of the draws that check_layer makes."""
    start = time.process_time()
    trials = draw_trials(_find_spec(task), "float64", len(VARIATIONS), task.seed)
    framework = describe(task)["framework"]
    accused = any(ask(tool, trial, framework) for trial in trials)
    return {"tool": tool, "accused": accused, "seconds": time.process_time() - start}


def draw_tools(frame: pd.DataFrame, seeds: int, rival_seeds: int, seconds: float) -> Table:
    """Return the table of tools: what each found and missed, of the faults in all and by framework, and its false alarms."""
    table = Table(
        title="faults found, and right layers accused",
        caption=f"{seconds:.0f} s; right layers under {seeds} seeds by {OURS}, under {min(seeds, rival_seeds)} by the others",
    )
    frameworks = list(dict.fromkeys(frame.framework))
    for name in ("tool", "found", "missed", *frameworks, "false alarms", "of", "s a fault"):
        table.add_column(name, justify="left" if name == "tool" else "right")
    for tool, group in frame.groupby("tool", sort=False):
        faults, right = group[group.is_fault], group[~group.is_fault]
        parts = [_count(faults[faults.framework == name].found) for name in frameworks]
        missed = int((~faults.found).sum())
        cost = f"{faults.seconds.mean():.2f}" if len(faults) else ""
        table.add_row(str(tool), _share(faults.found), str(missed), *parts, str(right.accused.sum()), str(len(right)), cost)
    return table


def draw_causes(frame: pd.DataFrame) -> Table:
    """Return the table of causes: how many of its faults each tool found, and for how many check_layer named it."""
    tools = list(dict.fromkeys(frame.tool))
    table = Table(
        title="by cause",
        caption=f"a fault with several right causes counts with each; named, wrong, silent: what {OURS} says of the cause",
    )
    for name in ("cause", "faults", *tools, "named", "wrong", "silent"):
        table.add_column(name, justify="left" if name == "cause" else "right")
    faults = frame[frame.is_fault]
    for cause in CAUSES:
        some = faults[[cause in causes.split() for causes in faults.causes]]
        ours = some[some.tool == OURS]
        if len(ours):
            found = [str(some[some.tool == tool].found.sum()) for tool in tools]
            said = [str((ours.named == word).sum()) for word in ("named", "wrong", "silent")]
            table.add_row(cause, str(len(ours)), *found, *said)
    return table


def weigh(frame: pd.DataFrame) -> Iterator[tuple[str, str, bool]]:
    """Yield each requirement in words, what was measured, and whether that is enough; what was not asked is not met."""
    ours = frame[frame.tool == OURS]
    faults, right = ours[ours.is_fault], ours[~ours.is_fault]
    found, alarms = faults.found.mean(), int(right.accused.sum()) + int((right.lost != "").sum())
    yield f"at least {FOUND:.0%} of the faults found", _share(faults.found), bool(found >= FOUND)
    yield "no right layer accused", f"{alarms} of {len(right)} times", not alarms and len(right) > 0
    held = faults[faults.held_out]
    known = held[held.causes != "none"]
    named, wrong = known.named == "named", held.named == "wrong"
    can_name = hasattr(CheckResult, "causes")
    missing = "" if can_name else " (the diagnosis tells no causes yet)"
    yield f"cause named for at least {NAMED:.0%}, held out", _share(named) + missing, bool(named.mean() >= NAMED)
    yield f"wrong cause for less than {WRONG:.0%}, held out", _share(wrong) + missing, can_name and bool(wrong.mean() < WRONG)


def _count(flags: pd.Series[bool]) -> str:
    return f"{flags.sum()}/{len(flags)}"


def _share(flags: pd.Series[bool]) -> str:
    """Return how many of how many, in words.

    >>> _share(pd.Series([True, False]))
    '1 of 2 (50.0%)'
    """
    return f"{flags.sum()} of {len(flags)} ({flags.mean():.1%})" if len(flags) else "none"


if __name__ == "__main__":
    sys.exit(app())
