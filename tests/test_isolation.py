"""Work through the library comes in; the caller's process as it was before goes out."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from harness.core import Case, NetworkSpec, NodeSpec
from harness.discovery import find_reporters
from harness.engines import Shard, run_here
from harness.isolation import one_core, one_thread, quiet
from harness.runner import Settings, choose_backends, execute, find_missing, make_plan, replay_case
from harness.table import load_run
from tests.conftest import ROOT

GRAPH = NetworkSpec(
    {"x": 3, "t": 3},
    (
        NodeSpec("affine1", "affine", ("x",), 3),
        NodeSpec("relu1", "relu", ("affine1",), 3),
        NodeSpec("loss", "mean_squared_error", ("relu1", "t"), 0),
    ),
    4,
)
CASE = Case(GRAPH, "float64", seed=1)
BACKENDS = ("numpy", "torch", "torch:native", "jax", "autograd", "numerical")


def _torch_state(torch: Any) -> dict[str, Any]:
    return {
        "torch threads": torch.get_num_threads(),
        "torch random state": torch.get_rng_state().tolist(),
        "torch dtype": torch.get_default_dtype(),
        "torch gradients": torch.is_grad_enabled(),
        "torch subnormals": (torch.tensor([2.0**-149]) * 1).item(),
    }


def _jax_state(jax: Any) -> dict[str, Any]:
    flags = {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_disable_jit", "jax_debug_nans")}
    return {**flags, "jax dtype": str(jax.numpy.ones(1).dtype)}


def _process_state() -> dict[str, Any]:
    """Return whatever of the process a library could change and should not."""
    return {
        "numpy errors": np.geterr(),
        "numpy printing": repr(np.get_printoptions()),
        "numpy random state": repr(np.random.get_state()),
        "random state": random.getstate(),
        "warnings": [repr(entry) for entry in warnings.filters],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "cores": os.sched_getaffinity(0),
        "threads of libraries": sorted((info["filepath"], info["num_threads"]) for info in threadpool_info()),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "excepthook": sys.excepthook,
    }


def _state() -> dict[str, Any]:
    import jax
    import torch

    return {**_process_state(), **_torch_state(torch), **_jax_state(jax)}


def _run_plan(folder: Any) -> None:
    assert execute(make_plan(Settings(2, 1, "numpy", draws=1, out=folder / "run", jobs=0, timings=False)))["exit_code"] == 0


def _report(folder: Any) -> None:
    _run_plan(folder)
    run = load_run(folder / "run")
    assert all(path.stat().st_size for name in ("csv", "markdown") for path in find_reporters()[name].write(run, folder))


WORK: Mapping[str, Callable[[Any], Any]] = {
    "run_here": lambda folder: list(run_here([Shard((CASE,), BACKENDS)])),
    "replay_case": lambda folder: replay_case(CASE, BACKENDS),
    "find_missing": lambda folder: find_missing(choose_backends("all")),
    "execute": _run_plan,
    "reporters": _report,
}


@pytest.fixture
def unusual(monkeypatch) -> None:
    """Give the process settings that nobody has by default, so that what is set back to a default shows."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setenv("HARNESS_UNUSUAL", "1")
    with warnings.catch_warnings(), np.errstate(under="raise", over="ignore", divide="call", invalid="warn"):
        warnings.filterwarnings("once", message="never said")
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("work", WORK)
@pytest.mark.usefixtures("unusual")
def test_the_process_stays_as_it_was(work, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    before = _state()
    WORK[work](tmp_path)
    after = _state()
    assert {name: value for name, value in after.items() if value != before[name]} == {}


@pytest.mark.usefixtures("unusual")
def test_it_stays_as_it_was_when_the_work_fails():
    pytest.importorskip("torch")
    before = _process_state()
    with pytest.raises(ValueError, match="storage"):
        list(run_here([Shard((Case(GRAPH, "float64", seed=1, storage="none"),), ("numpy",))]))
    with pytest.raises(ZeroDivisionError), one_thread(), quiet():
        raise ZeroDivisionError
    assert _process_state() == before


def test_a_rejoined_state_would_have_been_seen():
    before = _process_state()
    with np.errstate(all="raise"):
        assert _process_state() != before
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1


def test_work_runs_on_one_thread_and_one_core():
    torch = pytest.importorskip("torch")
    with one_thread():
        assert torch.get_num_threads() == 1
        assert len(os.sched_getaffinity(0)) == 1
        assert {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"} == {1}


def test_a_thread_that_was_running_keeps_its_cores():
    seen, go, done = [], threading.Event(), threading.Event()

    def wait() -> None:
        go.wait(10)
        seen.append(os.sched_getaffinity(0))
        done.set()

    before = os.sched_getaffinity(0)
    thread = threading.Thread(target=wait)
    thread.start()
    with one_core():
        pass
    go.set()
    assert done.wait(10)
    thread.join()
    assert seen == [before]


def test_torch_that_is_imported_on_the_way_keeps_its_threads():
    pytest.importorskip("torch")
    program = f"""
from harness.core import case_from_json
from harness.runner import replay_case
case = case_from_json({CASE.to_json()!r})
if {{ran}}:
    assert replay_case(case, ["numpy", "torch"])
import torch
print(torch.get_num_threads())
"""
    counts = [
        subprocess.run(
            [sys.executable, "-c", program.replace("{ran}", ran)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for ran in ("False", "True")
    ]
    assert counts[0] == counts[1]


def test_warnings_of_strangers_are_silent_and_come_back():
    with quiet(), warnings.catch_warnings(record=True) as seen:
        warnings.warn("planted", RuntimeWarning, stacklevel=1)
        assert np.log(np.zeros(1))[0] == -np.inf
    assert seen == []
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.log(np.zeros(1))


LIMITED = """
import numpy as np
from harness.isolation import limit_memory
limit_memory(100)
kept = np.ones(2**23)
try:
    more = np.ones(2**23)
except MemoryError as error:
    print("MemoryError")
del kept
print(np.ones(2**23).size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system holds a process to a limit of memory")
def test_a_process_takes_no_more_memory_than_its_limit():
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["MemoryError", str(2**23)]
