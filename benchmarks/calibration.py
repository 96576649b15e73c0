"""Calibration of the judge: random networks come in, how far below its bounds correct runs stay and what defects show goes out.

`python -m benchmarks.calibration` measures two things on networks of the plan of a run:

- noise: the check against calibrated noise (`harness.judge.noise`), which the judge falls back on where no proven bound
  has power, is forced on every float32 gradient of every network. Printed is the error in units of THRESHOLD standard
  deviations. Every run is a correct one, so that anything of 1 or more would be a false alarm: exit code 1;
- power: the smallest e for which multiplying one random weight gradient dW by 1 + e is found, by each check alone, in
  half and in 99 % of the networks, beside the same for the tolerances of `torch.testing.assert_close` and `np.allclose`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cyclopts import App
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harness.array_api import make_numpy_namespace
from harness.cases import list_hazards, make_problem, plan_cases
from harness.core import USUAL_DTYPES, Array, Backend, NodeTrace, Outcome, Problem
from harness.discovery import find_backends, find_layers
from harness.isolation import one_thread, quiet
from harness.judge.measure import measure
from harness.judge.noise import THRESHOLD, find_spread
from harness.judge.oracle import HIGHER, find_truth
from harness.judge.propagate import exact, find_bounds, find_values, flat
from harness.judge.rounding import make_rounding, oracle_margin
from reference_layers import Rounding

BACKENDS = ("numpy", "torch", "torch:native", "jax", "jax:native", "autograd")
QUANTILES = (0.5, 0.9, 0.99, 0.999)
FOUND = (0.5, 0.99)
TOLERANCES = {
    "assert_close": {"float64": (1e-7, 1e-7), "float32": (1.3e-6, 1e-5)},
    "np.allclose": {"float64": (1e-5, 1e-8), "float32": (1e-5, 1e-8)},
}
RESULTS = Path(__file__).parent / "results"

app = App(name="python -m benchmarks.calibration", help="Measure how far correct runs stay below the judge's bounds.")


@app.default
def main(*, networks: int = 200, seed: int = 1, backends: str = ",".join(BACKENDS), out: Path = RESULTS) -> int:
    """Measure, print the tables, write `calibration_noise.csv` and `calibration_power.csv`; return 1 on a false alarm.

    Parameters
    ----------
    networks
        How many networks; each is drawn once in float32 and once in float64.
    seed
        The seed of the plan.
    backends
        Backends whose float32 gradients are measured against the calibrated noise, comma-separated.
    out
        The folder of the CSV files.
    """
    known = find_backends()
    noise, power = measure_runs(networks, seed, [known[name] for name in backends.split(",")])
    rows, powers = summarise_noise(noise), summarise_power(power)
    Console().print(draw_noise(rows), draw_power(powers))
    out.mkdir(parents=True, exist_ok=True)
    rows.to_csv(out / "calibration_noise.csv", index=False, float_format="%.4g")
    powers.to_csv(out / "calibration_power.csv", index=False, float_format="%.4g")
    holds = bool((rows["max"] < 1).all())
    Console().print(f"every correct run stays below the threshold: [bold]{'holds' if holds else 'FAILS'}[/]")
    return 0 if holds else 1


def measure_runs(networks: int, seed: int, backends: Sequence[Backend]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the ratio of every gradient to its noise, and the smallest defect of every network by check.

    Noise is measured with every hazard, power without any: where a hazard makes a gradient 0 nothing can be found.
    """
    layers, known = find_layers(), find_backends()
    for backend in backends:
        backend.version()  # imports the framework
    noise: list[dict[str, Any]] = []
    power: list[dict[str, Any]] = []
    with one_thread(), quiet():
        for problem in _draw(networks, seed, layers, USUAL_DTYPES[1:], list(list_hazards(layers))):
            noise += find_noise(problem, layers, backends)
        for problem in _draw(networks, seed, layers, USUAL_DTYPES, []):
            power += find_power(problem, layers, known["numpy"], seed)
    return pd.DataFrame(noise), pd.DataFrame(power)


def _draw(
    networks: int, seed: int, layers: Mapping[str, Any], dtypes: Sequence[str], hazards: Sequence[str]
) -> Iterator[Problem]:
    """Yield a problem of each network and dtype, behind a progress bar."""
    draws = len(dtypes)
    plan = plan_cases(draws * networks, seed, layers, dtypes=dtypes, hazards=hazards, draws=draws)
    console, title = Console(stderr=True), "noise" if hazards else "power"
    for cases in track(plan, title, total=networks, console=console, transient=True):
        yield from (make_problem(case, layers) for case in cases)


@dataclass(frozen=True, eq=False)
class Run:
    """What a backend made of a problem, and how it rounds."""

    problem: Problem
    layers: Mapping[str, Any]
    backend: Backend
    outcome: Outcome
    trace: Mapping[str, NodeTrace] | None

    @property
    def rounding_of(self) -> Callable[[Any], Rounding]:
        """The arithmetic that the bounds of a layer class are for."""
        return lambda kind: make_rounding(self.problem.case.dtype, self.backend.arithmetic, self.backend.rule(kind))

    @property
    def decisions(self) -> dict[str, Array]:
        """The branches that the backend took, by node."""
        if self.trace is None:
            return dict(self.outcome.decisions)
        kinds = {node.name: self.layers[node.layer] for node in self.problem.case.network.nodes}
        xp, params = make_numpy_namespace(), self.problem.params
        return {
            name: kinds[name].decisions(xp, params[name], *seen.inputs)
            for name, seen in self.trace.items()
            if hasattr(kinds[name], "decisions")
        }


def run_backend(problem: Problem, layers: Mapping[str, Any], backend: Backend) -> Run | None:
    """Return what the backend makes of the problem, None where it has nothing of its own for the network."""
    program = backend.prepare(problem.case.network, problem.case.dtype, layers)
    return None if program is None else Run(problem, layers, backend, program.run(problem), program.trace(problem))


def find_noise(problem: Problem, layers: Mapping[str, Any], backends: Sequence[Backend]) -> Iterator[dict[str, Any]]:
    """Yield for every backend and gradient its largest error in units of THRESHOLD standard deviations of the noise."""
    for run in filter(None, (run_backend(problem, layers, backend) for backend in backends)):
        true = find_values(problem, layers, run.decisions)
        bound = find_bounds(problem, layers, true, run.rounding_of)
        spread = find_spread(problem, layers, true, bound, run.rounding_of)
        for name, truth in true.gradients.items():
            found = measure(run.outcome.gradients[name], truth, spread[name], problem.case.dtype)
            if found.n_compared:
                where = {"backend": run.backend.name, "case": problem.case.id, "gradient": name}
                yield {**where, "entries": found.n_compared, "ratio": found.error_in_bounds}


def find_power(problem: Problem, layers: Mapping[str, Any], numpy: Backend, seed: int) -> Iterator[dict[str, Any]]:
    """Yield for every check the smallest factor 1 + e on one random weight gradient of the NumPy layers that it finds."""
    names = [node.name for node in problem.case.network.nodes if "W" in problem.params[node.name]]
    run = run_backend(problem, layers, numpy)
    if not names or run is None or run.trace is None:
        return
    node = str(np.random.default_rng([seed, problem.case.seed]).choice(names))
    dtype, got = problem.case.dtype, run.outcome.gradients[f"{node}.W"]
    truth, bounds = find_checks(run, node)
    local_truth, local_bound = find_local(run, node)
    checks = {"local": (local_truth, local_bound), **{name: (truth, bound) for name, bound in bounds.items()}}
    for name, tolerances in TOLERANCES.items():
        relative, absolute = tolerances[dtype]
        checks[name] = truth, absolute + relative * np.abs(truth).astype(np.float64)
    for name, (expected, bound) in checks.items():
        yield {"dtype": dtype, "check": name, "case": problem.case.id, "defect": find_defect(got, expected, bound)}


def find_local(run: Run, node: str) -> tuple[Array, Array]:
    """Return the true dW of a node for the values that it received, and its bound."""
    assert run.trace is not None
    seen, problem = run.trace[node], run.problem
    kind = next(run.layers[spec.layer] for spec in problem.case.network.nodes if spec.name == node)
    truth = find_truth(kind, problem.params[node], seen.inputs, seen.dy, HIGHER[problem.case.dtype])
    pairs = [exact(value) for value in seen.inputs]
    bound = kind.backward_bound(run.rounding_of(kind), flat(problem.params[node]), *pairs, exact(seen.dy))
    return truth.dparams["W"], bound.dparams["W"] * oracle_margin(problem.case.dtype)


def find_checks(run: Run, node: str) -> tuple[Array, dict[str, Array]]:
    """Return the true dW of a node in the whole network, and the bounds of the checks that judge it there."""
    problem, layers, name = run.problem, run.layers, f"{node}.W"
    true = find_values(problem, layers, run.decisions)
    bound = find_bounds(problem, layers, true, run.rounding_of)
    bounds = {"network": bound.gradients[name] * oracle_margin(problem.case.dtype)}
    if problem.case.dtype == "float32":  # the judge uses noise there alone
        bounds["noise"] = find_spread(problem, layers, true, bound, run.rounding_of)[name]
    return true.gradients[name], bounds


def find_defect(got: Array, truth: Array, bound: Array) -> float:
    """Return the smallest e > 0 for which got * (1 + e) leaves the bound somewhere; infinite where there is none.

    Where the gradient is g and its error g - t, that is (bound - sign(g) (g - t)) / |g|.

    >>> round(find_defect(np.array([2.0, 0.0]), np.array([1.9, 0.0]), np.array([0.3, 1e-9])), 3)
    0.1
    """
    value = got.astype(truth.dtype)
    slack = bound - np.sign(value) * (value - truth)
    usable = (value != 0) & np.isfinite(value) & np.isfinite(truth)
    return max(0.0, float((slack[usable] / np.abs(value[usable])).min(initial=np.inf)))


def summarise_noise(found: pd.DataFrame) -> pd.DataFrame:
    """Return quantiles and the maximum of the ratio by backend.

    Columns: backend, gradients, entries, one for each quantile, max, and the case and gradient of the maximum.
    """
    rows = []
    for backend, group in found.groupby("backend", sort=False):
        worst = group.sort_values("ratio").iloc[-1]
        rows.append(
            {
                "backend": backend,
                "gradients": len(group),
                "entries": int(group.entries.sum()),
                **{f"{quantile:.1%}": float(group.ratio.quantile(quantile, interpolation="higher")) for quantile in QUANTILES},
                "max": float(worst.ratio),
                "worst": f"{worst.case} {worst.gradient}",
            }
        )
    return pd.DataFrame(rows)


def summarise_power(found: pd.DataFrame) -> pd.DataFrame:
    """Return the defect that is found in 50 % and in 99 % of the networks: columns dtype, check, networks, 50 %, 99 %."""
    rows = []
    for (dtype, check), group in found.groupby(["dtype", "check"], sort=False):
        shares = {f"{share:.0%}": float(group.defect.quantile(share, interpolation="higher")) for share in FOUND}
        rows.append({"dtype": dtype, "check": check, "networks": len(group), **shares})
    return pd.DataFrame(rows)


def draw_noise(rows: pd.DataFrame) -> Table:
    """Return the table of correct runs against the noise."""
    title = f"correct float32 runs: largest error of a gradient / ({THRESHOLD:g} standard deviations of calibrated noise)"
    table = Table("backend", title=title)
    for name in rows.columns[1:]:
        table.add_column(name, justify="left" if name == "worst" else "right")
    for row in rows.to_numpy().tolist():
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    return table


def draw_power(rows: pd.DataFrame) -> Table:
    """Return the table of the smallest defects that are found."""
    table = Table("dtype", "check", title="smallest defect of one random dW found in so many networks")
    for name in rows.columns[2:]:
        table.add_column(name, justify="right")
    for row in rows.to_numpy().tolist():
        table.add_row(*(f"{value:.2g}" if isinstance(value, float) else str(value) for value in row))
    return table


if __name__ == "__main__":
    sys.exit(app())
