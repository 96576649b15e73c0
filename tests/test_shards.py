"""Cases of one network come in; rows for every backend go out, whatever a layer or a backend does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from harness.array_api import Unsupported
from harness.backends.autograd_hips import HipsAutograd
from harness.backends.numpy_reference import NumpyReference
from harness.core import Case, NetworkSpec, NodeSpec
from harness.shards import add_seconds, run_shard
from reference_layers import Sigmoid

GRAPH = NetworkSpec(
    {"x": 4, "t": 3},
    (
        NodeSpec("affine1", "affine", ("x",), 3),
        NodeSpec("sigmoid1", "sigmoid", ("affine1",), 3),
        NodeSpec("loss", "mean_squared_error", ("sigmoid1", "t"), 0),
    ),
    5,
)
LONGDOUBLE = np.dtype(np.longdouble).name
CASES = [Case(GRAPH, dtype, seed=seed) for seed in (1, 2) for dtype in ("float64", "float32")]


@dataclass(frozen=True)
class Counting(NumpyReference):
    """Counts how often a network is prepared, and does what `act` does then."""

    name: str = "counting"
    act: Any = None
    prepared: list[str] = field(default_factory=list)

    def prepare(self, network: Any, dtype: str, layers: Any) -> Any:
        self.prepared.append(dtype)
        return self.act() if self.act else super().prepare(network, dtype, layers)


def _raise(error: BaseException) -> Any:
    def act(*arguments: Any) -> Any:
        raise error

    return act


def test_every_quantity_of_every_node_has_a_row(layers):
    rows = run_shard(CASES[:1], [NumpyReference()], layers, {}).comparisons
    assert {(row.node, row.quantity) for row in rows} == {
        ("affine1", "y"), ("affine1", "dx"), ("affine1", "dW"), ("affine1", "db"), ("sigmoid1", "y"), ("sigmoid1", "dx"),
        ("loss", "y"), ("loss", "dx"), ("x", "dx"),
    }  # fmt: skip
    assert {row.verdict for row in rows} == {"ok"}
    assert {row.n_compared for row in rows} == {1, 3, 12, 15, 20}


def test_a_network_is_prepared_once_a_dtype(layers):
    backend = Counting()
    rows = run_shard(CASES, [backend], layers, {}).comparisons
    assert backend.prepared == ["float64", LONGDOUBLE, "float32"]  # float64 is run once more, one precision up
    assert {row.case for row in rows} == {case.id for case in CASES}


def test_a_backend_with_nothing_of_its_own_gives_no_row(layers):
    rows = run_shard(CASES[:1], [Counting(act=lambda: None), NumpyReference()], layers, {}).comparisons
    assert {row.backend for row in rows} == {"numpy"}


@pytest.mark.parametrize(
    ("error", "status", "fails"),
    [
        (ValueError("no\nsuch thing"), "error", True),
        (Unsupported("xp.einsum"), "unsupported", False),
        (ImportError("no module"), "unavailable", False),
        (SystemExit(0), "error", True),
        (MemoryError(), "memory", True),
        (RecursionError(), "error", True),
    ],
)
def test_what_is_raised_while_preparing_is_a_row_and_the_others_go_on(layers, error, status, fails):
    rows = run_shard(CASES[:1], [Counting(act=_raise(error)), NumpyReference()], layers, {}).comparisons
    (failed,) = [row for row in rows if row.backend == "counting"]
    assert (failed.verdict, failed.fails, failed.n_compared) == (status, fails, 0)
    place = re.fullmatch(r"(.*?):? \(line \d+ of test_shards.py, in act\)", failed.message)
    assert place is not None
    assert place[1] == f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    assert {row.verdict for row in rows if row.backend == "numpy"} == {"ok"}


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ImportError("late"), "error"), (SystemExit(0), "error"), (OSError("gone"), "error"),
        (MemoryError("too much"), "memory"), (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory"),
    ],
)  # fmt: skip
def test_what_a_layer_raises_while_it_runs_is_an_error(layers, error, verdict):
    class Raising(Sigmoid):
        forward = _raise(error)

    (row,) = run_shard(CASES[:1], [NumpyReference()], {**layers, "sigmoid": Raising}, {}).comparisons
    assert (row.verdict, row.fails, row.quantity) == (verdict, True, "all")
    assert type(error).__name__ in row.message


def test_an_interruption_passes_through(layers):
    with pytest.raises(KeyboardInterrupt):
        run_shard(CASES[:1], [Counting(act=_raise(KeyboardInterrupt()))], layers, {})


def test_an_array_that_was_written_to_is_named(layers):
    class Writing(Sigmoid):
        def forward(self, x: Any) -> Any:
            x *= 2
            return super().forward(x)

    first = NetworkSpec({"x": 3}, (NodeSpec("sigmoid1", "sigmoid", ("x",), 3),), 5)
    (row,) = run_shard([Case(first, "float64", seed=1)], [NumpyReference()], {**layers, "sigmoid": Writing}, {}).comparisons
    assert row.verdict == "error"
    assert "an array that it was given was changed in place" in row.message


def test_what_cannot_be_judged_is_an_error_of_its_backend_alone(layers, monkeypatch):
    def refuse(bench: Any, backend: Any, outcome: Any, trace: Any, lifted: Any = None) -> Any:
        if backend.name == "numpy" and outcome.status == "ok":
            raise TypeError("cannot compare")
        return right(bench, backend, outcome, trace, lifted)

    import harness.shards as shards

    right = shards.judge
    monkeypatch.setattr(shards, "judge", refuse)
    rows = run_shard(CASES[:1], [NumpyReference(), HipsAutograd()], layers, {}).comparisons
    (failed,) = [row for row in rows if row.backend == "numpy"]
    assert failed.verdict == "error"
    assert failed.message.startswith("it cannot be judged: TypeError: cannot compare (line ")
    assert {row.verdict for row in rows if row.backend == "autograd"} == {"ok"}


def test_a_failing_backend_calls_its_localiser(layers):
    @dataclass(frozen=True)
    class Wrong(HipsAutograd):
        name: str = "wrong"
        localiser: str = "near"

        def prepare(self, network: Any, dtype: str, layers: Any) -> Any:
            class Steep(Sigmoid):
                @staticmethod
                def formula(xp: Any, params: Any, x: Any) -> Any:
                    return Sigmoid.formula(xp, params, 1.01 * x)

            return super().prepare(network, dtype, {**layers, "sigmoid": Steep})

    near = Counting(name="near")
    rows = run_shard(CASES[:1], [Wrong()], layers, {"near": near}).comparisons
    assert {row.backend for row in rows} == {"wrong", "near"}
    assert run_shard(CASES[:1], [HipsAutograd()], layers, {"near": near}).comparisons
    assert near.prepared == ["float64", LONGDOUBLE]


def test_discrepancies_hold_every_pair_once(layers):
    result = run_shard(CASES[:1], [NumpyReference(), HipsAutograd()], layers, {})
    assert [row.quantity for row in result.discrepancies] == ["y", "affine1.W", "affine1.b", "x"]
    assert {(row.backend_a, row.backend_b) for row in result.discrepancies} == {("numpy", "autograd")}
    assert all(row.max_relative_to_norm < 1e-12 and row.cosine == pytest.approx(1) for row in result.discrepancies)


def test_seconds_are_counted_by_phase(layers):
    seconds = run_shard(CASES[:1], [NumpyReference()], layers, {}).seconds
    assert {"generate", "prepare", "run", "judge", "compare"} <= set(seconds)
    assert all(value >= 0 for value in seconds.values())
    add_seconds(seconds, {"judge": 1.0, "other": 2.0})
    assert seconds["judge"] >= 1.0
    assert seconds["other"] == 2.0


def test_the_same_cases_give_the_same_rows(layers):
    first, second = [run_shard(CASES, [NumpyReference()], layers, {}).comparisons for _ in range(2)]
    assert [repr(row) for row in first] == [repr(row) for row in second]
