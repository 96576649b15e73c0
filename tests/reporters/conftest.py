"""A seed and sizes come in, a synthetic run goes out: every table filled as a real run fills it, without any framework."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.core import DTYPES as ALL_DTYPES
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
METHODS = ("local", "lifted", "network", "verdict", "gradcheck", "check_grads", "autograd", "allclose", "assert_close")
KINDS = {"dW scaled by 1 + e": "scale", "dx scaled by 1 + e": "scale", "one entry 0": "element", "N - 1 for N": "formula"}
CULPRITS = ("your layer", "torch", "formula")


@dataclass(frozen=True, eq=False)
class FullRun(Run):
    """A run that also holds what only some runs hold."""

    conventions: pd.DataFrame = None  # type: ignore[assignment]  # reason: fields after those with a default need one
    selftest: pd.DataFrame = None  # type: ignore[assignment]  # reason: the same
    selftest_alarms: pd.DataFrame = None  # type: ignore[assignment]  # reason: the same
    selftest_named: pd.DataFrame = None  # type: ignore[assignment]  # reason: the same


@pytest.fixture(scope="session")
def make_run() -> RunMaker:
    """Return the builder of runs: `make_run(rows=..., failing=..., seed=...)`."""
    return build_run


@pytest.fixture(scope="session")
def make_full_run() -> Callable[..., FullRun]:
    """Return the builder of runs in all dtypes with everything that a run can hold."""
    return build_full_run


@pytest.fixture(scope="session")
def full_run() -> FullRun:
    """Return a run in all four dtypes with everything that a run can hold."""
    return build_full_run(rows=4000, failing=20)


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
    run = build_full_run(rows=600, failing=30, **cells, culprit=IMAGE)
    findings = run.comparisons["verdict"].isin(["constant", "reduced-precision"])
    quantities = run.comparisons["quantity"].astype(object).mask(findings, SCRIPT)
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
    tables["comparisons"] = run.comparisons.assign(quantity=quantities)
    tables["conventions"] = run.conventions.replace(
        {"abs": SCRIPT, "torch.max": IMAGE, "jax": SCRIPT, "jax is not installed": IMAGE}
    )
    tables["selftest"] = run.selftest.replace({"one entry 0": SCRIPT, "verdict": IMAGE, "float16": SCRIPT, "element": IMAGE})
    tables["selftest_alarms"] = run.selftest_alarms.replace({"numpy": SCRIPT})
    tables["selftest_named"] = run.selftest_named.replace({"labels smoothed by 1e-3": IMAGE, "bfloat16": SCRIPT})
    return replace(run, info=info, cases={SCRIPT: IMAGE}, **tables)


def build_full_run(**settings: Any) -> FullRun:
    """Return a run in all four dtypes that also holds conventions and a kill score."""
    run = build_run(dtypes=ALL_DTYPES, **settings)
    tables = {column.name: getattr(run, column.name) for column in fields(Run)}
    extras = {"conventions": _conventions(), "selftest": _selftest(), "selftest_alarms": _alarms(), "selftest_named": _named()}
    return FullRun(**{**tables, **extras})


def build_run(
    rows: int = 400,
    failing: int = 0,
    seed: int = 0,
    networks: int = 30,
    steps: int = 60,
    dtypes: tuple[str, ...] = DTYPES,
    **changes: Any,
) -> Run:
    """Return a run of so many comparisons, `failing` of which turn it red; `changes` replace cells of the first row."""
    random = np.random.default_rng(seed)
    comparisons = _comparisons(random, rows, failing, networks, dtypes)
    for name, value in changes.items():
        column = comparisons[name].astype(object)
        column.iloc[0] = value
        comparisons[name] = column.astype("category") if name in CATEGORIES else column.infer_objects()
    run = Run(
        comparisons=comparisons,
        discrepancies=_discrepancies(random, rows),
        timings=_timings(random, networks, dtypes),
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


def _comparisons(random: np.random.Generator, rows: int, failing: int, networks: int, among: tuple[str, ...]) -> pd.DataFrame:
    chosen = np.array(VARIANTS)[random.integers(0, len(VARIANTS), rows)]
    number = random.integers(0, max(1, rows // 25), rows)
    layers = np.array(LAYERS)[random.integers(0, len(LAYERS), rows)]
    error = np.clip(10 ** random.normal(-1.7, 0.55, rows), 0, 0.72)
    error[(layers == "relu") | (random.random(rows) < 0.05)] = 0.0
    dtypes = np.array(among)[random.integers(0, len(among), rows)]
    verdict = np.where(random.random(rows) < 0.003, "powerless", "ok").astype(object)
    red = np.arange(rows) < failing
    error[red] = 10 ** random.uniform(0.1, 6, int(red.sum()))
    verdict[red] = np.where(random.random(int(red.sum())) < 0.8, "mismatch", "nonfinite")
    error[verdict == "nonfinite"] = np.nan
    hazards = np.array(HAZARDS)[random.integers(0, len(HAZARDS), rows)]
    verdict[(hazards == "exact-zeros") & ~red & (random.random(rows) < 0.2)] = "convention"
    coarse = np.isin(dtypes, ALL_DTYPES[2:]) & (chosen[:, 0] == "jax") & (layers == "affine") & ~red
    verdict[coarse] = np.where(random.random(int(coarse.sum())) < 0.6, "reduced-precision", "constant")
    error[coarse] = 10 ** random.uniform(0.1, 3, int(coarse.sum()))
    saturated = hazards == "saturated"
    seen = np.where(saturated, 0.0, random.choice([1.0, 0.98, 0.7], rows))
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
            "seen_percent": seen,
            "seen_millionth": np.where(np.isin(dtypes, ALL_DTYPES[:1]), seen, 0.3 * seen),
            "culprit": np.where(red, np.array(CULPRITS)[random.integers(0, len(CULPRITS), rows)], ""),
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


def _timings(random: np.random.Generator, networks: int, dtypes: tuple[str, ...]) -> pd.DataFrame:
    factors = {"numpy": 1.0, "torch": 2.2, "jax": 1.6, "autograd": 3.4}
    phases = {"forward": 0.4, "backward": 0.6, "forward+backward": 1.0}
    rows = []
    for number in range(networks):
        parameters = int(10 ** random.uniform(1, 5.2))
        base = 2e-5 + parameters * 4e-9
        for dtype in dtypes:
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


def _conventions() -> pd.DataFrame:
    """Return a small atlas: places where all agree, where they part, where one is wrong, and a framework that is missing."""
    nan = float("nan")
    answers = [
        ("relu", "x = 0", "numpy", "ReLU", "ok", 0.0, 0.0, 1.0, True, ""),
        ("relu", "x = 0", "torch", "torch.nn.functional.relu", "ok", 0.0, 0.0, 1.0, True, ""),
        ("relu", "x = 0", "jax", "", "unavailable", nan, 0.0, 1.0, None, "jax is not installed"),
        ("abs", "x = 0", "numpy", "", "unsupported", nan, -1.0, 1.0, None, "no layer is named so"),
        ("abs", "x = 0", "torch", "torch.abs", "ok", 7.0, -1.0, 1.0, False, "in float32 0.25"),
        ("abs", "x = 0", "jax", "", "unavailable", nan, -1.0, 1.0, None, "jax is not installed"),
        ("max", "to the first", "numpy", "", "unsupported", nan, 0.0, 1.0, None, "no layer is named so"),
        ("max", "to the first", "torch", "torch.max", "ok", 1.0, 0.0, 1.0, True, ""),
        ("max", "to the first", "torch", "torch.amax", "ok", 0.5, 0.0, 1.0, True, ""),
        ("max", "to the first", "jax", "", "unavailable", nan, 0.0, 1.0, None, "jax is not installed"),
        ("relu", "x = nan", "numpy", "ReLU", "ok", 0.0, nan, nan, None, ""),
        ("relu", "x = nan", "torch", "torch.nn.functional.relu", "error", nan, nan, nan, None, "ValueError: no"),
        ("relu", "x = nan", "jax", "", "unavailable", nan, nan, nan, None, "jax is not installed"),
    ]
    names = ["operation", "place", "framework", "function", "status", "gradient", "low", "high", "inside", "note"]
    frame = pd.DataFrame(answers, columns=names)
    agrees = frame["operation"].map({"relu": True, "abs": None, "max": False}).astype(object)
    frame = frame.assign(agrees=agrees, version=frame["framework"].map({"numpy": "2.4", "torch": "2.13", "jax": ""}))
    return pd.concat([frame.assign(dtype=dtype) for dtype in ("float32", "float64")], ignore_index=True)


def _selftest() -> pd.DataFrame:
    """Return a detection table: graded kinds at three sizes, gross ones without, a method that never finds one of them."""
    rows = []
    for place, dtype in enumerate(ALL_DTYPES):
        for rank, method in enumerate(METHODS):
            for kind, family in KINDS.items():
                least = float("inf") if method == "allclose" else 10.0 ** (2 * place + rank - 14)
                sizes = (1e-14, 1e-2, 1.0) if family == "scale" else (float("nan"),)
                for size in sizes:
                    found = 300 if not size < least else 12
                    graded = least if family == "scale" else float("nan")
                    rows.append((method, kind, family, size, dtype, 300, found, 300 - found, graded))
    names = ["method", "kind", "family", "size", "dtype", "networks", "found", "missed", "smallest_99"]
    return pd.DataFrame(rows, columns=names)


def _named() -> pd.DataFrame:
    rows = [("labels smoothed by 1e-3", "float64", 300, 0.02, 294, 294, 291, 1.0, 291 / 294),
            ("labels smoothed by 1e-3", "bfloat16", 300, 1.0, 0, 0, 0, np.nan, np.nan)]  # fmt: skip
    names = "kind dtype networks excluded_share asked found named found_share named_share"
    return pd.DataFrame(rows, columns=names.split())


def _alarms() -> pd.DataFrame:
    accusers = ("numpy", "check:verdict", "rival:allclose")
    rows = [(dtype, who, 2500, 90000, 3 * (who != "check:verdict")) for dtype in ALL_DTYPES[::-1] for who in accusers]
    return pd.DataFrame(rows, columns=["dtype", "backend", "networks", "rows", "false_alarms"])


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
