"""Isolation: a block of work comes in, the same work on one core and one thread, leaving the process as it was, goes out."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

PR_SET_PDEATHSIG = 1


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
