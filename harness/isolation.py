"""Isolation: a block of work comes in, the same work on one core and one thread, leaving the process as it was, goes out."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

PR_SET_PDEATHSIG = 1
ENDED = 86  # the exit code of a worker whose work left with 0


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and floating-point errors of strangers' code while it runs; the caller's settings come back."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run BLAS and torch on one thread and on one core; thread counts and affinity come back afterwards.

    XLA reads no thread variable: it starts as many threads as the process may use cores, which is why the core is
    pinned before JAX starts.
    """
    from threadpoolctl import threadpool_limits

    with ExitStack() as stack:
        stack.enter_context(one_core())
        stack.enter_context(threadpool_limits(1))
        torch = sys.modules.get("torch")
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(1)
        yield


@contextmanager
def one_core() -> Iterator[None]:
    """Let every thread of the process use the first of its cores alone, where the platform can say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    before = _read_cores()
    _allow({thread: {min(own)} for thread in before})
    try:
        yield
    finally:
        _allow({thread: before.get(thread, own) for thread in _list_threads()})


def _list_threads() -> list[int]:
    """Return the system's ids of all threads of the process (of the calling one alone where it does not say).

    Affinity belongs to a thread: pinning the calling one leaves XLA's running, and those started meanwhile stay pinned.
    """
    return [int(name) for name in os.listdir(_THREADS)] if os.path.isdir(_THREADS) else [0]


def _read_cores() -> dict[int, set[int]]:
    cores = {}
    for thread in _list_threads():
        with suppress(OSError):  # a thread may end at any time
            cores[thread] = os.sched_getaffinity(thread)
    return cores


def _allow(cores: Mapping[int, set[int]]) -> None:
    for thread, allowed in cores.items():
        with suppress(OSError):
            os.sched_setaffinity(thread, allowed)


_THREADS = "/proc/self/task"


def settle_worker(folder: str, with_torch: bool) -> None:
    """Pin a worker process to a core that no other worker has, and limit its libraries to one thread, for good.

    A core is taken by locking its file in `folder`; the lock goes when the process does, however it ends. On Linux the
    worker ends when the run that started it does, even if that was killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {_take_core(folder)})
    from threadpoolctl import threadpool_limits

    _KEPT.append(threadpool_limits(1))
    if with_torch:
        import torch

        torch.set_num_threads(1)


_KEPT: list[Any] = []


def _take_core(folder: str) -> int:
    import fcntl

    cores = sorted(os.sched_getaffinity(0))
    for core in cores:
        handle = open(os.path.join(folder, str(core)), "w")  # noqa: SIM115  # reason: the lock must outlive this function
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            continue
        _KEPT.append(handle)
        return core
    return cores[os.getpid() % len(cores)]


@contextmanager
def leave_words(path: str, seconds: float) -> Iterator[None]:
    """Have a worker write into a file where it is, should it die inside or still be there after `seconds`.

    Only in a worker: whoever started the process may have plans of its own for what is written when it dies. A worker that
    comes through leaves no file.
    """
    if multiprocessing.parent_process() is None:
        yield
        return
    with open(path, "w", encoding="utf-8") as file:
        faulthandler.enable(file, all_threads=False)
        faulthandler.dump_traceback_later(seconds, file=file)
        leave = os._exit
        os._exit = partial(_exit_in_words, file, leave)  # type: ignore[assignment]  # reason: it never returns either
        try:
            yield
        finally:
            os._exit = leave
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
    os.unlink(path)


def _exit_in_words(file: Any, leave: Callable[[int], Any], status: int) -> None:
    """Exit at once, but not with 0: a pool of workers takes that for the end of its work, and waits for the rest in vain."""
    faulthandler.dump_traceback(file, all_threads=False)
    leave(status or ENDED)


def silence_streams() -> None:
    """Send what a worker prints nowhere, for good, from whatever language it prints."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def can_limit_memory() -> bool:
    """Whether the system holds a process to the limit of `limit_memory`: Linux does; macOS takes the limit and ignores it."""
    return sys.platform == "linux"


def limit_memory(mebibytes: float) -> None:
    """Let the process allocate so much more than it holds by now, for good; where there is no more, allocating fails.

    What is limited is memory that the process may write to (RLIMIT_DATA, 294 MiB with torch and JAX loaded), not its
    address space (RLIMIT_AS, 1.7 GiB then), most of which XLA reserves and never uses.
    """
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^VmData:\s+(\d+) kB$", status, re.MULTILINE)
    held = int(found[1]) * 2**10 if found else 0
    most = held + int(mebibytes * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
