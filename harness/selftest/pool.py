"""The pool of a selftest: tasks come in, their results go out as they are done, from this process or from worker processes."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import Any, TypeVar

from harness.isolation import one_thread, settle_worker

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def run_tasks(
    work: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], jobs: int, timeout: float
) -> Iterator[tuple[TaskT, ResultT | None, str]]:
    """Yield each task with its result as it is done; where its worker hung or died, with None and what became of it.

    With `jobs` = 0 they run here on one thread, and a crash is a crash of the caller. What the work itself raises is
    raised again.
    """
    if jobs:
        yield from _run_guarded(work, iter(tasks), jobs, timeout)
        return
    for task in tasks:
        with one_thread():
            result = work(task)
        yield task, result, ""


def _run_guarded(
    work: Callable[[TaskT], ResultT], tasks: Iterator[TaskT], jobs: int, timeout: float
) -> Iterator[tuple[TaskT, ResultT | None, str]]:
    """Keep two tasks for each worker scheduled; a task has its time from when a worker takes it."""
    from pebble import ProcessPool

    with tempfile.TemporaryDirectory() as cores:
        pool = ProcessPool(
            max_workers=jobs,
            context=multiprocessing.get_context("spawn"),
            initializer=settle_worker,
            initargs=[cores, True],
        )
        running: dict[Future[ResultT], TaskT] = {}
        try:
            while running.update(_schedule(pool, work, islice(tasks, 2 * jobs - len(running)), timeout)) or running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), *_open(future, timeout)
        finally:
            pool.stop()  # type: ignore[no-untyped-call]  # reason: pebble annotates its pools in part
            pool.join()


def _schedule(pool: Any, work: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], timeout: float) -> dict[Any, TaskT]:
    return {pool.schedule(work, args=[task], timeout=timeout): task for task in tasks}


def _open(future: Future[ResultT], timeout: float) -> tuple[ResultT | None, str]:
    """Return the result, or None and how its worker was lost."""
    from pebble import ProcessExpired

    try:
        return future.result(), ""
    except TimeoutError:
        return None, f"no answer within {timeout:g} s"
    except ProcessExpired as lost:
        return None, f"the process died with exit code {lost.exitcode}"
