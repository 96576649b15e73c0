"""The runner: settings come in; cases are planned, run, judged and timed, a run folder and an exit code go out.

It is the only module that sees every stage. Whatever is done is on disk: rows are appended as shards end, so that
an interrupted run keeps what it has.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

from harness import __version__
from harness.cases import list_hazards, plan_cases
from harness.core import DTYPES, USUAL_DTYPES, Backend, BadInput, Case, Comparison
from harness.discovery import choose, find_backends, find_layers
from harness.engines import Shard, choose_engine
from harness.findings import Finding, Ledger, read_findings
from harness.floats import NARROW
from harness.isolation import one_thread, quiet
from harness.judge.canary import check_judge
from harness.judge.oracle import check_precision
from harness.shards import add_seconds
from harness.table import append_cases, append_rows, open_folder

CONFORMS, MISMATCH, USAGE, HARNESS_FAILED, NOTHING_RAN, INTERRUPTED = 0, 1, 2, 3, 4, 130
MOST_POWERLESS = 0.01


@dataclass(frozen=True)
class Settings:
    """What a run is asked for; names are comma-separated or "all"."""

    cases: int = 500
    seed: int = 0
    backends: str = "all"
    dtypes: str = ",".join(USUAL_DTYPES)
    layers: str = "all"
    hazards: str = "all"
    require: str = ""
    out: Path = Path("reports/latest")
    jobs: int = -1
    draws: int = 20
    timeout: float = 300.0
    timings: bool = True


@dataclass(frozen=True)
class Plan:
    """Settings that were checked: the names found, the backends that can run and those that cannot."""

    settings: Settings
    layers: Mapping[str, Any]
    dtypes: tuple[str, ...]
    hazards: tuple[str, ...]
    backends: tuple[str, ...]
    missing: Mapping[str, str]

    @property
    def jobs(self) -> int:
        """How many worker processes: one for each core the process may use where -1 was asked for."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cores if self.settings.jobs < 0 else self.settings.jobs

    def shards(self) -> Iterator[Shard]:
        """Return the shards of the run, one for each network, made as they are asked for."""
        settings = self.settings
        plan = plan_cases(
            settings.cases, settings.seed, self.layers, dtypes=self.dtypes, hazards=self.hazards, draws=settings.draws
        )
        worked = (Shard(worked=name, dtypes=self.dtypes) for name in self.layers)
        return chain((Shard(tuple(cases), self.backends) for cases in plan), worked)


@dataclass(eq=False)
class Tally:
    """What a run has seen so far."""

    verdicts: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    wide: Counter[str] = field(default_factory=Counter)
    failures: list[Comparison] = field(default_factory=list)
    graphs: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    cases: set[str] = field(default_factory=set)
    compared: int = 0
    failed: int = 0
    deciding: int = 0
    worked: int = 0
    worst: float = 0.0

    def keep(self, rows: Sequence[Comparison]) -> list[Comparison]:
        """Return the rows of cases, of worked values not met, and of layers without any; values that are met are counted here."""
        kept = [row for row in rows if row.fails or row.check != "worked" or not row.n_compared]
        self.worked += len(rows) - len(kept)
        return kept

    def take(self, cases: Sequence[Case]) -> list[Case]:
        """Return the cases that are new; a shard that was split comes back in parts."""
        fresh = [case for case in cases if case.id not in self.cases]
        self.cases |= {case.id for case in fresh}
        self.graphs |= {case.network.digest for case in fresh}
        return fresh

    def count(self, rows: Sequence[Comparison]) -> None:
        """Count rows."""
        for row in rows:
            self.verdicts[row.verdict] += 1
            self.compared += row.n_compared
            self.deciding += row.decides and row.n_compared > 0
            self.outside[row.verdict] += row.decides and not row.hazards
            self.wide[row.verdict] += row.decides and not row.hazards and row.dtype not in NARROW
            self.failed += row.fails
            if row.decides and row.verdict == "ok":
                self.worst = max(self.worst, row.error_in_bounds)
        self.failures += [row for row in rows if row.fails][: max(0, 20 - len(self.failures))]

    def share(self, verdict: str) -> float:
        """The share of a verdict in the deciding rows outside the hazards."""
        return self.outside[verdict] / max(sum(self.outside.values()), 1)

    @property
    def blind(self) -> float:
        """The share of powerless rows outside the hazards, of float32 and float64 alone.

        Nobody can show a 1 % error end to end in a format whose own roundings are 0.4 %: there it is told, not counted.
        """
        return self.wide["powerless"] / max(sum(self.wide.values()), 1)


def make_plan(settings: Settings) -> Plan:
    """Return the plan of the settings. Raises BadInput, naming the setting, on an unknown name or an impossible number."""
    for name, value, least in (
        ("cases", settings.cases, 1),
        ("seed", settings.seed, 0),
        ("draws", settings.draws, 1),
        ("jobs", settings.jobs, -1),
    ):
        if value < least:
            raise BadInput(f"--{name} {value}; accepted is a whole number of at least {least}")
    if not settings.timeout > 0:
        raise BadInput(f"--timeout {settings.timeout:g}; accepted is a number of seconds above 0")
    every = find_layers()
    layers = {name: every[name] for name in choose("layer", settings.layers, every)}
    dtypes = tuple(choose("dtype", settings.dtypes, dict.fromkeys(DTYPES)))
    hazards = () if settings.hazards == "none" else tuple(choose("hazard", settings.hazards, list_hazards(layers)))
    for dtype in dtypes:
        check_precision(dtype)
    named = choose_backends(settings.backends)
    missing = find_missing(named)
    return Plan(settings, layers, dtypes, hazards, tuple(name for name in named if name not in missing), missing)


def choose_backends(wanted: str) -> list[str]:
    """Return backends by their own names or by their framework's, which stands for all of its that are default."""
    known = find_backends()
    frameworks: dict[str, list[str]] = {}
    for backend in known.values():
        if backend.default:
            frameworks.setdefault(backend.framework, []).append(backend.name)
    groups = {**{name: [name] for name in known}, **frameworks}
    names = list(frameworks) if wanted == "all" else choose("backend", wanted, groups)
    return list(dict.fromkeys(chain.from_iterable(groups[name] for name in names)))


def find_missing(names: Sequence[str]) -> dict[str, str]:
    """Return the backends whose framework cannot be imported, with what the import said."""
    missing = {}
    for name in names:
        try:
            with quiet():
                find_backends()[name].version()
        except ImportError as error:
            missing[name] = str(error)
    return missing


def require(plan: Plan) -> str:
    """Return what is missing although it was asked for, nothing when all is there."""
    asked = choose_backends(plan.settings.require) if plan.settings.require else []
    asked += [] if plan.settings.backends == "all" else choose_backends(plan.settings.backends)
    lost = find_missing(list(dict.fromkeys(asked)))
    words = [
        f"{name} is required and missing ({why}); install backprop-harness[{name.split(':')[0]}]" for name, why in lost.items()
    ]
    return "; ".join(words)


def execute(plan: Plan, progress: Callable[[int, Tally], None] = lambda done, tally: None) -> dict[str, Any]:
    """Run the plan into its folder and return what `run.json` then holds, the exit code among it."""
    folder, tally, ledger = plan.settings.out, Tally(), Ledger(read_findings())
    open_folder(folder)
    started, clock, stopped = datetime.now(UTC), time.perf_counter(), 0
    try:
        check_judge()
        for shard, result in choose_engine(plan.shards(), plan.jobs, plan.settings.timeout):
            rows = ledger.excuse(tally.keep(result.comparisons))
            append_rows(folder, "comparisons", rows)
            append_rows(folder, "discrepancies", result.discrepancies)
            fresh = tally.take(shard.cases)
            append_cases(folder, fresh)
            tally.count(rows)
            add_seconds(tally.seconds, result.seconds)
            if fresh:
                progress(len(fresh), tally)
        if plan.settings.timings:
            _survey(plan, tally)
            append_rows(folder, "timings", _time(plan, tally))
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    except Exception as error:
        stopped = USAGE if isinstance(error, BadInput) else HARNESS_FAILED
        raise
    finally:
        info = describe_run(plan, tally, ledger, started, time.perf_counter() - clock, stopped)
        (folder / "run.json").write_text(json.dumps(info, indent=1), encoding="utf-8")
    return info


def _survey(plan: Plan, tally: Tally) -> None:
    """Record what the frameworks that were asked for return at every kink."""
    from harness.atlas import FRAMEWORKS, find_conventions, write_conventions

    start = time.perf_counter()
    known = find_backends()
    asked = {known[name].framework for name in (*plan.backends, *plan.missing)}
    names = [name for name in FRAMEWORKS if name in asked]
    if names:
        with one_thread():
            write_conventions(plan.settings.out, find_conventions(names))
    add_seconds(tally.seconds, {"conventions": time.perf_counter() - start})


def _time(plan: Plan, tally: Tally) -> list[Any]:
    """Time the backends on the ladder of networks, alone on the machine, after the cases."""
    from harness.timing import time_networks, timing_ladder

    start = time.perf_counter()
    known = find_backends()
    needed = {"affine", "relu", "softmax_cross_entropy"}
    ladder = timing_ladder(find_layers()) if needed <= set(plan.layers) else []
    with one_thread(), quiet():
        rows: list[Any] = time_networks(ladder, [known[name] for name in plan.backends], find_layers())
    add_seconds(tally.seconds, {"time": time.perf_counter() - start})
    return rows


def decide_exit(tally: Tally, ledger: Ledger, stopped: int = 0) -> tuple[int, str]:
    """Return the exit code and the run's verdict in a word or two; `stopped` is the code of what ended the run too early."""
    if stopped in (USAGE, HARNESS_FAILED):
        return stopped, "bad input" if stopped == USAGE else "harness failed"
    if tally.failed or ledger.stale:
        return MISMATCH, "mismatch" if tally.failed else "stale finding"
    if stopped:
        return stopped, "interrupted"
    if not tally.deciding:
        return NOTHING_RAN, "nothing ran"
    return (MISMATCH, "powerless") if tally.blind > MOST_POWERLESS else (CONFORMS, "conforms")


def describe_run(plan: Plan, tally: Tally, ledger: Ledger, started: datetime, seconds: float, stopped: int) -> dict[str, Any]:
    """Return everything that is known of a run beside its tables."""
    code, status = decide_exit(tally, ledger, stopped)
    settings = {**asdict(plan.settings), "out": plan.settings.out.name, "jobs": plan.jobs}
    return {
        "harness": __version__,
        "status": status,
        "exit_code": code,
        "interrupted": stopped == INTERRUPTED,
        "seed": plan.settings.seed,
        "settings": {**settings, "dtypes": list(plan.dtypes), "layers": list(plan.layers), "hazards": list(plan.hazards)},
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "phases": {name: round(value, 3) for name, value in tally.seconds.items()},
        "cases_done": len(tally.cases),
        "graphs": len(tally.graphs),
        "n_compared": tally.compared,
        "worked_values_met": tally.worked,
        "counts": dict(tally.verdicts),
        "failed": tally.failed,
        "ok_share": tally.share("ok"),
        "powerless_share": tally.share("powerless"),
        "blind_share": tally.blind,
        "worst_ok": tally.worst,
        "failures": [asdict(row) for row in tally.failures],
        "stale_findings": ledger.stale,
        "findings": [_describe_finding(finding, ledger) for finding in ledger.findings],
        "backends": [_describe_backend(find_backends()[name], plan) for name in [*plan.backends, *plan.missing]],
        "versions": find_versions(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": 1,
    }  # fmt: skip


def _describe_finding(finding: Finding, ledger: Ledger) -> dict[str, Any]:
    return {"id": finding.id, "reason": finding.reason, "matched": sum(found == finding.id for found, _ in ledger.seen)}


def _describe_backend(backend: Backend, plan: Plan) -> dict[str, Any]:
    gone = backend.name in plan.missing
    return {
        "name": backend.name,
        "status": "unavailable" if gone else "ok",
        "version": "" if gone else backend.version(),
        "device": getattr(backend, "device", "cpu"),
        "threads": backend.threads,
        "decides": backend.decides,
        "arithmetic": asdict(backend.arithmetic),
        "message": plan.missing.get(backend.name, ""),
    }


def find_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part."""
    found = {"python": sys.version.split()[0], "backprop-harness": __version__}
    for name in ("numpy", "torch", "jax", "jaxlib", "autograd", "pandas", "scipy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def replay_case(case: Case, backends: Sequence[str]) -> list[Comparison]:
    """Run one case again in this process and return its rows."""
    shards = [Shard((case,), tuple(backends))]
    return [row for _, result in choose_engine(shards, 0, 0.0) for row in result.comparisons]
