"""Calibration of the noise of strangers' layers: hand-written layers come in, their errors in units of that noise go out.

`python -m benchmarks.noise_calibration` draws random arrays for each layer of `benchmarks.noise_layers`, estimates what
rounding may do to its results (`harness.judge.estimate`) and measures its real errors against the differentiated formula
one precision up. Printed for each layer are the largest error in sigma over correct runs, for a planted fault the
smallest, and how the noise was found. Exit code 1 where a correct run leaves the threshold.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cyclopts import App
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.noise_layers import CORRECT, FAULTY
from harness.core import DTYPES, Array
from harness.floats import FloatFormat, find_format
from harness.isolation import one_thread, quiet
from harness.judge.estimate import THRESHOLD, find_noise
from harness.judge.layer_run import Experiment, make_cast, run_layer
from harness.judge.oracle import HIGHER, find_truth

RESULTS = Path(__file__).parent / "results"
app = App(name="python -m benchmarks.noise_calibration", help="Measure correct and faulty layers against their noise.")


@app.default
def main(*, trials: int = 500, seed: int = 1, dtypes: str = ",".join(DTYPES), out: Path = RESULTS) -> int:
    """Measure, print the table, write `noise_calibration.csv`; return 1 where a correct run leaves the threshold.

    Parameters
    ----------
    trials
        How many random problems of each layer.
    seed
        The seed of the problems.
    dtypes
        Under test, comma-separated.
    out
        The folder of the CSV file.
    """
    trials_of = [(dtype, name) for dtype in dtypes.split(",") for name in (*CORRECT, *FAULTY)]
    records: list[dict[str, Any]] = []
    with one_thread(), quiet():
        for dtype, name in track(trials_of, "noise", console=Console(stderr=True), transient=True):
            records += [measure_trial(name, dtype, seed, trial) for trial in range(trials)]
    rows = summarise(pd.DataFrame(records))
    Console().print(draw(rows))
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "noise_calibration.csv", index=False, float_format="%.4g")
    holds = bool((rows["max"][~rows.faulty] <= THRESHOLD).all())
    Console().print(f"every correct run stays within {THRESHOLD:g} sigma: [bold]{'holds' if holds else 'FAILS'}[/]")
    return 0 if holds else 1


def measure_trial(name: str, dtype: str, seed: int, trial: int) -> dict[str, Any]:
    """Return the largest error of one random problem in sigma, over the output and all gradients, and how sigma was found."""
    kind: Any = {**CORRECT, **FAULTY}[name]
    rng = np.random.default_rng([seed, trial])
    target = find_format(dtype)
    params, inputs = kind.sample(rng)
    params = {key: _store(value, target) for key, value in params.items()}
    inputs = tuple(_store(value, target) for value in inputs)
    dy = _store(rng.standard_normal(kind(**params).forward(*inputs).shape), target)
    returned = run_layer(Experiment(kind, params, inputs, frozenset(), dy), make_cast(target.compute))
    got = {key: _store(value, target) for key, value in returned.items()}
    noise = find_noise(kind, params, inputs, dy, dtype, seed=trial)
    truth = find_truth(kind, params, inputs, dy, HIGHER[dtype])
    true = {"y": truth.y, "dx": truth.dx[0], **{f"d{key}": value for key, value in truth.dparams.items()}}
    errors = {key: np.abs(got[key] - true[key]).astype(float) / sigma for key, sigma in noise.sigma.items()}
    worst = max(errors, key=lambda key: float(errors[key].max()), default="")
    error = float(errors[worst].max()) if worst else float("nan")
    faulty = name in FAULTY
    return {"dtype": dtype, "layer": name, "faulty": faulty, "how": noise.how, "error": error, "worst": worst, "trial": trial}


def _store(value: Array, target: FloatFormat) -> Array:
    """Return the numbers as a network stores them in the dtype, in what its layers compute in."""
    out: Array = value.astype(target.dtype).astype(target.compute)
    return out


def summarise(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each dtype and layer: how often the noise was found each way, and the errors in sigma."""
    rows = []
    for (dtype, layer, faulty), group in found.groupby(["dtype", "layer", "faulty"], sort=False):
        least, most = group.error.min(), group.error.max()
        at = group.sort_values("error", na_position="first").iloc[-1]
        ways = {how: int((group.how == how).sum()) for how in ("hashed", "difference", "unknown")}
        quantiles = {"median": group.error.median(), "99%": group.error.quantile(0.99)}
        found_share = float((group.error > THRESHOLD).mean())
        where = f"{at.worst} of trial {at.trial}"
        rows.append(
            {
                "dtype": dtype,
                "layer": layer,
                "faulty": faulty,
                "trials": len(group),
                **ways,
                "min": least,
                **quantiles,
                "max": most,
            }
            | {"accused": found_share, "worst": where}
        )
    return pd.DataFrame(rows)


def draw(rows: pd.DataFrame) -> Table:
    """Return the table of all layers, the correct ones first."""
    table = Table(title="largest error of a run in standard deviations of the layer's noise")
    for name in rows.columns:
        table.add_column(name, justify="left" if name in ("dtype", "layer", "worst") else "right")
    for row in rows.to_numpy().tolist():
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    return table


if __name__ == "__main__":
    sys.exit(app())
