"""Fair timing: networks, backends and layers come in, the time of each phase goes out, side by side on one core.

The contestants of a network take turns in an order drawn anew for each round, after a warm-up, with the garbage
collector off and every thread of the process on one core (XLA reads no thread variable). A sample is the mean of a few
calls, each of which waits until its result is ready. What is timed:

- `compile`: once, where a framework compiles: tracing, lowering and compiling the program of both passes;
- `forward`: as in training, so that frameworks which record a graph do so;
- `forward+backward`: both passes, as a step of training runs them;
- `backward`: measured where a framework keeps it apart; for a jitted program, where it is fused with the forward pass,
  the differences of the sorted samples of `forward+backward` and `forward`, never below 0, because a disturbance
  strikes the one or the other;
- `numerical`: the gradient of every parameter by central differences of the hand-written NumPy forward pass, two
  evaluations each. Up to 2,000 parameters all of them are measured; above that 100 of them, spread evenly, and the time
  is scaled up to all of them.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.array_api import Unsupported
from harness.backends.numpy_reference import NumpyProgram
from harness.cases import make_problem
from harness.core import Array, Backend, Case, NetworkSpec, NodeSpec, Problem, Timing
from harness.isolation import one_thread, quiet

REFERENCE = "numpy"
LADDER = (
    (4, 3, 4, 3),
    (4, 8, 16, 4),
    (16, 16, 32, 10),
    (32, 64, 32, 10),
    (32, 64, 64, 64, 10),
    (64, 256, 128, 10),
    (128, 784, 256, 128, 10),
)
REPEATS, FEWEST = 20, 3
SECONDS_A_PHASE, SECONDS_A_SAMPLE, MOST_CALLS = 0.25, 5e-4, 50
ALL_ENTRIES, SAMPLED_ENTRIES = 2000, 100
STEP = 2.0**-10

Run = Callable[[], Any]


@dataclass(eq=False)
class Contestant:
    """One phase of one backend: what is called, how often a round, in which rounds, and the seconds of each round.

    `scale` is what the seconds are multiplied by where only a part is run.
    """

    backend: str
    phase: str
    run: Run
    scale: float = 1.0
    calls: int = 1
    rounds: frozenset[int] = frozenset({0})
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0


def time_networks(
    networks: Sequence[NetworkSpec],
    backends: Sequence[Backend],
    layers: Mapping[str, Any],
    *,
    dtype: str = "float32",
    repeats: int = REPEATS,
    seed: int = 0,
) -> list[Timing]:
    """Return a row for every network, backend and phase; a backend that cannot run a network has none there.

    `repeats` is how many rounds there are; a phase that takes longer than a quarter of a second over all of them gets
    fewer, but at least three. `numerical` is timed when a backend of that framework is among the backends. Affinity,
    thread counts and the garbage collector are as before when it returns.
    """
    rng = np.random.default_rng(seed)
    _import(backends)
    with one_thread(), quiet(), _no_collection():
        return [row for network in networks for row in _time_network(network, backends, layers, (dtype, seed), repeats, rng)]


def _import(backends: Sequence[Backend]) -> None:
    """Import the frameworks while all cores are there: torch, imported on one core, would keep to one thread for good."""
    for backend in backends:
        with suppress(ImportError):
            backend.version()


def timing_ladder(layers: Mapping[str, Any]) -> list[NetworkSpec]:
    """Return networks of Affine and ReLU with a softmax loss, from 31 to 235,146 parameters; none without these layers."""
    if not {"affine", "relu", "softmax_cross_entropy"} <= set(layers):
        return []
    return [_stack(batch, widths) for batch, *widths in LADDER]


def _stack(batch: int, widths: Sequence[int]) -> NetworkSpec:
    nodes: list[NodeSpec] = []
    for number, width in enumerate(widths[1:], start=1):
        read = nodes[-1].name if nodes else "x"
        nodes.append(NodeSpec(f"affine{number}", "affine", (read,), width))
        if number < len(widths) - 1:
            nodes.append(NodeSpec(f"relu{number}", "relu", (nodes[-1].name,), width))
    nodes.append(NodeSpec("loss", "softmax_cross_entropy", (nodes[-1].name, "t"), 0))
    return NetworkSpec({"x": widths[0], "t": widths[-1]}, tuple(nodes), batch)


def _time_network(
    network: NetworkSpec,
    backends: Sequence[Backend],
    layers: Mapping[str, Any],
    draw: tuple[str, int],
    repeats: int,
    rng: np.random.Generator,
) -> list[Timing]:
    problem = make_problem(Case(network, dtype=draw[0], seed=draw[1]), layers)
    contestants = [contestant for backend in backends for contestant in _enter(backend, problem, layers)]
    _warm_up(contestants, repeats, rng)
    _race(contestants, repeats, rng)
    contestants += [_subtract(*pair) for pair in _fused(contestants)]
    medians = {(contestant.backend, contestant.phase): float(np.median(contestant.seconds)) for contestant in contestants}
    return [_row(problem, contestant, medians) for contestant in contestants]


def _enter(backend: Backend, problem: Problem, layers: Mapping[str, Any]) -> list[Contestant]:
    """Return the phases of a backend on a problem, none where it cannot run it; what compiles has done so."""
    case = problem.case
    if backend.framework == "numerical":
        return [_enter_numerical(backend.name, problem, layers)] if backend.default else []
    try:
        program: Any = backend.prepare(case.network, case.dtype, layers)
    except (ImportError, Unsupported):
        return []
    phases: dict[str, Run] = dict(program.phases(problem)) if hasattr(program, "phases") else {}
    contestants = [Contestant(backend.name, phase, run) for phase, run in phases.items()]
    for contestant in contestants:
        if contestant.phase == "compile":
            _sample(contestant)
    return contestants


def _enter_numerical(name: str, problem: Problem, layers: Mapping[str, Any]) -> Contestant:
    graph = NumpyProgram(problem.case.network, layers).build(problem)
    for node in graph.nodes:
        node.layer.params = {key: np.array(value) for key, value in node.layer.params.items()}
    entries = [(value, index) for value in graph.params.values() for index in range(value.size)]
    some = (
        entries if len(entries) <= ALL_ENTRIES else [entries[int(i)] for i in np.linspace(0, len(entries) - 1, SAMPLED_ENTRIES)]
    )

    def objective() -> float:
        return float(np.sum(graph.forward(problem.inputs) * problem.dy))

    scale = len(entries) / len(some) if some else 1.0
    return Contestant(name, "numerical", lambda: differentiate_entries(objective, some), scale)


def differentiate_entries(objective: Callable[[], float], entries: Sequence[tuple[Array, int]]) -> list[float]:
    """Return the central difference quotient of the objective for each entry, given as its array and its place in it.

    The entries are changed while the objective is evaluated, and back afterwards.
    """
    slopes = []
    for array, index in entries:
        kept = array.flat[index]
        step = STEP * max(abs(kept), 1)
        array.flat[index] = kept + step
        up = objective()
        array.flat[index] = kept - step
        slopes.append((up - objective()) / (2 * float(step)))
        array.flat[index] = kept
    return slopes


def _warm_up(contestants: Sequence[Contestant], repeats: int, rng: np.random.Generator) -> None:
    """Run everything three times, and choose the calls a round from the faster of the last two.

    All phases of a backend run in the same rounds, so that there are as many samples of each.
    """
    slowest: dict[str, float] = {}
    runners = [contestant for contestant in contestants if contestant.phase != "compile"]
    for contestant in runners:
        contestant.run()
        seconds = max(min(_clock(contestant.run), _clock(contestant.run)), 1e-7)
        contestant.calls = int(np.clip(SECONDS_A_SAMPLE / seconds, 1, MOST_CALLS))
        slowest[contestant.backend] = max(slowest.get(contestant.backend, 0.0), seconds * contestant.calls)
    for backend, seconds in slowest.items():
        count = int(np.clip(SECONDS_A_PHASE / seconds, min(FEWEST, repeats), repeats))
        rounds = frozenset(rng.permutation(repeats)[:count].tolist())
        for contestant in runners:
            if contestant.backend == backend:
                contestant.rounds = rounds


def _clock(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _race(contestants: Sequence[Contestant], repeats: int, rng: np.random.Generator) -> None:
    """Let the contestants take turns, in another order each round."""
    runners = [contestant for contestant in contestants if contestant.phase != "compile"]
    for number in range(repeats):
        for index in rng.permutation(len(runners)):
            if number in runners[index].rounds:
                _sample(runners[index])


def _sample(contestant: Contestant) -> None:
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(contestant.calls):
        contestant.run()
    wall = time.perf_counter() - start
    contestant.cpu += time.process_time() - cpu
    contestant.wall += wall
    contestant.seconds.append(wall / contestant.calls * contestant.scale)


def _fused(contestants: Sequence[Contestant]) -> Iterator[tuple[Contestant, Contestant]]:
    """Yield both passes and the forward pass of the backends that have no backward pass of their own."""
    by_phase = {(contestant.backend, contestant.phase): contestant for contestant in contestants}
    for backend in dict.fromkeys(contestant.backend for contestant in contestants):
        pair = by_phase.get((backend, "forward+backward")), by_phase.get((backend, "forward"))
        if pair[0] and pair[1] and (backend, "backward") not in by_phase:
            yield pair[0], pair[1]


def _subtract(whole: Contestant, part: Contestant) -> Contestant:
    """Return the backward pass as the differences of both passes and the forward pass, fastest from fastest and so on."""
    seconds = [max(a - b, 0.0) for a, b in zip(sorted(whole.seconds), sorted(part.seconds), strict=True)]
    return Contestant(whole.backend, "backward", whole.run, seconds=seconds, wall=whole.wall, cpu=whole.cpu)


def _row(problem: Problem, contestant: Contestant, medians: Mapping[tuple[str, str], float]) -> Timing:
    low, median, high = (float(value) for value in np.percentile(contestant.seconds, (25, 50, 75)))
    phase = "forward+backward" if contestant.phase == "numerical" else contestant.phase
    reference = medians.get((REFERENCE, phase), float("nan"))
    return Timing(
        network=problem.case.network.digest,
        parameters=sum(value.size for group in problem.params.values() for value in group.values()),
        batch=problem.case.network.batch,
        dtype=problem.case.dtype,
        backend=contestant.backend,
        phase=contestant.phase,
        median=median,
        lower_quartile=low,
        upper_quartile=high,
        repeats=len(contestant.seconds),
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu_over_wall=contestant.cpu / contestant.wall if contestant.wall else float("nan"),
        ratio_to_numpy=median / reference if reference else float("nan"),
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect garbage before, not during; the collector is on or off afterwards as it was."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
