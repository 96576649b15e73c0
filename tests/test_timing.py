"""Networks and backends come in; rows that are fair to all, and a process left as it was, go out."""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from harness.array_api import Unsupported
from harness.backends.numpy_reference import NumpyReference
from harness.cases import make_problem
from harness.core import Arithmetic, Case, NetworkSpec, NodeSpec, Timing
from harness.isolation import one_core, one_thread
from harness.timing import (
    ALL_ENTRIES,
    MOST_CALLS,
    SAMPLED_ENTRIES,
    Contestant,
    differentiate_entries,
    time_networks,
    timing_ladder,
)

PINNED = hasattr(os, "sched_setaffinity")
TENSOR = NetworkSpec({"x": 4}, (NodeSpec("affine1", "affine", ("x",), 3), NodeSpec("sigmoid1", "sigmoid", ("affine1",), 3)), 2)


class Toy:
    """A program that notes what is called, and takes the time that it is told."""

    def __init__(self, seconds: dict[str, float], calls: list[tuple[str, str]], name: str) -> None:
        self.seconds = seconds
        self.calls = calls
        self.name = name

    def phases(self, problem: Any) -> dict[str, Callable[[], Any]]:
        return {phase: lambda phase=phase: self._take(phase) for phase in self.seconds}

    def _take(self, phase: str) -> None:
        self.calls.append((self.name, phase))
        end = time.perf_counter() + self.seconds[phase]
        while time.perf_counter() < end:
            pass


@dataclass(frozen=True)
class ToyBackend:
    """A backend of toy programs; the ones of `raises` cannot be prepared."""

    name: str
    seconds: dict[str, float] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    raises: type[Exception] | None = None
    framework: str = "toy"
    variant: str = "toy"
    default: bool = True
    decides: bool = True
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    threads: str = ""

    def version(self) -> str:
        return "1"

    def rule(self, layer: Any) -> str:
        return "formula"

    def prepare(self, network: NetworkSpec, dtype: str, layers: Any) -> Any:
        if self.raises:
            raise self.raises(self.name)
        return Toy(self.seconds, self.calls, self.name)


@pytest.fixture(scope="module")
def rows(layers, backends) -> list[Timing]:
    chosen = [backends[name] for name in ("numpy", "torch", "autograd", "numerical")]
    return time_networks([*timing_ladder(layers)[:5:4], TENSOR], chosen, layers, repeats=5)


@pytest.fixture(scope="module")
def compiled(layers, backends) -> list[Timing]:
    return time_networks([TENSOR], [backends["numpy"], backends["jax"]], layers, dtype="float64", repeats=5)


def _find(rows: list[Timing], network: NetworkSpec, backend: str, phase: str) -> Timing:
    (found,) = [row for row in rows if (row.network, row.backend, row.phase) == (network.digest, backend, phase)]
    return found


def test_the_ladder_climbs_from_tens_to_hundreds_of_thousands_of_parameters(layers):
    ladder = timing_ladder(layers)
    problems = [make_problem(Case(network, "float32", 0), layers) for network in ladder]
    counts = [sum(value.size for group in problem.params.values() for value in group.values()) for problem in problems]
    assert counts == sorted(counts)
    assert counts[0] == 31
    assert counts[-1] == 235_146
    assert all(problem.dy.shape == () for problem in problems)
    sizes = [(network.batch, *(node.width for node in network.nodes if node.layer == "affine")) for network in ladder]
    assert {(4, 16, 4), (32, 64, 64, 10), (128, 256, 128, 10)} <= set(sizes)


def test_there_is_no_ladder_without_its_layers(layers):
    assert timing_ladder({"affine": layers["affine"]}) == []


def test_every_backend_has_every_phase_once(rows):
    for network in {row.network for row in rows}:
        phases = [(row.backend, row.phase) for row in rows if row.network == network]
        assert len(phases) == len(set(phases))
        assert set(phases) == {
            *((name, phase) for name in ("numpy", "torch", "autograd") for phase in ("forward", "backward", "forward+backward")),
            ("numerical", "numerical"),
        }


def test_a_compiled_program_is_compiled_apart_and_its_backward_pass_is_a_difference(compiled):
    assert [row.phase for row in compiled if row.backend == "jax"] == ["compile", "forward", "forward+backward", "backward"]
    compilation, backward = _find(compiled, TENSOR, "jax", "compile"), _find(compiled, TENSOR, "jax", "backward")
    assert compilation.repeats == 1
    assert compilation.median > 10 * _find(compiled, TENSOR, "jax", "forward+backward").median
    assert math.isnan(compilation.ratio_to_numpy)
    assert backward.median >= 0


def test_numbers_of_a_row_fit_together(rows, compiled):
    for row in [*rows, *compiled]:
        assert 0 <= row.lower_quartile <= row.median <= row.upper_quartile < 60
        assert row.repeats >= 1
        assert row.cpu_over_wall > 0
        assert row.threads == 1 or not PINNED
    assert {row.dtype for row in rows} == {"float32"}
    assert {row.dtype for row in compiled} == {"float64"}


def test_ratios_are_to_the_reference_in_the_same_phase(rows):
    for row in rows:
        same = [other for other in rows if other.network == row.network and other.backend == "numpy"]
        phase = "forward+backward" if row.phase == "numerical" else row.phase
        (reference,) = [other for other in same if other.phase == phase]
        assert row.ratio_to_numpy == pytest.approx(row.median / reference.median)


def test_numerical_differentiation_falls_behind_as_the_parameters_grow(rows, layers):
    small, large = timing_ladder(layers)[:5:4]
    behind = [_find(rows, network, "numerical", "numerical").ratio_to_numpy for network in (small, large)]
    # Two evaluations a parameter: from 31 to 8,970 parameters the ratio must grow a great deal, whatever the machine does.
    assert behind[1] > 20 * behind[0] > 20


def test_without_the_reference_there_is_no_ratio(layers):
    (row,) = time_networks([TENSOR], [ToyBackend("toy", {"forward": 1e-5})], layers, repeats=3)
    assert math.isnan(row.ratio_to_numpy)


def test_what_cannot_run_is_left_out(layers):
    failing = [ToyBackend("missing", raises=ImportError), ToyBackend("refused", raises=Unsupported), ToyBackend("silent")]
    timed = time_networks([TENSOR], [*failing, NumpyReference()], layers, repeats=3)
    assert {row.backend for row in timed} == {"numpy"}


def test_contestants_take_turns_in_changing_order_after_a_warm_up(layers):
    calls: list[tuple[str, str]] = []
    seconds = {"forward": 1e-3}
    time_networks([TENSOR], [ToyBackend(name, seconds, calls) for name in "ab"], layers, repeats=16)
    order = "".join(name for name, _ in calls)
    assert order[:6] == "aaabbb"
    rounds = [order[i : i + 2] for i in range(6, len(order), 2)]
    assert len(rounds) == 16
    assert set(rounds) == {"ab", "ba"}


def test_the_same_seed_gives_the_same_order(layers):
    def play(seed: int) -> list[tuple[str, str]]:
        calls: list[tuple[str, str]] = []
        time_networks([TENSOR], [ToyBackend(name, {"forward": 1e-3}, calls) for name in "abc"], layers, repeats=8, seed=seed)
        return calls

    assert play(1) == play(1) != play(2)


def test_times_are_those_that_the_phases_took(layers):
    backend = ToyBackend("toy", {"forward": 2e-3, "forward+backward": 6e-3})
    timed = {row.phase: row for row in time_networks([TENSOR], [backend], layers, repeats=9)}
    # A busy loop never takes less than it is told; how much more is up to the machine.
    assert timed["forward"].lower_quartile >= 2e-3
    assert timed["forward+backward"].lower_quartile >= 6e-3
    assert timed["backward"].median <= timed["forward+backward"].median
    assert timed["backward"].upper_quartile > 0


def test_a_slow_phase_is_repeated_less_and_a_fast_one_is_called_many_times_a_round(layers):
    calls: list[tuple[str, str]] = []
    backends = [ToyBackend("slow", {"forward": 0.1}, calls), ToyBackend("fast", {"forward": 1e-6}, calls)]
    slow, fast = time_networks([TENSOR], backends, layers, repeats=10)
    assert slow.repeats == 3
    assert fast.repeats == 10
    assert 10 * 5 < sum(name == "fast" for name, _ in calls) <= 3 + 10 * MOST_CALLS


def test_the_collector_is_off_while_measuring_and_as_before_afterwards(layers):
    seen: list[bool] = []

    class Watch(Toy):
        def _take(self, phase: str) -> None:
            seen.append(gc.isenabled())

    class WatchBackend(ToyBackend):
        def prepare(self, network: NetworkSpec, dtype: str, layers: Any) -> Any:
            return Watch({"forward": 0.0}, [], "w")

    assert gc.isenabled()
    time_networks([TENSOR], [WatchBackend("w")], layers, repeats=3)
    assert set(seen) == {False}
    assert gc.isenabled()
    gc.disable()
    try:
        time_networks([TENSOR], [WatchBackend("w")], layers, repeats=3)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_process_is_left_as_it_was(rows, layers, backends):
    torch = pytest.importorskip("torch")
    affinity = os.sched_getaffinity(0) if PINNED else None
    before = (torch.get_num_threads(), np.geterr(), np.random.get_state()[1].tolist())
    time_networks([TENSOR], [backends["numpy"], backends["torch"], backends["numerical"]], layers, repeats=3)
    assert (torch.get_num_threads(), np.geterr(), np.random.get_state()[1].tolist()) == before
    assert affinity is None or os.sched_getaffinity(0) == affinity


def test_affinity_comes_back_when_a_contestant_fails(layers):
    class Failing(Toy):
        def _take(self, phase: str) -> None:
            raise RuntimeError("broken")

    class FailingBackend(ToyBackend):
        def prepare(self, network: NetworkSpec, dtype: str, layers: Any) -> Any:
            return Failing({"forward": 0.0}, [], "f")

    affinity = os.sched_getaffinity(0) if PINNED else None
    with pytest.raises(RuntimeError, match="broken"):
        time_networks([TENSOR], [FailingBackend("f")], layers, repeats=3)
    assert gc.isenabled()
    assert affinity is None or os.sched_getaffinity(0) == affinity


@pytest.mark.skipif(not PINNED or not os.path.isdir("/proc/self/task"), reason="this platform pins no threads")
def test_every_thread_is_pinned_and_comes_back_also_those_that_start_meanwhile():
    stop = threading.Event()

    def start() -> int:
        thread = threading.Thread(target=stop.wait, daemon=True)
        thread.start()
        return int(thread.native_id or 0)

    own, older = os.sched_getaffinity(0), start()
    try:
        with one_core():
            younger = start()
            assert os.sched_getaffinity(0) == os.sched_getaffinity(older) == os.sched_getaffinity(younger) == {min(own)}
        assert os.sched_getaffinity(0) == os.sched_getaffinity(older) == os.sched_getaffinity(younger) == own
    finally:
        stop.set()


def test_one_thread_is_one_thread_for_blas_and_torch():
    from threadpoolctl import threadpool_info

    torch = pytest.importorskip("torch")
    before = [pool["num_threads"] for pool in threadpool_info()]
    with one_thread():
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert torch.get_num_threads() == 1
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_difference_quotients_are_those_of_the_objective_and_leave_the_entries():
    weights = np.array([[1.0, -2.0], [3.0, 0.5]])
    kept = weights.copy()
    slopes = differentiate_entries(lambda: float((weights**2).sum()), [(weights, i) for i in range(4)])
    # The difference quotient of a square is exact but for rounding, which the step of 2^-10 makes 2^10 times as large.
    assert np.abs(np.array(slopes) - 2 * kept.ravel()).max() <= 2**12 * np.finfo(float).eps * (kept**2).sum()
    assert (weights == kept).all()


def test_numerical_differentiation_agrees_with_backpropagation(layers):
    problem = make_problem(Case(timing_ladder(layers)[0], "float64", 0), layers)
    graph = NumpyReference().prepare(problem.case.network, "float64", layers).build(problem)
    graph.forward(problem.inputs)
    graph.backward(problem.dy)
    expected = graph.grads
    for node in graph.nodes:
        node.layer.params = {key: np.array(value) for key, value in node.layer.params.items()}
    for name, value in graph.params.items():
        entries = [(value, index) for index in range(value.size)]
        slopes = np.array(differentiate_entries(lambda: float(graph.forward(problem.inputs) * problem.dy), entries))
        # Truncation goes with the square of the step, 2^-20, times a third derivative that is at most about 1 here.
        assert np.abs(slopes - expected[name].ravel()).max() < 2.0**-18


@pytest.mark.parametrize(("rung", "share"), [(3, None), (0, 1.0)])
def test_many_parameters_are_sampled_and_the_time_scaled_up(layers, rung, share):
    from harness.timing import _enter_numerical

    problem = make_problem(Case(timing_ladder(layers)[rung], "float32", 0), layers)
    count = sum(value.size for group in problem.params.values() for value in group.values())
    contestant = _enter_numerical("numerical", problem, layers)
    assert isinstance(contestant, Contestant)
    assert (count > ALL_ENTRIES) == (share is None)
    assert contestant.scale == (share or count / SAMPLED_ENTRIES)
    assert len(contestant.run()) == (count if share else SAMPLED_ENTRIES)
