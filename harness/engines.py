"""Engines: shards come in, their results go out as they are done, from this process or from guarded worker processes.

A worker that hangs or dies takes nothing else with it: its shard is split, backend by backend and then case by
case, until the culprit alone is left and gets the row that says so.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from harness.core import Case, Comparison, Status
from harness.discovery import find_backends, find_layers
from harness.isolation import one_thread, quiet, settle_worker
from harness.judge.culprit import name_culprits
from harness.judge.worked import judge_worked, lose_worked
from harness.shards import ShardResult, run_shard

POOLS = 10


@dataclass(frozen=True)
class Shard:
    """Cases of one network and the names of the backends that run them; or a layer whose worked values are to be met."""

    cases: tuple[Case, ...] = ()
    backends: tuple[str, ...] = ()
    worked: str = ""
    dtypes: tuple[str, ...] = ()

    def split(self) -> list[Shard]:
        """Return smaller shards, the shard itself where it is a single case on a single backend."""
        if len(self.backends) > 1:
            return [Shard(self.cases, (name,)) for name in self.backends]
        return [Shard((case,), self.backends) for case in self.cases]

    @property
    def is_single(self) -> bool:
        """Whether nothing is left to split."""
        return bool(self.worked) or (len(self.cases) == 1 and len(self.backends) == 1)

    def fail(self, status: Status, message: str) -> Comparison:
        """Return the row of a single shard that never came back."""
        if self.worked:
            return lose_worked(self.worked, "+".join(self.dtypes), status, message)
        return failed_row(self.cases[0], self.backends[0], status, message)


def run_named(shard: Shard) -> ShardResult:
    """Run a shard with the layers and backends that discovery finds."""
    known = find_backends()
    if shard.worked:
        return ShardResult(judge_worked({shard.worked: find_layers()[shard.worked]}, shard.dtypes))
    return run_shard(shard.cases, [known[name] for name in shard.backends], find_layers(), known)


def run_here(shards: Iterable[Shard]) -> Iterator[tuple[Shard, ShardResult]]:
    """Yield each shard with its result, run in this process on one thread; a crash here is a crash of the caller."""
    for shard in shards:
        _import_frameworks(shard.backends)
        with one_thread():
            result = run_named(shard)
        yield shard, result


def _import_frameworks(names: Iterable[str]) -> None:
    """Import what the backends need before threads are limited: torch keeps for good the number of cores that it finds."""
    for name in names:
        with suppress(ImportError), quiet():
            find_backends()[name].version()


def run_guarded(shards: Iterable[Shard], jobs: int, timeout: float) -> Iterator[tuple[Shard, ShardResult]]:
    """Yield each shard with its result as it is done, from `jobs` worker processes of one core and one thread each.

    A worker that dies before its pool has heard what it was at breaks the pool: what was under way goes to a new one.
    """
    waiting, broken = iter(shards), 0
    while broken < POOLS:
        running: dict[Future[ShardResult], Shard] = {}
        try:
            for done in _run_pool(waiting, running, jobs, timeout):
                broken = 0
                yield done
            return
        except BrokenProcessPool:
            waiting, broken = chain(list(running.values()), waiting), broken + 1
    raise RuntimeError(f"{POOLS} pools of worker processes broke one after the other, and nothing was done")


def _run_pool(
    waiting: Iterator[Shard], running: dict[Future[ShardResult], Shard], jobs: int, timeout: float
) -> Iterator[tuple[Shard, ShardResult]]:
    """Run shards in one pool; `running` tells what is under way."""
    from pebble import ProcessPool

    first = next(waiting, None)
    if first is None:
        return
    with tempfile.TemporaryDirectory() as cores:
        pool = ProcessPool(
            max_workers=jobs,
            context=multiprocessing.get_context("spawn"),
            initializer=settle_worker,
            initargs=[cores, any(name.startswith("torch") for name in first.backends)],
        )
        try:
            yield from _collect(pool, running, chain([first], waiting), 2 * jobs, timeout)
            pool.close()  # type: ignore[no-untyped-call]  # reason: pebble annotates its pools in part
        finally:
            pool.stop()  # type: ignore[no-untyped-call]  # reason: as above
            pool.join()


def _collect(
    pool: Any, running: dict[Future[ShardResult], Shard], waiting: Iterator[Shard], most: int, timeout: float
) -> Iterator[tuple[Shard, ShardResult]]:
    """Keep `most` shards scheduled, and yield what is done."""
    while True:
        while len(running) < most and (shard := next(waiting, None)) is not None:
            running[_schedule(pool, shard, timeout)] = shard
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            result, status, message = _open(future, timeout)
            shard = running.pop(future)
            if result is not None:
                yield shard, result
            elif shard.is_single:
                yield shard, ShardResult([shard.fail(status, message)])
            else:
                running.update({_schedule(pool, part, timeout): part for part in shard.split()})


def _schedule(pool: Any, shard: Shard, timeout: float) -> Future[ShardResult]:
    """Return the future of the shard; where the pool is broken already, one that says so."""
    try:
        future: Future[ShardResult] = pool.schedule(run_named, args=[shard], timeout=timeout)
    except RuntimeError as error:
        future = Future()
        future.set_exception(BrokenProcessPool(str(error)))
    return future


def _open(future: Future[ShardResult], timeout: float) -> tuple[ShardResult | None, Status, str]:
    """Return a result, or how the worker was lost; what the harness itself raised is raised again."""
    from pebble import ProcessExpired

    try:
        return future.result(), "ok", ""
    except TimeoutError:
        return None, "timeout", f"no answer within {timeout:g} s"
    except ProcessExpired as lost:
        return None, "crash", f"the process died with exit code {lost.exitcode}"


def failed_row(case: Case, backend: str, status: Status, message: str) -> Comparison:
    """Return the row of a case that never came back from a backend."""
    known = find_backends()[backend]
    row = Comparison(
        case=case.id, network=case.network.digest, hazards="+".join(case.hazards), backend=backend, variant=known.variant,
        dtype=case.dtype, node="network", layer="network", quantity="all", check="none", verdict=status,
        decides=known.decides, message=message,
    )  # fmt: skip
    return name_culprits([row])[0]


def choose_engine(shards: Sequence[Shard] | Iterator[Shard], jobs: int, timeout: float) -> Iterator[tuple[Shard, ShardResult]]:
    """Return the results from this process for `jobs` = 0, from that many worker processes otherwise."""
    return run_guarded(shards, jobs, timeout) if jobs else run_here(shards)
