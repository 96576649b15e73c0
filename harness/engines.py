"""Engines: shards come in, their results go out as they are done, from this process or from guarded worker processes.

A worker that hangs or dies takes nothing else with it: its shard is split, backend by backend and then case by
case, until the culprit alone is left and gets the row that says so.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from harness.core import Case, Comparison, Status
from harness.discovery import find_backends, find_layers
from harness.isolation import ENDED, leave_words, one_thread, quiet, settle_worker
from harness.judge.culprit import name_culprits
from harness.judge.worked import judge_worked, lose_worked
from harness.shards import ShardResult, run_shard
from harness.strangers import read_place

POOLS = 10
LATE = 0.9  # of its time a worker that hangs has used up when it writes where it is

ResultT_co = TypeVar("ResultT_co", covariant=True)
ResultT = TypeVar("ResultT")


class Work(Protocol[ResultT_co]):
    """What guarded workers do: it can be run there, split where its worker was lost, and given up when nothing is left of it."""

    def run(self) -> ResultT_co:
        """Return the result, in whatever process this is called."""
        ...

    def split(self) -> list[Self]:
        """Return smaller work."""
        ...

    @property
    def is_single(self) -> bool:
        """Whether nothing is left to split."""
        ...

    def lose(self, status: Status, message: str) -> ResultT_co:
        """Return the result of work whose worker was lost."""
        ...


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

    def run(self) -> ShardResult:
        """Run the shard with the layers and backends that discovery finds."""
        known = find_backends()
        if self.worked:
            return ShardResult(judge_worked({self.worked: find_layers()[self.worked]}, self.dtypes))
        return run_shard(self.cases, [known[name] for name in self.backends], find_layers(), known)

    def lose(self, status: Status, message: str) -> ShardResult:
        """Return the one row of a single shard that never came back."""
        return ShardResult([self.fail(status, message)])

    def fail(self, status: Status, message: str) -> Comparison:
        """Return the row of a single shard that never came back."""
        if self.worked:
            return lose_worked(self.worked, "+".join(self.dtypes), status, message)
        return failed_row(self.cases[0], self.backends[0], status, message)


def run_work(work: Work[ResultT], words: str, timeout: float) -> ResultT:
    """Run work; should the process die or hang in it, the file `words` says where."""
    with leave_words(words, LATE * timeout):
        return work.run()


def run_here(shards: Iterable[Shard]) -> Iterator[tuple[Shard, ShardResult]]:
    """Yield each shard with its result, run in this process on one thread; a crash here is a crash of the caller."""
    for shard in shards:
        _import_frameworks(shard.backends)
        with one_thread():
            result = shard.run()
        yield shard, result


def _import_frameworks(names: Iterable[str]) -> None:
    """Import what the backends need before threads are limited: torch keeps for good the number of cores that it finds."""
    for name in names:
        with suppress(ImportError), quiet():
            find_backends()[name].version()


def run_guarded(
    works: Iterable[Any], jobs: int, timeout: float, settle: Callable[..., None] = settle_worker, settings: Sequence[Any] = (),
    pools: int = POOLS,
) -> Iterator[tuple[Any, Any]]:  # fmt: skip
    """Yield each piece of `Work` with its result as it is done, from `jobs` worker processes of one core and one thread each.

    A worker calls `settle(folder, with_torch, *settings)` first; its time starts behind that. A worker that dies before its
    pool has heard what it was at breaks the pool: what was under way goes to a new one. Work that is made as it is asked
    for (an iterator) may look at what came back before.
    Raises RuntimeError when so many `pools` broke, one after the other.
    """
    waiting, broken = iter(works), 0
    while broken < pools:
        running: dict[Future[Any], tuple[Any, Path]] = {}
        try:
            for done in _run_pool(waiting, running, jobs, timeout, settle, settings):
                broken = 0
                yield done
            return
        except BrokenProcessPool:
            waiting, broken = chain([work for work, _ in running.values()], waiting), broken + 1
    raise RuntimeError(f"{pools} pools of worker processes broke one after the other, and nothing was done")


def _run_pool(
    waiting: Iterator[Any], running: dict[Future[Any], tuple[Any, Path]], jobs: int, timeout: float,
    settle: Callable[..., None], settings: Sequence[Any],
) -> Iterator[tuple[Any, Any]]:  # fmt: skip
    """Run work in one pool; `running` tells what is under way, and where its last words would be."""
    from pebble import ProcessPool

    first = next(waiting, None)
    if first is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        pool = ProcessPool(
            max_workers=jobs,
            context=multiprocessing.get_context("spawn"),
            initializer=settle,
            initargs=[folder, any(name.startswith("torch") for name in first.backends), *settings],
        )
        words = (Path(folder) / f"words{number}" for number in count())
        try:
            yield from _collect(pool, running, chain([first], waiting), 2 * jobs, timeout, words)
            pool.close()  # type: ignore[no-untyped-call]  # reason: pebble annotates its pools in part
        finally:
            pool.stop()  # type: ignore[no-untyped-call]  # reason: as above
            pool.join()


def _collect(
    pool: Any, running: dict[Future[Any], tuple[Any, Path]], waiting: Iterator[Any], most: int, timeout: float,
    words: Iterator[Path],
) -> Iterator[tuple[Any, Any]]:  # fmt: skip
    """Keep `most` pieces of work scheduled, and yield what is done."""

    def schedule(work: Any) -> None:
        path = next(words)
        running[_schedule(pool, work, timeout, path)] = work, path

    while True:
        while len(running) < most and (work := next(waiting, None)) is not None:
            schedule(work)
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            result, status, message = _open(future, timeout, running[future][1])
            work, _ = running.pop(future)
            if status == "ok":
                yield work, result
            elif work.is_single:
                yield work, work.lose(status, message)
            else:
                for part in work.split():
                    schedule(part)


def _schedule(pool: Any, work: Any, timeout: float, words: Path) -> Future[Any]:
    """Return the future of the work; where the pool is broken already, one that says so."""
    try:
        future: Future[Any] = pool.schedule(run_work, args=[work, str(words), timeout], timeout=timeout)
    except RuntimeError as error:
        future = Future()
        future.set_exception(BrokenProcessPool(str(error)))
    return future


def _open(future: Future[Any], timeout: float, words: Path) -> tuple[Any, Status, str]:
    """Return a result, or how the worker was lost and where; what the harness itself raised is raised again."""
    from pebble import ProcessExpired

    try:
        return future.result(), "ok", ""
    except TimeoutError:
        return None, "timeout", f"no answer within {timeout:g} s{_read_words(words)}"
    except ProcessExpired as lost:
        code = 0 if lost.exitcode == ENDED else lost.exitcode
        return None, "crash", f"the process died with exit code {code}{_name_signal(code)}{_read_words(words)}"


def _read_words(path: Path) -> str:
    try:
        return read_place(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def _name_signal(code: int) -> str:
    """Return the name of the signal behind an exit code below 0; nothing where there is none."""
    with suppress(ValueError):
        return f" ({signal.Signals(-code).name})" if code < 0 else ""
    return ""


def failed_row(case: Case, backend: str, status: Status, message: str) -> Comparison:
    """Return the row of a case that never came back from a backend."""
    row = lost_row(case.id, "", case.dtype, backend, status, message)
    return replace(row, network=case.network.digest, hazards="+".join(case.hazards))


def lost_row(case: str, layer: str, dtype: str, backend: str, status: Status, message: str) -> Comparison:
    """Return the row of a case of which nothing is known but its name."""
    known = find_backends()[backend]
    row = Comparison(
        case=case, network="", hazards="", backend=backend, variant=known.variant, dtype=dtype, node="network",
        layer=layer or "network", quantity="all", check="none", verdict=status, decides=known.decides, message=message,
    )  # fmt: skip
    return name_culprits([row])[0]


def choose_engine(shards: Sequence[Shard] | Iterator[Shard], jobs: int, timeout: float) -> Iterator[tuple[Shard, ShardResult]]:
    """Return the results from this process for `jobs` = 0, from that many worker processes otherwise."""
    return run_guarded(shards, jobs, timeout) if jobs else run_here(shards)
