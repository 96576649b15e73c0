"""A seed and sizes come in, a synthetic run goes out: every table filled as a real run fills it, without any framework."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.core import Comparison, Discrepancy, Timing
from harness.table import CATEGORIES, Run, make_frame

BACKENDS = ("numpy", "torch", "jax", "autograd", "numerical")
VARIANTS = (
    ("numpy", "layer"),
    ("torch", "formula"),
    ("torch", "native"),
    ("jax", "formula"),
    ("jax", "native"),
    ("autograd", "formula"),
    ("numerical", "numerical"),
)
LAYERS = ("affine", "relu", "sigmoid", "add", "multiply", "softmax_cross_entropy", "mean_squared_error", "input", "fan-out")
HAZARDS = ("", "", "", "", "", "exact-zeros", "saturated", "huge-logits", "fortran", "batch-0", "exact-zeros+fortran")
QUANTITIES = ("y", "dx", "dW", "db")
DTYPES = ("float64", "float32")
SCRIPT = "<script>alert(1)</script>"
IMAGE = "</script><img src=x onerror=alert(1)>"
RunMaker = Callable[..., Run]


@pytest.fixture(scope="session")
def make_run() -> RunMaker:
    """Return the builder of runs: `make_run(rows=..., failing=..., seed=...)`."""
    return build_run


@pytest.fixture(scope="session")
def empty_run() -> Run:
    """Return a run in which nothing ran."""
    return build_empty_run()


@pytest.fixture(scope="session")
def hostile_run() -> Run:
    """Return a run in which every name and text that a user controls tries to become a part of the page."""
    cells = {
        "layer": SCRIPT,
        "message": IMAGE,
        "backend": SCRIPT,
        "node": IMAGE,
        "case": SCRIPT,
        "hazards": SCRIPT,
        "quantity": IMAGE,
    }
    run = build_run(rows=600, failing=30, **cells)
    timings = run.timings.replace({"backend": {"jax": IMAGE}, "dtype": {"float32": SCRIPT}})
    training = run.training.rename(columns={f"{kind}_jax": f"{kind}_{IMAGE}" for kind in ("loss", "weights_apart")})
    info = {
        **run.info,
        "status": SCRIPT,
        "platform": IMAGE,
        "started": SCRIPT,
        "versions": {SCRIPT: IMAGE},
        "settings": {SCRIPT: [IMAGE]},
        "findings": [{"id": SCRIPT, "reason": IMAGE, "matched": 1}],
        "backends": [{"name": SCRIPT, "status": "unavailable", "version": IMAGE}],
    }
    discrepancies = run.discrepancies.replace({"backend_a": {"numpy": SCRIPT}})
    tables = {"timings": timings, "training": training, "discrepancies": discrepancies}
    return replace(run, info=info, cases={SCRIPT: IMAGE}, **tables)


def build_run(rows: int = 400, failing: int = 0, seed: int = 0, networks: int = 30, steps: int = 60, **changes: Any) -> Run:
    """Return a run of so many comparisons, `failing` of which turn it red; `changes` replace cells of the first row."""
    random = np.random.default_rng(seed)
    comparisons = _comparisons(random, rows, failing, networks)
    for name, value in changes.items():
        column = comparisons[name].astype(object)
        column.iloc[0] = value
        comparisons[name] = column.astype("category") if name in CATEGORIES else column.infer_objects()
    run = Run(
        comparisons=comparisons,
        discrepancies=_discrepancies(random, rows),
        timings=_timings(random, networks),
        training=_training(random, steps),
        cases={name: json.dumps({"dtype": "float64", "seed": 1}) for name in list(comparisons["case"].unique())[:50]},
        info={},
    )
    return replace(run, info=_info(run, failing))


def build_empty_run() -> Run:
    """Return a run in which nothing ran."""
    frames = {"comparisons": Comparison, "discrepancies": Discrepancy, "timings": Timing}
    tables = {name: make_frame([], kind) for name, kind in frames.items()}
    info = {"exit_code": 4, "status": "vacuous", "seed": 0}
    return Run(**tables, training=pd.DataFrame(), cases={}, info=info)


def _comparisons(random: np.random.Generator, rows: int, failing: int, networks: int) -> pd.DataFrame:
    chosen = np.array(VARIANTS)[random.integers(0, len(VARIANTS), rows)]
    number = random.integers(0, max(1, rows // 25), rows)
    layers = np.array(LAYERS)[random.integers(0, len(LAYERS), rows)]
    error = np.clip(10 ** random.normal(-1.7, 0.55, rows), 0, 0.72)
    error[(layers == "relu") | (random.random(rows) < 0.05)] = 0.0
    dtypes = np.array(DTYPES)[random.integers(0, 2, rows)]
    verdict = np.where(random.random(rows) < 0.003, "powerless", "ok").astype(object)
    red = np.arange(rows) < failing
    error[red] = 10 ** random.uniform(0.1, 6, int(red.sum()))
    verdict[red] = np.where(random.random(int(red.sum())) < 0.8, "mismatch", "nonfinite")
    error[verdict == "nonfinite"] = np.nan
    hazards = np.array(HAZARDS)[random.integers(0, len(HAZARDS), rows)]
    verdict[(hazards == "exact-zeros") & ~red & (random.random(rows) < 0.2)] = "convention"
    frame = pd.DataFrame(
        {
            "case": [f"c{one}-{dtype.replace('float', 'f')}-{one:08x}" for one, dtype in zip(number, dtypes, strict=True)],
            "network": [f"{one % networks:08x}" for one in number],
            "hazards": hazards,
            "backend": chosen[:, 0],
            "variant": chosen[:, 1],
            "dtype": dtypes,
            "node": layers,
            "layer": layers,
            "quantity": np.array(QUANTITIES)[random.integers(0, 4, rows)],
            "check": "both",
            "verdict": verdict,
            "decides": red | (chosen[:, 0] != "numerical"),
            "error_in_bounds": error,
            "local_error_in_bounds": error,
            "network_error_in_bounds": error * 0.5,
            "ulps": np.round(error * 40, 1),
            "relative_to_norm": error * 1e-15,
            "power": 1e-9,
            "n_compared": random.integers(1, 4000, rows),
            "n_wrong": np.where(red, 3, 0),
            "worst_index": "(3, 1)",
            "got": random.normal(size=rows),
            "expected": random.normal(size=rows),
            "message": np.where(red, "dW: every element is 0.0625 x the oracle = 1/batch", ""),
        },
        columns=[column.name for column in fields(Comparison)],
    )
    return frame.astype(dict.fromkeys(CATEGORIES, "category"))


def _discrepancies(random: np.random.Generator, rows: int) -> pd.DataFrame:
    pairs = [(a, b) for index, a in enumerate(BACKENDS) for b in BACKENDS[index + 1 :]]
    chosen = np.array(pairs)[random.integers(0, len(pairs), rows)]
    size = 10 ** random.normal(-15.5, 0.6, rows)
    return pd.DataFrame(
        {
            "case": "c0-f64-00000000",
            "dtype": np.array(DTYPES)[random.integers(0, 2, rows)],
            "quantity": "a.dW",
            "backend_a": chosen[:, 0],
            "backend_b": chosen[:, 1],
            "n_compared": random.integers(1, 4000, rows),
            "max_abs": size,
            "max_relative_to_norm": size,
            "max_ulps": np.round(size * 1e16),
            "cosine": 1.0,
        },
        columns=[column.name for column in fields(Discrepancy)],
    )


def _timings(random: np.random.Generator, networks: int) -> pd.DataFrame:
    factors = {"numpy": 1.0, "torch": 2.2, "jax": 1.6, "autograd": 3.4}
    phases = {"forward": 0.4, "backward": 0.6, "forward+backward": 1.0}
    rows = []
    for number in range(networks):
        parameters = int(10 ** random.uniform(1, 5.2))
        base = 2e-5 + parameters * 4e-9
        for dtype in DTYPES:
            size = {"network": f"{number:08x}", "parameters": parameters, "batch": 32}
            place = {**size, "dtype": dtype, "repeats": 20, "threads": 1}
            for backend, factor in factors.items():
                for phase, part in phases.items():
                    ratio = 1.0 if backend == "numpy" else factor * 10 ** random.normal(-0.08 * np.log10(parameters), 0.08)
                    rows.append(place | _time(random, backend, phase, base * part * ratio, ratio))
            rows.append(place | _time(random, "jax", "compile", 0.4, float("nan")))
            rows.append(place | _time(random, "numerical", "numerical", base * 0.8 * parameters, float("nan")))
    return pd.DataFrame(rows, columns=[column.name for column in fields(Timing)])


def _time(random: np.random.Generator, backend: str, phase: str, seconds: float, ratio: float) -> dict[str, Any]:
    median = seconds * 10 ** random.normal(0, 0.03)
    quartiles = {"lower_quartile": median * 0.96, "upper_quartile": median * 1.07}
    return {"backend": backend, "phase": phase, "median": median, **quartiles, "cpu_over_wall": 0.99, "ratio_to_numpy": ratio}


def _training(random: np.random.Generator, steps: int) -> pd.DataFrame:
    if not steps:
        return pd.DataFrame()
    step = np.arange(steps)
    loss = 2.3 * np.exp(-step / 25) + 0.1 + 0.03 * random.normal(size=steps)
    walk = 1e-16 * np.sqrt(step + 1)
    drift = {"numpy": 0.0, "torch": 1.0, "jax": -0.5}
    frame = pd.DataFrame({"step": step})
    for framework in ("numpy", "torch", "jax"):
        frame[f"loss_{framework}"] = loss * (1 + 4 * walk * drift[framework])
        frame[f"accuracy_{framework}"] = np.where(step == steps - 1, 0.962, np.nan)
    for framework, factor in (("torch", 0.7), ("jax", 1.1)):
        frame[f"weights_apart_{framework}"] = walk * factor * (1 + 0.2 * random.random(steps))
        frame[f"rounding_explains_{framework}"] = walk * 3
    return frame.assign(loss_rounding_explains=12 * walk)


def _info(run: Run, failing: int) -> dict[str, Any]:
    arithmetic = {"elementary": 5.0, "flushes": True, "accumulator": "the storage dtype"}
    facts = {"device": "cpu", "threads": "limited to one", "status": "ok", "arithmetic": arithmetic, "message": ""}
    return {
        "seed": 1,
        "settings": {"cases": 500, "backends": list(BACKENDS), "dtypes": list(DTYPES), "layers": None, "jobs": 1},
        "versions": {"python": "3.11.2", "numpy": "2.4.0", "torch": "2.13.0", "jax": "0.10.2", "autograd": "1.9.1"},
        "platform": "Linux-6.1-x86_64",
        "threads": 1,
        "started": "2026-11-23T14:02:11+00:00",
        "seconds": 192.4,
        "phases": {"generate": 3.1, "compile": 88.0, "run": 21.0, "judge": 61.0, "time": 19.3},
        "exit_code": 1 if failing else 0,
        "interrupted": False,
        "status": "mismatch" if failing else "conforms",
        "backends": [{"name": name, "version": "2.13.0", **facts} for name in BACKENDS],
        "counts": {str(name): int(number) for name, number in run.comparisons["verdict"].value_counts().items()},
        "graphs": run.comparisons["network"].nunique(),
        "cases_done": run.comparisons["case"].nunique(),
        "findings": [{"id": "jax-sigmoid-subnormal", "reason": "XLA flushes subnormal numbers to zero", "matched": 3}],
    }
