"""Speed of `harness run`: random networks come in, its time beside the frameworks' own for the same calls goes out.

`python -m benchmarks.run_speed` draws the cases of a run (100 networks of 20 draws) and runs each of them twice on every
backend, in one process on one core and one thread: the harness's way (`prepare`, then `run` behind its guard) and by hand
(`benchmarks.by_hand`), from the same NumPy arrays to NumPy gradients. Who goes first is drawn for each program and changes
from run to run. Required: warm work and compilation each take at most 1.3 times as long as by hand, on every backend.
Seconds are processor time, which other processes on the machine do not lengthen.

Beside that it prints what a case costs to generate, to trace and to judge (on some draws of every network), and how long a
real `harness run` takes as a whole.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cyclopts import App
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.by_hand import LAYERS
from benchmarks.contest import Costs, race
from harness.cases import list_hazards, plan_cases
from harness.core import USUAL_DTYPES, Case
from harness.discovery import find_backends, find_layers
from harness.isolation import one_thread, quiet

MOST = 1.3
BACKENDS = ("numpy", "torch", "torch:native", "jax", "jax:native")
RESULTS = Path(__file__).parent / "results"

app = App(name="python -m benchmarks.run_speed", help="Measure harness run beside the frameworks' own time for the same calls.")


@app.default
def main(*, cases: int = 2000, seed: int = 1, judged: int = 2, whole: int = 60, out: Path = RESULTS) -> int:
    """Measure, print the tables, write `run_speed.csv` and return 1 when a ratio is above 1.3.

    Parameters
    ----------
    cases
        How many cases; 20 of them share a network.
    seed
        The seed of the plan.
    judged
        How many cases of each network are traced and judged as well.
    whole
        How many cases a real `harness run` gets that is timed as a whole; 0 leaves it out.
    out
        The folder of the CSV file.
    """
    started, cpu = time.perf_counter(), time.process_time()
    records, costs = measure(cases, seed, judged)
    wall = time.perf_counter() - started
    busy = (time.process_time() - cpu) / wall
    rows = summarise(records)
    console = Console(width=110)
    console.print(draw_ratios(rows, f"{cases} cases in {wall:.0f} s, processor time / wall time {busy:.2f}"), draw_costs(costs))
    if whole:
        console.print(run_whole(whole, seed))
    out.mkdir(parents=True, exist_ok=True)
    pd.concat([rows, list_costs(costs)]).to_csv(out / "run_speed.csv", index=False, float_format="%.6g")
    holds = bool((rows.ratio <= MOST).all())
    console.print(f"harness run takes at most {MOST} times as long as by hand: [bold]{'holds' if holds else 'FAILS'}[/]")
    return 0 if holds else 1


def measure(cases: int, seed: int, judged: int) -> tuple[pd.DataFrame, Costs]:
    """Return a record for every network, dtype and backend, and what a case costs beside."""
    found, known = find_layers(), find_backends()
    layers, backends = {name: found[name] for name in LAYERS}, [known[name] for name in BACKENDS]
    for backend in backends:
        backend.version()  # imports the framework
    rng, costs = np.random.default_rng(seed), Costs()
    with one_thread(), quiet():
        race(next(_plan(4, seed + 1, layers)), backends, layers, rng, Costs(), 4)  # warms up
        gc.freeze()  # what was imported need not be looked through again and again
        shards = track(list(_plan(cases, seed, layers)), "networks", console=Console(stderr=True), transient=True)
        records = [contest.record() for shard in shards for contest in race(shard, backends, layers, rng, costs, judged)]
    return pd.DataFrame(records), costs


def _plan(cases: int, seed: int, layers: Any) -> Iterator[list[Case]]:
    return plan_cases(cases, seed, layers, dtypes=USUAL_DTYPES, hazards=list(list_hazards(layers)))


def summarise(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for every phase and backend, and one for all of them.

    Columns: phase, backend, programs, runs, harness_seconds, own_seconds, ratio, median_ratio (of the programs).
    """
    rows = []
    for phase, group in (("warm", records), ("compile", records[records.compile_own > 0])):
        parts: list[tuple[str, pd.DataFrame]] = [(name, group[group.backend == name]) for name in BACKENDS]
        rows += [_summarise(phase, name, part) for name, part in [*parts, ("all", group)] if len(part)]
    return pd.DataFrame(rows)


def _summarise(phase: str, backend: str, group: pd.DataFrame) -> dict[str, Any]:
    each = "typical" if phase == "warm" else "compile"
    harness, own = float(group[f"{phase}_harness"].sum()), float(group[f"{phase}_own"].sum())
    return {
        "phase": phase,
        "backend": backend,
        "programs": len(group),
        "runs": int(group.runs.sum()) if phase == "warm" else len(group),
        "harness_seconds": harness,
        "own_seconds": own,
        "ratio": harness / own,
        "harness_median_ms": 1e3 * float(group[f"{each}_harness"].median()),
        "own_median_ms": 1e3 * float(group[f"{each}_own"].median()),
        "median_ratio": float((group[f"{each}_harness"] / group[f"{each}_own"]).median()),
    }


def draw_ratios(rows: pd.DataFrame, caption: str) -> Table:
    """Return the table of both sides' seconds in all and of a typical run, and their ratios."""
    table = Table("phase", "backend", title="harness run beside the same calls by hand, on one core", caption=caption)
    for name in (
        "programs",
        "runs",
        "harness",
        "by hand",
        "ratio",
        "a harness run",
        "by hand",
        "median ratio",
        f"at most {MOST}",
    ):
        table.add_column(name, justify="right")
    for row in rows.to_dict("records"):
        seconds = (f"{row['harness_seconds']:.2f} s", f"{row['own_seconds']:.2f} s", f"[bold]{row['ratio']:.3f}[/]")
        typical = (f"{row['harness_median_ms']:.3f} ms", f"{row['own_median_ms']:.3f} ms", f"{row['median_ratio']:.3f}")
        counts = (str(row["programs"]), str(row["runs"]))
        verdict = "holds" if row["ratio"] <= MOST else "[red]FAILS[/]"
        table.add_row(row["phase"], row["backend"], *counts, *seconds, *typical, verdict, end_section=row["backend"] == "all")
    return table


def list_costs(costs: Costs) -> pd.DataFrame:
    """Return the cost of one case by work and dtype, all backends together, as rows beside those of `summarise`."""
    return pd.DataFrame(
        {
            "phase": f"{work} {dtype}",
            "backend": "all",
            "runs": len(seconds),
            "harness_seconds": sum(seconds),
            "harness_mean_ms": 1e3 * float(np.mean(seconds)),
            "harness_median_ms": 1e3 * float(np.median(seconds)),
        }
        for (work, dtype), seconds in costs.seconds.items()
    )


def draw_costs(costs: Costs) -> Table:
    """Return the table of what a case costs beside running."""
    table = Table("work and dtype", title=f"cost of a case on {len(BACKENDS)} backends together")
    for name in ("cases", "seconds", "mean", "median"):
        table.add_column(name, justify="right")
    for row in list_costs(costs).to_dict("records"):
        each = (f"{row['harness_mean_ms']:.2f} ms", f"{row['harness_median_ms']:.2f} ms")
        table.add_row(row["phase"], str(row["runs"]), f"{row['harness_seconds']:.2f}", *each)
    return table


def run_whole(cases: int, seed: int) -> Table:
    """Run the command itself on one core and return the table of its phases against its wall time."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        command = [sys.executable, "-m", "harness", "run", "--cases", str(cases), "--seed", str(seed), "--jobs", "0"]
        options = ["--backends", "numpy,torch,jax", "--no-timings", "--reporters", "none", "--quiet", "--out", folder]
        start = time.perf_counter()
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        info = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
    phases = {
        **info["phases"],
        "tables and the like": info["seconds"] - sum(info["phases"].values()),
        "start and imports": wall - info["seconds"],
    }
    table = Table("phase", title=f"harness run --cases {cases} --jobs 0: {wall:.1f} s")
    for name in ("seconds", "share"):
        table.add_column(name, justify="right")
    for phase, seconds in phases.items():
        table.add_row(phase, f"{seconds:.2f}", f"{seconds / wall:.0%}")
    return table


if __name__ == "__main__":
    sys.exit(app())
