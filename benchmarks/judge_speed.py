"""Speed of the judge: networks of Affine, ReLU and softmax come in, what each check costs beside a plain pass goes out.

`python -m benchmarks.judge_speed` runs, in one process on one core and one thread, forward and backward of the
hand-written layers in float32, and in every dtype the judge's checks of what they gave. All take turns in an order drawn
anew for each round; a ratio is the median of the ratios of single rounds, with quartiles, so that a disturbance that
strikes a whole round strikes both. Seconds are processor time, which other processes on the machine do not lengthen.
Required: from width 64 on, the local check with its oracle takes at most 3 times as long as the float32 forward and
backward of the same network. A ratio whose quartiles lie on both sides of the limit is called level: this machine cannot
tell. `bare` is a local check by the same rules written out by hand in NumPy for this very network, and nothing around it
(`benchmarks.bare_check`). Where that alone is above the limit, the verdict is `no room`; what is then required is that the
local check, which knows any layer from its formula, takes at most 3 times as long as the one written out (8 times at width
64, where calls of functions take longer than the arithmetic). `products` is the matrix products in it alone: in float64
for the truth, of absolute values in float32 for the bounds. The other checks are shown without a limit, and so is
recording what the local check reads (`trace`: two passes, with a copy of every array). Above width 256 the lifted re-run
and the noise take seconds each, and are left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cyclopts import App
from rich.console import Console
from rich.table import Table

from benchmarks.bare_check import check_bare, prove
from benchmarks.contest import no_collection
from harness.cases import make_problem
from harness.core import DTYPES, Array, Case, NetworkSpec, NodeSpec, Problem
from harness.discovery import find_backends, find_layers
from harness.isolation import one_thread, quiet
from harness.judge.lifted import judge_lifted, lift_problem
from harness.judge.local import judge_nodes, judge_wiring
from harness.judge.measure import measure as measure_error
from harness.judge.noise import find_spread
from harness.judge.propagate import find_bounds, find_values
from harness.judge.rounding import make_rounding, oracle_margin
from harness.judge.verdict import Bench, find_network
from harness.judge.worked import judge_worked

LAYERS = ("affine", "relu", "softmax_cross_entropy")
WIDTHS, BATCHES, DEPTH = (64, 256, 1024), (32, 128), 3
MOST, PLAIN, BARE, FEWEST = 3.0, "plain pass", "bare", 7
MOST_OVER_BARE = {64: 8.0, 256: 3.0, 1024: 3.0}
SLOW, WIDE = ("lifted", "noise"), 256
DTYPE_ORDER = ("float32", *(name for name in DTYPES if name != "float32"))
RESULTS = Path(__file__).parent / "results"
Call = Callable[[], Any]

app = App(name="python -m benchmarks.judge_speed", help="Measure what each check of the judge costs beside a plain pass.")


@app.default
def main(
    *, seconds: float = 2.0, widest: int = WIDTHS[-1], dtypes: str = ",".join(DTYPE_ORDER), seed: int = 0, out: Path = RESULTS
) -> int:
    """Measure, print the table, write `judge_speed.csv` and return 1 when the local check in float32 is above its limit.

    Parameters
    ----------
    seconds
        How long the rounds of one network and dtype may take; at least 7 rounds are run.
    widest
        The largest width to measure; accepted are 64, 256 and 1024.
    dtypes
        Which dtypes are judged, separated by commas.
    seed
        The seed of the numbers and of the order of turns.
    out
        The folder of the CSV file.
    """
    sizes = [(batch, width) for width in WIDTHS if width <= widest for batch in BATCHES]
    with one_thread(), quiet():
        rows = [row for dtype in dtypes.split(",") for size in sizes for row in measure(*size, dtype, seconds, seed)]
    frame = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "judge_speed.csv", index=False, float_format="%.6g")
    Console(width=150).print(draw(frame))
    return int((frame.verdict == "FAILS").any())


def measure(batch: int, width: int, dtype: str, seconds: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each check of one network in one dtype: its time, and its ratio to the plain pass in float32."""
    found = find_layers()
    layers = {name: found[name] for name in LAYERS}
    network = make_network(batch, width)
    single = make_problem(Case(network, "float32", seed), layers)
    contestants = {PLAIN: enter_plain(single, layers), BARE: enter_bare(single, layers), "products": enter_products(batch, width)}
    contestants |= enter_checks(make_problem(Case(network, dtype, seed), layers), layers)
    contestants = {name: call for name, call in contestants.items() if width <= WIDE or name not in SLOW}
    taken, busy = race(contestants, seconds, np.random.default_rng(seed))
    least, over_bare = (find_quartiles(taken, name, other) for name, other in ((BARE, PLAIN), ("local", BARE)))
    for name, times in taken.items():
        ratio = find_quartiles(taken, name, PLAIN)
        judged = (dtype, name) == ("float32", "local")
        yield {
            "width": width, "batch": batch, "dtype": dtype, "check": name, "rounds": len(times),
            "median_us": 1e6 * np.median(times), "cpu_over_wall": busy, "ratio": ratio.middle, "ratio_lower": ratio.low,
            "ratio_upper": ratio.high, "over_bare": find_quartiles(taken, name, BARE).middle,
            "limit": MOST if judged else None, "limit_over_bare": MOST_OVER_BARE[width] if judged else None,
            "verdict": decide(ratio, least, over_bare, MOST_OVER_BARE[width]) if judged else "",
        }  # fmt: skip


@dataclass(frozen=True)
class Quartiles:
    """The quartiles of the ratios of two contestants' times, round by round."""

    low: float
    middle: float
    high: float


def find_quartiles(taken: Mapping[str, Array], name: str, other: str) -> Quartiles:
    """Return the quartiles of how many times as long as the other one contestant takes."""
    return Quartiles(*map(float, np.quantile(taken[name] / taken[other], [0.25, 0.5, 0.75])))


def decide(local: Quartiles, bare: Quartiles, over_bare: Quartiles, allowed: float) -> str:
    """Return whether the local check holds its limit over a plain pass, or there is no room for any and it holds the other.

    >>> none, usual = Quartiles(6.0, 6.1, 6.2), Quartiles(1.4, 1.5, 1.6)
    >>> [decide(Quartiles(low, low + 0.2, low + 0.4), Quartiles(2.0, 2.1, 2.2), usual, 3.0) for low in (2.0, 2.9, 3.1)]
    ['holds', 'level', 'FAILS']
    >>> decide(Quartiles(9.0, 9.1, 9.2), none, usual, 3.0), decide(Quartiles(40.0, 41.0, 42.0), none, none, 3.0)
    ('no room', 'FAILS')
    """
    if local.low <= MOST:
        return "holds" if local.middle <= MOST else "level"
    crowded = bare.middle > MOST and over_bare.low <= allowed
    return "no room" if crowded else "FAILS"


def make_network(batch: int, width: int) -> NetworkSpec:
    """Return affine maps of one width with ReLU between them and softmax cross-entropy behind the last."""
    nodes, tip = [], "x"
    for i in range(1, DEPTH + 1):
        nodes.append(NodeSpec(f"affine{i}", "affine", (tip,), width))
        nodes.append(NodeSpec(f"relu{i}", "relu", (f"affine{i}",), width))
        tip = f"relu{i}"
    loss = NodeSpec("loss", "softmax_cross_entropy", (f"affine{DEPTH}", "t"), 0)
    return NetworkSpec({"x": width, "t": width}, (*nodes[:-1], loss), batch)


def enter_plain(problem: Problem, layers: Mapping[str, Any]) -> Call:
    """Return forward and backward of the hand-written layers, ready built."""
    program = find_backends()["numpy"].prepare(problem.case.network, problem.case.dtype, layers)
    run: Call = program.phases(problem)["forward+backward"]
    return run


def enter_bare(problem: Problem, layers: Mapping[str, Any]) -> Call:
    """Return the local check written out for this network alone, which has shown that it finds a fault."""
    trace = find_backends()["numpy"].prepare(problem.case.network, problem.case.dtype, layers).trace(problem)
    prove(problem, trace)
    return lambda: check_bare(problem, trace)


def enter_products(batch: int, width: int) -> Call:
    """Return the bare products of the affine maps' three passes: in float64, and of absolute values in float32."""
    rng = np.random.default_rng(0)
    x, W, dy = (rng.standard_normal(shape) for shape in ((batch, width), (width, width), (batch, width)))
    single = [np.abs(value).astype(np.float32) for value in (x, W, dy)]

    def run() -> None:
        for _ in range(DEPTH):
            for a, b, g in ((x, W, dy), single):
                a @ b, a.T @ g, g @ b.T

    return run


def enter_checks(problem: Problem, layers: Mapping[str, Any]) -> dict[str, Call]:
    """Return every check of what the hand-written layers gave on one problem, by name."""
    backend, case = find_backends()["numpy"], problem.case
    program = backend.prepare(case.network, case.dtype, layers)
    outcome, trace = program.run(problem), program.trace(problem)
    rounding = {kind: make_rounding(case.dtype, backend.arithmetic, backend.rule(kind)) for kind in layers.values()}
    unit = max(size for one in rounding.values() for size in (one.u, one.store))
    lifted = lift_problem(problem)
    raised = backend.prepare(case.network, lifted.case.dtype, layers)
    true = find_values(problem, layers)
    pairs = find_bounds(problem, layers, true, rounding.__getitem__)

    def check_the_whole() -> None:
        whole, bounds = find_network(Bench(problem, layers), backend, true.decisions)
        for name, value in whole.gradients.items():
            measure_error(outcome.gradients[name], value, bounds.gradients[name] * oracle_margin(case.dtype), case.dtype)

    def check_locally() -> None:
        judge_nodes(problem, layers, trace, rounding.__getitem__)
        judge_wiring(problem, trace, outcome.gradients, outcome.y, unit)

    return {
        "trace": lambda: program.trace(problem),
        "local": check_locally,
        "lifted": lambda: judge_lifted(
            lifted,
            case.dtype,
            layers,
            raised.trace,
            lambda name, kind: make_rounding(name, backend.arithmetic, backend.rule(kind)),
        ),
        "oracle": lambda: find_values(problem, layers, true.decisions),
        "network": check_the_whole,
        "noise": lambda: find_spread(problem, layers, true, pairs, rounding.__getitem__),
        "worked": lambda: judge_worked(layers, (case.dtype,)),
    }


def race(contestants: Mapping[str, Call], seconds: float, rng: np.random.Generator) -> tuple[dict[str, Array], float]:
    """Return the seconds of each contestant by round, and processor time over wall time."""
    names = list(contestants)
    for run in (*contestants.values(), *contestants.values()):
        run()
    taken: dict[str, list[float]] = {name: [] for name in names}
    started, cpu = time.perf_counter(), time.process_time()
    with no_collection():
        while time.perf_counter() - started < seconds or len(taken[PLAIN]) < FEWEST:
            for place in rng.permutation(len(names)):
                start = time.process_time()
                contestants[names[place]]()
                taken[names[place]].append(time.process_time() - start)
    busy = (time.process_time() - cpu) / (time.perf_counter() - started)
    return {name: np.array(times) for name, times in taken.items()}, busy


def draw(frame: pd.DataFrame) -> Table:
    """Return the table: a row for each network and dtype, a column for each check."""
    checks = [name for name in dict.fromkeys(frame.check) if name != PLAIN]
    table = Table(
        title="cost of the checks, times forward and backward in float32, one core",
        caption=f"median of the rounds; of local the quartiles too; required of local in float32: at most {MOST:g}; where bare "
        f"is above that and leaves no room, at most so many times bare: "
        + ", ".join(f"{most:g} at width {width}" for width, most in MOST_OVER_BARE.items()),
    )
    for name in ("dtype", "width", "batch", PLAIN, *checks, "local/bare", "verdict"):
        table.add_column(name, justify="left" if name in ("dtype", "verdict") else "right")
    for (dtype, width, batch), group in frame.groupby(["dtype", "width", "batch"], sort=False):
        found: dict[str, Any] = {str(row["check"]): row for row in group.to_dict("records")}
        cells = [_draw_ratio(found.get(name)) for name in checks]
        verdict = str(found["local"]["verdict"])
        colour = "red" if verdict == "FAILS" else "default"
        plain = f"{found[PLAIN]['median_us']:,.0f} us"
        cells.append(f"{found['local']['over_bare']:.1f}")
        table.add_row(str(dtype), str(width), str(batch), plain, *cells, f"[{colour}]{verdict}[/]")
    return table


def _draw_ratio(row: Any) -> str:
    if row is None:  # it was left out
        return ""
    spread = f" ({row['ratio_lower']:.1f}-{row['ratio_upper']:.1f})" if row["check"] == "local" else ""
    return f"{row['ratio']:.1f}{spread}"


if __name__ == "__main__":
    sys.exit(app())
