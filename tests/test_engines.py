"""Shards come in; their results go out, from this process or from others, and what hangs or dies is left behind."""

from __future__ import annotations

import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
import pebble
import pytest

from harness.core import Case, NetworkSpec, NodeSpec
from harness.engines import Shard, choose_engine, failed_row, run_guarded, run_here
from harness.runner import Settings, make_plan

LAYER = '''
    """A layer that misbehaves on a batch of seven."""

    import os
    import time

    import numpy as np

    from reference_layers import Sigmoid


    class Layer(Sigmoid):
        name = "misbehaving"
        hazards = ()

        def forward(self, x):
            if len(x) == 7:
                {act}
            return super().forward(x)
'''
GOOD = NetworkSpec({"x": 3}, (NodeSpec("misbehaving1", "misbehaving", ("x",), 3),), 5)
BAD = NetworkSpec({"x": 3}, (NodeSpec("misbehaving1", "misbehaving", ("x",), 3),), 7)
PROGRAM = """
import json, sys
from dataclasses import asdict
from harness.core import case_from_json
from harness.engines import Shard, run_guarded

if __name__ == "__main__":
    shards = [Shard(tuple(map(case_from_json, cases)), ("numpy", "autograd")) for cases in json.loads(sys.argv[1])]
    for shard, result in run_guarded(shards, 1, float(sys.argv[2])):
        for row in result.comparisons:
            print(json.dumps(asdict(row)))
"""


@pytest.fixture
def run_rows(plug_in, run_python):
    """Return a function that runs good and bad shards with a layer that does `act`, and returns the rows as a table."""

    def run(act: str, timeout: float) -> pd.DataFrame:
        plug_in("bad_layer", LAYER.format(act=act), layers="bad = bad_layer:Layer")
        shards = [[Case(graph, "float64", seed=seed).to_json()] for seed, graph in enumerate((GOOD, BAD, GOOD))]
        done = run_python(PROGRAM, json.dumps(shards), str(timeout))
        assert done.returncode == 0, done.stderr
        return pd.DataFrame(map(json.loads, done.stdout.splitlines()))

    return run


@pytest.mark.parametrize(
    ("act", "timeout", "verdict", "message"),
    [
        ("os._exit(7)", 60, "crash", r"the process died with exit code 7 \(line 18 of bad_layer.py, in forward\)"),
        ("os._exit(0)", 60, "crash", r"the process died with exit code 0 \(line 18 of bad_layer.py, in forward\)"),
        ("os.abort()", 60, "crash", r"the process died with exit code -6 \(SIGABRT\) \(line 18 of bad_layer.py, in forward\)"),
        ("os.kill(os.getpid(), 9)", 60, "crash", r"the process died with exit code -9 \(SIGKILL\)$"),
        ("time.sleep(600)", 4, "timeout", r"no answer within 4 s \(line 18 of bad_layer.py, in forward\)"),
        ("raise MemoryError('all of it')", 60, "memory", "MemoryError: all of it"),
        ("np.ones(10**15)", 60, "memory", "Unable to allocate"),
    ],
    ids=["exits", "exits well", "aborts", "killed", "hangs", "raises", "allocates"],
)
def test_a_layer_that_misbehaves_takes_nothing_else_with_it(run_rows, act, timeout, verdict, message):
    rows = run_rows(act, timeout)
    bad = rows[rows.verdict != "ok"]
    assert set(bad.verdict) == {verdict}
    assert set(bad.backend) == {"numpy"}
    assert set(bad.network) == {BAD.digest}
    assert len(bad) == 1
    assert bad.decides.all()
    assert bad.message.str.contains(message).all()
    assert len(rows[rows.network == GOOD.digest]) == 2 * (3 + 2)
    assert set(rows[(rows.network == BAD.digest) & (rows.backend == "autograd")].verdict) == {"ok"}


def test_a_run_with_a_layer_that_dies_ends_with_its_rows_and_exit_code_1(plug_in, run_harness, tmp_path):
    plug_in(
        "bad_layer", LAYER.format(act="os._exit(7)").replace("len(x) == 7", "x.shape[-1] % 2"), layers="bad = bad_layer:Layer"
    )
    chosen = ("--layers", "misbehaving,affine,mean_squared_error", "--backends", "numpy", "--hazards", "none")
    settings = ("--cases", "8", "--draws", "1", "--seed", "4", "--jobs", "1", "--timeout", "30", "--reporters", "none")
    done = run_harness("run", *chosen, *settings, "--no-timings", "--quiet", "--out", "run")
    assert done.returncode == 1, done.stderr
    rows = pd.read_csv(tmp_path / "run" / "comparisons.csv", keep_default_na=False)
    assert set(rows.verdict) == {"ok", "crash"}
    assert rows.case.nunique() == 8
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["status"], info["cases_done"]) == ("mismatch", 8)
    assert info["failed"] == (rows.verdict == "crash").sum()
    assert len((tmp_path / "run" / "cases.jsonl").read_text().splitlines()) == 8


CASES = tuple(Case(NetworkSpec({"x": 3}, (NodeSpec("relu1", "relu", ("x",), 3),), 5), "float64", seed=seed) for seed in (1, 2, 3))


def test_a_shard_is_split_until_one_case_on_one_backend_is_left():
    parts, singles = [Shard(CASES, ("numpy", "torch"))], []
    for part in parts:
        if part.is_single:
            singles.append((part.cases[0].seed, part.backends[0]))
        else:
            parts += part.split()
    assert sorted(singles) == [(seed, name) for seed in (1, 2, 3) for name in ("numpy", "torch")]


def test_a_row_of_what_never_came_back_decides_unless_its_backend_is_a_witness():
    assert failed_row(CASES[0], "numpy", "crash", "gone").fails
    assert not failed_row(CASES[0], "numerical", "timeout", "gone").fails
    assert failed_row(CASES[0], "numpy", "crash", "gone").variant == "layer"


class NoPool:
    """A pool that runs at once what is scheduled, in this process."""

    def __init__(self, **settings: Any) -> None:
        self.broken = False

    def schedule(self, function: Any, args: Any, timeout: float) -> Any:
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future

    def failed(self, error: Exception) -> Any:
        future: Future[Any] = Future()
        future.set_exception(error)
        return future

    def close(self) -> None:
        assert not self.broken

    def stop(self) -> None:
        self.stopped = True

    def join(self) -> None:
        assert self.stopped


class BreakingPool(NoPool):
    """A pool that breaks at its first shards, `breaks` times over all pools."""

    breaks = 0

    def schedule(self, function: Any, args: Any, timeout: float) -> Any:
        if self.broken or type(self).breaks > 0:
            if not self.broken:
                type(self).breaks -= 1
                self.broken = True
                return self.failed(BrokenProcessPool("All workers expired"))
            raise RuntimeError("Unexpected error within the Pool")
        return super().schedule(function, args, timeout)


@pytest.mark.parametrize("breaks", [1, 5])
def test_what_a_broken_pool_had_under_way_goes_to_a_new_one(monkeypatch, breaks):
    monkeypatch.setattr(pebble, "ProcessPool", BreakingPool)
    monkeypatch.setattr(BreakingPool, "breaks", breaks)
    shards = [Shard((case,), ("numpy",)) for case in CASES]
    done = [shard.cases[0].seed for shard, result in run_guarded(shards, 1, 1.0) if result.comparisons]
    assert sorted(done) == [1, 2, 3]


def test_pools_that_do_nothing_but_break_are_a_fault(monkeypatch):
    monkeypatch.setattr(pebble, "ProcessPool", BreakingPool)
    monkeypatch.setattr(BreakingPool, "breaks", 100)
    with pytest.raises(RuntimeError, match="10 pools of worker processes broke one after the other"):
        list(run_guarded([Shard(CASES, ("numpy",))], 1, 1.0))


def test_no_shards_are_no_results():
    assert list(choose_engine(iter([]), 0, 1.0)) == []
    assert list(choose_engine(iter([]), 1, 1.0)) == []


def test_results_come_with_their_shards():
    shards = [Shard((case,), ("numpy",)) for case in CASES]
    assert [(shard, {row.case for row in result.comparisons}) for shard, result in run_here(shards)] == [
        (shard, {shard.cases[0].id}) for shard in shards
    ]


def test_here_and_in_worker_processes_the_comparisons_are_the_same(run_harness, tmp_path):
    settings = ("--cases", "12", "--draws", "2", "--seed", "6", "--backends", "numpy,autograd", "--reporters", "none")
    tables = []
    for jobs in ("0", "2"):
        done = run_harness("run", *settings, "--jobs", jobs, "--no-timings", "--quiet", "--out", f"run{jobs}")
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / f"run{jobs}" / "comparisons.csv").read_text().splitlines()
        tables.append(sorted(lines))
    assert len(tables[0]) > 100
    assert tables[0] == tables[1]


def test_as_many_workers_as_cores_unless_told(tmp_path: Path):
    plans = {jobs: make_plan(Settings(2, backends="numpy", out=tmp_path, jobs=jobs)).jobs for jobs in (-1, 0, 3)}
    assert plans[-1] >= 1
    assert (plans[0], plans[3]) == (0, 3)
