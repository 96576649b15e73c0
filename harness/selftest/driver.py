"""The driver of a selftest: a plan comes in; networks run and faults are planted, tables and an exit code go out.

Correct networks on every backend count the false alarms; mutated ones count what each check, and each rival on the
same networks, finds and misses. A selftest may be done in parts into one folder: every part keeps its own rows as
they come, and the tables are made of all parts that are there.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.cases import plan_cases
from harness.core import USUAL_DTYPES, BadInput, Case, Comparison
from harness.engines import choose_engine
from harness.findings import Ledger, read_findings
from harness.isolation import one_thread
from harness.judge.canary import check_judge
from harness.rivals.rival import choose_rivals
from harness.runner import HARNESS_FAILED, INTERRUPTED, USAGE
from harness.selftest.plan import PARTS, Plan, list_shards, list_tasks
from harness.selftest.pool import run_tasks
from harness.selftest.score import Score, read_score, write_score
from harness.selftest.tables import ALARMS, CHECKS, Alarm, frame_trials, list_cells, list_columns, score
from harness.selftest.trials import Task, run_named_task, run_task

LOST = "lost"


@dataclass(eq=False)
class Progress:
    """What a run has done so far: the graphs and cases judged, the tasks tried, and how many rows accuse what is right."""

    graphs: set[str] = field(default_factory=set)
    judged: set[tuple[str, str]] = field(default_factory=set)
    tasks: int = 0
    alarms: int = 0
    lost: list[str] = field(default_factory=list)


def execute(plan: Plan, progress: Callable[[Progress], None] = lambda done: None) -> Score:
    """Run this part, keep its rows as they come, and return the score of all parts that are there.

    What is done is kept when the run is interrupted. Raises BadInput when the folder holds parts of another selftest.
    """
    open_part(plan)
    done, stopped = Progress(), 0
    try:
        check_judge()
        _run_correct(plan, done, progress)
        _run_mutated(plan, done, progress)
        _write_json(plan.folder / "done.json", {"networks": len(done.graphs), "tasks": done.tasks, "lost": done.lost})
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    except Exception as error:
        stopped = USAGE if isinstance(error, BadInput) else HARNESS_FAILED
        raise
    finally:
        found = read_score(plan.settings.out, plan.asked, stopped)
        write_score(plan.settings.out, found)
    return found


def open_part(plan: Plan) -> None:
    """Make this part's folder anew. Raises BadInput when it cannot be written, or parts of another selftest lie beside it."""
    out = plan.settings.out
    try:
        if plan.parts == 1:
            shutil.rmtree(out / PARTS, ignore_errors=True)
        for other in sorted((out / PARTS).glob("*/asked.json")):
            if json.loads(other.read_text(encoding="utf-8")) != plan.asked:
                raise BadInput(f"--out {str(out)!r} holds a part of another selftest; accepted is a folder without one")
        shutil.rmtree(plan.folder, ignore_errors=True)
        plan.folder.mkdir(parents=True)
        _write_json(plan.folder / "asked.json", plan.asked)
        _append(plan.folder / "alarms.csv", [ALARMS])
        _append(plan.folder / "trials.csv", [list_columns(plan.methods)])
    except OSError as error:
        raise BadInput(f"--out {str(out)!r}: {error.strerror}; accepted is a folder that can be written") from None


def _run_correct(plan: Plan, done: Progress, progress: Callable[[Progress], None]) -> None:
    """Run the correct networks, and keep for each backend how many rows there are and how many accuse."""
    ledger = Ledger(read_findings())
    for shard, result in choose_engine(list_shards(plan), plan.jobs, plan.settings.timeout):
        rows = ledger.excuse(result.comparisons)
        alarms = count_alarms(rows, done.judged)
        _append(plan.folder / "alarms.csv", [astuple(alarm) for alarm in alarms])
        _keep_failures(plan.folder, {case.id: case for case in shard.cases}, rows)
        done.graphs |= {case.network.digest for case in shard.cases}
        done.alarms += sum(alarm.false_alarms for alarm in alarms)
        progress(done)


def count_alarms(rows: Sequence[Comparison], judged: set[tuple[str, str]]) -> list[Alarm]:
    """Return for each dtype and backend how many networks and rows there are, and how many rows accuse.

    `judged` holds the cases and backends that were counted before, so that a case whose rows come twice is one network.
    """
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for row in rows:
        if row.decides:
            groups.setdefault((row.dtype, row.backend), []).append(row)
    counted = []
    for (dtype, backend), group in groups.items():
        fresh = {(row.case, backend) for row in group} - judged
        judged |= fresh
        counted.append(Alarm(dtype, backend, len(fresh), len(group), sum(row.fails for row in group)))
    return counted


def _keep_failures(folder: Path, cases: Mapping[str, Case], rows: Sequence[Comparison]) -> None:
    """Keep the case of every accusing row, so that `harness replay` runs it again."""
    lines = [
        {"case": json.loads(cases[row.case].to_json()), "backend": row.backend, "node": row.node, "quantity": row.quantity,
         "verdict": row.verdict, "message": row.message}
        for row in rows if row.fails and row.case in cases
    ]  # fmt: skip
    if lines:
        with (folder / "false_alarms.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


def _run_mutated(plan: Plan, done: Progress, progress: Callable[[Progress], None]) -> None:
    """Plant the faults, and keep every trial; a network whose worker was lost counts as a false alarm, for nothing was found."""
    for task, result, lost in run_tasks(run_named_task, list_tasks(plan), plan.jobs, plan.settings.timeout):
        trials, alarms = result if result is not None else ([], [Alarm(task.case.dtype, LOST, 1, 1, 1)])
        _append(plan.folder / "trials.csv", [list_cells(trial, plan.methods) for trial in trials])
        _append(plan.folder / "alarms.csv", [astuple(alarm) for alarm in alarms])
        done.tasks += 1
        done.lost += [f"{task.case.id}: {lost}"] if lost else []
        done.alarms += sum(alarm.false_alarms for alarm in alarms if not alarm.backend.startswith("rival:"))
        progress(done)


def _append(path: Path, rows: Iterable[Any]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def selftest_layer(
    kind: Any, *, networks: int = 10, seed: int = 0, dtypes: Sequence[str] = USUAL_DTYPES, against: str = "none"
) -> pd.DataFrame:
    """Return what a test of one layer class finds, to tell whether it would have found a fault in a user's layer.

    Every fault that fits is planted in networks of that layer alone, in this process; the frame is that of
    `harness.selftest.tables.score`. Raises BadInput on an unknown tool.
    """
    layers, rivals = {kind.name: kind}, tuple(rival.name for rival in choose_rivals(against))
    cases = plan_cases(networks * len(dtypes), seed, layers, dtypes=dtypes, hazards=(), draws=len(dtypes))
    tasks = [Task(i, case, (kind.name,), rivals, True, seed) for i, drawn in enumerate(cases) for case in drawn]
    with one_thread():
        trials = [trial for task in tasks for trial in run_task(task, layers)[0]]
    return score(frame_trials(trials, [*CHECKS, *rivals]))
