"""Speed of the reference layers: sizes of networks come in, their time beside torch's, JAX's and bare matrix products goes out.

`python -m benchmarks.reference_speed` runs forward and backward of Affine, ReLU and softmax-with-loss, in one process on
one core and one thread. All contestants compute the same: the gradients of every parameter and of the input. They take
turns in an order drawn anew for each round; a ratio is the median of the ratios of single rounds, with quartiles, so that
a disturbance that strikes a whole round strikes both. Required, in float32: never slower than torch eager, and within 1.25
times the same matrix products alone at the two largest sizes. A ratio whose quartiles lie on both sides of its limit is
called level: this machine cannot tell. A ratio to torch above its limit is called `no room` where NumPy's bare products
alone already take as long as torch's whole pass (their ratio's upper quartile reaches 1): there NumPy's BLAS is compared
with torch's, whatever the layers add, and what they add is held by the limit on the products.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cyclopts import App
from rich.console import Console
from rich.table import Table

from harness.backends.jax_grad import wide_types
from harness.core import Array
from harness.isolation import one_core, one_thread
from reference_layers import Affine, Network, Node, ReLU, SoftmaxCrossEntropy

SIZES = ((4, (8, 16, 4)), (32, (64, 64, 64, 10)), (128, (784, 256, 128, 10)), (256, (1024, 1024, 1024, 10)))
LARGE = SIZES[2:]
LIMITS = {"torch": 1.0, "products": 1.25}
RESULTS = Path(__file__).parent / "results"
Call = Callable[[], Any]

app = App(name="python -m benchmarks.reference_speed", help="Measure the reference layers beside torch, JAX and bare products.")


@dataclass(frozen=True, eq=False)
class Task:
    """One network to run: weights and biases of its affine maps, a batch and its labels."""

    batch: int
    sizes: tuple[int, ...]
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    x: Array
    t: Array

    @property
    def name(self) -> str:
        """The sizes in words."""
        return f"{self.batch}; {'-'.join(map(str, self.sizes))}"


@app.default
def main(*, seconds: float = 8.0, seed: int = 0, out: Path = RESULTS) -> int:
    """Measure, print the table, write `reference_speed.csv` and return 1 when a requirement fails.

    Parameters
    ----------
    seconds
        How long the rounds of one size and dtype may take.
    seed
        The seed of the numbers and of the order of turns.
    out
        The folder of the CSV file.
    """
    with one_core():  # before a framework starts its threads
        import torch  # noqa: F401  # reason: one_thread limits what is loaded

        with one_thread():
            rows = [row for dtype in ("float32", "float64") for size in SIZES for row in measure(*size, dtype, seconds, seed)]
    frame = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "reference_speed.csv", index=False, float_format="%.6g")
    Console(width=110).print(draw(frame))
    return int((frame.verdict == "FAILS").any())


def measure(batch: int, sizes: tuple[int, ...], dtype: str, seconds: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each contestant on one size: median and quartiles of its time, and the reference's ratio to it."""
    rng = np.random.default_rng(seed)
    task = _draw(rng, batch, sizes, dtype)
    with wide_types(dtype == "float64"):
        contestants = {"reference": _enter_reference(task), "torch": _enter_torch(task), "jax": _enter_jax(task)}
        contestants["products"] = _enter_products(task)
        taken, busy = _race(contestants, seconds, rng)
    for name, times in taken.items():
        low, ratio, high = np.quantile(taken["reference"] / times, [0.25, 0.5, 0.75])
        limit = LIMITS.get(name) if dtype == "float32" and (name != "products" or (batch, sizes) in LARGE) else None
        bare = float(np.quantile(taken["products"] / times, 0.75))
        yield {
            "network": task.name, "dtype": dtype, "contestant": name, "rounds": len(times),
            "median_us": 1e6 * np.median(times), "lower_us": 1e6 * np.quantile(times, 0.25),
            "upper_us": 1e6 * np.quantile(times, 0.75), "cpu_over_wall": busy, "reference_over_it": ratio,
            "ratio_lower": low, "ratio_upper": high, "products_over_it": bare, "limit": limit,
            "verdict": _decide(limit, low, ratio, name != "products" and bare >= 1.0),
        }  # fmt: skip


def _decide(limit: float | None, low: float, ratio: float, crowded: bool) -> str:
    if limit is None:
        return ""
    return "holds" if ratio <= limit else "level" if low <= limit else "no room" if crowded else "FAILS"


def _race(contestants: dict[str, Call], seconds: float, rng: np.random.Generator) -> tuple[dict[str, Array], float]:
    """Return the seconds of each contestant by round, and processor time over wall time."""
    names = list(contestants)
    for _ in range(5):
        for run in contestants.values():
            run()
    taken: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds or len(taken[names[0]]) < 20:
        for place in rng.permutation(len(names)):
            start = time.perf_counter()
            contestants[names[place]]()
            taken[names[place]].append(time.perf_counter() - start)
    busy = (time.process_time() - cpu) / (time.perf_counter() - started)
    gc.enable()
    return {name: np.array(times) for name, times in taken.items()}, busy


def _draw(rng: np.random.Generator, batch: int, sizes: tuple[int, ...], dtype: str) -> Task:
    maps = [Affine.initial_params(rng, n_in, n_out) for n_in, n_out in pairwise(sizes)]
    weights, biases = ([group[key].astype(dtype) for group in maps] for key in ("W", "b"))
    x, t = rng.standard_normal((batch, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], batch)
    return Task(batch, sizes, tuple(weights), tuple(biases), x, t)


def _enter_reference(task: Task) -> Call:
    nodes, tip, last = [], "x", len(task.weights) - 1
    for i, (W, b) in enumerate(zip(task.weights, task.biases, strict=True)):
        nodes.append(Node(f"affine{i}", Affine(W, b), (tip,)))
        tip = f"affine{i}"
        if i < last:
            nodes.append(Node(f"relu{i}", ReLU(), (tip,)))
            tip = f"relu{i}"
    network = Network([*nodes, Node("loss", SoftmaxCrossEntropy(), (tip, "t"))], ["x", "t"])
    one, batch = task.x.dtype.type(1), {"x": task.x, "t": task.t}

    def run() -> Any:
        network.forward(batch)
        return network.backward(one), network.grads

    return run


def _enter_torch(task: Task) -> Call:
    import torch
    from torch.nn import functional

    weights = [torch.tensor(W.T.copy(), requires_grad=True) for W in task.weights]  # as torch.nn.Linear keeps them
    biases = [torch.tensor(b, requires_grad=True) for b in task.biases]
    x, t = torch.tensor(task.x, requires_grad=True), torch.tensor(task.t)
    leaves = [x, *weights, *biases]

    def run() -> Any:
        tip = x
        for i, (W, b) in enumerate(zip(weights, biases, strict=True)):
            tip = functional.linear(tip if i == 0 else functional.relu(tip), W, b)
        return torch.autograd.grad(functional.cross_entropy(tip, t), leaves)

    return run


def _enter_jax(task: Task) -> Call:
    import jax

    def find_loss(maps: Any, x: Any, t: Any) -> Any:
        tip = x
        for i, (W, b) in enumerate(maps):
            tip = (tip if i == 0 else jax.nn.relu(tip)) @ W + b
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(tip), t[:, None], axis=1).mean()

    program = jax.jit(jax.value_and_grad(find_loss, argnums=(0, 1)))
    maps = [(jax.numpy.asarray(W), jax.numpy.asarray(b)) for W, b in zip(task.weights, task.biases, strict=True)]
    x, t = jax.numpy.asarray(task.x), jax.numpy.asarray(task.t)
    return lambda: jax.block_until_ready(program(maps, x, t))


def _enter_products(task: Task) -> Call:
    """The matrix products of the three passes alone, in NumPy, on arrays of the same sizes."""
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((task.batch, size)).astype(task.x.dtype) for size in task.sizes]

    def run() -> None:
        for x, W in zip(values, task.weights, strict=False):
            x @ W
        for x, W, dy in zip(values, task.weights, values[1:], strict=False):
            x.T @ dy, dy @ W.T

    return run


def draw(frame: pd.DataFrame) -> Table:
    """Return the table of all contestants."""
    table = Table(
        title="reference layers, forward and backward, one core", caption="reference / it: median of the rounds, quartiles"
    )
    for name in ("network", "dtype", "contestant", "median", "reference / it", "limit", "verdict"):
        table.add_column(name, justify="left" if name in ("network", "dtype", "contestant", "verdict") else "right")
    for row in frame.itertuples():
        ratio = f"[bold]{row.reference_over_it:.3f}[/] ({row.ratio_lower:.3f} to {row.ratio_upper:.3f})"
        limit = "" if pd.isna(row.limit) else f"<= {row.limit:g}"
        colour = "red" if row.verdict == "FAILS" else "default"
        cells = (row.network, row.dtype, row.contestant, f"{row.median_us:,.1f} us", ratio, limit, f"[{colour}]{row.verdict}[/]")
        table.add_row(*cells, end_section=row.contestant == "products")
    return table


if __name__ == "__main__":
    sys.exit(app())
