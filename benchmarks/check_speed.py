"""Speed of `check_layer`: small layers come in, how long the first call takes in a fresh process and how long the next goes out.

`python -m benchmarks.check_speed` checks each layer of the list in processes of its own, with torch and JAX beside it and in
float64 and float32, as a user's first call does. The frameworks are imported before the clock starts; what they compile is
within it. Required of a small layer: at most 5 s for the first call, and 1 s for each one behind it (the median). Seconds are
those of the clock, for that is what a user waits; on a machine with other work they are longer.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cyclopts import App
from rich.console import Console
from rich.table import Table

from harness import LayerSpec, check_layer
from reference_layers import Affine, Sigmoid, SoftmaxCrossEntropy

FIRST, WARM = 5.0, 1.0
CALLS, PROCESSES = 5, 3
RESULTS = Path(__file__).parent / "results"

app = App(name="python -m benchmarks.check_speed", help="Measure the first call of check_layer and those behind it.")


class Swish:
    """x / (1 + exp(-x)), as in the README."""

    def forward(self, x: Any) -> Any:
        self.x, self.s = x, 1 / (1 + np.exp(-x))
        return x * self.s

    def backward(self, dy: Any) -> Any:
        return dy * (self.s + self.x * self.s * (1 - self.s))


def draw_labels(rng: np.random.Generator) -> list[Any]:
    """Return logits, and labels as rows of one 1."""
    return [rng.standard_normal((8, 5)), np.eye(5)[rng.integers(0, 5, 8)]]


def make_affine() -> Any:
    """Return an affine layer of 5 by 3."""
    rng = np.random.default_rng(0)
    return Affine(W=rng.standard_normal((5, 3)), b=rng.standard_normal(3))


LAYERS: dict[str, Callable[[], LayerSpec]] = {
    "swish": lambda: LayerSpec(Swish, lambda xp, params, x: x / (1 + xp.exp(-x)), [(8, 5)]),
    "sigmoid": lambda: LayerSpec(Sigmoid, Sigmoid.formula, [(8, 5)]),
    "affine": lambda: LayerSpec(make_affine, Affine.formula, [(8, 5)], name="affine"),
    "softmax_cross_entropy": lambda: LayerSpec(
        SoftmaxCrossEntropy, SoftmaxCrossEntropy.formula, draw_labels, constants=(1,), name="softmax_cross_entropy"
    ),
}


@app.default
def main(*, processes: int = PROCESSES, out: Path = RESULTS) -> int:
    """Measure, print the table, write `check_speed.csv` and return 1 when a median is above what is required.

    Parameters
    ----------
    processes
        How many fresh processes each layer gets.
    out
        The folder of the CSV file.
    """
    rows = [summarise(name, [run_fresh(name) for _ in range(processes)]) for name in LAYERS]
    table = Table("layer", "first call, s", "next calls, s", "checks", title=f"check_layer, medians of {processes} processes")
    for row in rows:
        table.add_row(row["layer"], f"{row['first']:.2f}", f"{row['warm']:.2f}", str(row["checks"]))
    Console(width=110).print(table)
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(out / "check_speed.csv", index=False)
    slow = [row["layer"] for row in rows if row["first"] > FIRST or row["warm"] > WARM]
    Console(width=110).print(
        f"required of each: at most {FIRST:g} s and {WARM:g} s: {'NOT MET by ' + ', '.join(slow) if slow else 'holds'}"
    )
    return 1 if slow else 0


def run_fresh(name: str) -> dict[str, Any]:
    """Return what a process of its own measured."""
    call = [sys.executable, "-m", "benchmarks.check_speed", "measure", name]
    done = subprocess.run(call, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@app.command
def measure(name: str) -> int:
    """Check one layer, and again, in this process; print the seconds as JSON.

    Parameters
    ----------
    name
        One of the layers.
    """
    import jax.numpy
    import torch

    torch.zeros(1), jax.numpy.zeros(1)  # both are up before the clock starts
    spec, seconds, report = LAYERS[name](), [], None
    for _ in range(CALLS):
        start = time.perf_counter()
        report = check_layer(spec)
        seconds.append(time.perf_counter() - start)
    assert report is not None
    print(json.dumps({"seconds": seconds, "checks": len(report.results)}))
    return 0


def summarise(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the processes: of the first calls, and of those behind them."""
    first = statistics.median(run["seconds"][0] for run in runs)
    warm = statistics.median(second for run in runs for second in run["seconds"][1:])
    return {"layer": name, "first": first, "warm": warm, "checks": runs[0]["checks"]}


if __name__ == "__main__":
    sys.exit(app())
