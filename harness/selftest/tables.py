"""The kill score's tables: trials and alarms come in as CSV rows, found and missed by kind, size and dtype go out as frames.

A trial is one mutation in one network; it holds for each method the smallest size of the fault that the method finds,
`inf` where it finds none, 0 where a gross fault is found, and `nan` where the method was not asked or accuses the
network even without the fault. Tables are made of trials alone, so that trials of several runs simply add up.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core import DTYPES

SHARE = 0.99
CHECKS = ("local", "lifted", "network", "verdict")
DETECTION = ("method", "kind", "family", "size", "dtype", "networks", "found", "missed", "smallest_99")
ALARMS = ("dtype", "backend", "networks", "rows", "false_alarms")
NAMED = (
    "kind",
    "dtype",
    "networks",
    "vanished",
    "below_noise",
    "excluded_share",
    "asked",
    "found",
    "named",
    "found_share",
    "named_share",
)
MOST_EXCLUDED = 0.20


@dataclass(frozen=True)
class Trial:
    """One mutation in one network: where it was planted, and for each method the smallest size that it finds.

    `equivalent` says that the numbers stayed bit for bit the same at every size; `below_noise` that a named defect changes
    no gradient by more than four times the error that rounding makes there anyway; `told` that the messages named it;
    `broken` which methods found a smaller size and missed a larger one, of the `scanned` trials, in which all were tried.
    """

    network: int
    case: str
    dtype: str
    kind: str
    family: str
    graded: bool
    node: str
    layer: str
    sizes: tuple[float, ...] = ()
    equivalent: bool = False
    below_noise: bool = False
    told: bool = False
    scanned: bool = False
    broken: str = ""
    smallest: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Alarm:
    """What correct layers got from one backend, rival or check: how many rows, and how many of them accuse."""

    dtype: str
    backend: str
    networks: int
    rows: int
    false_alarms: int


@dataclass(frozen=True)
class Threshold:
    """What must be found in 99 % of the networks: a kind of fault, by which method, and the largest size allowed by dtype."""

    kind: str
    method: str
    largest: Mapping[str, float]


THRESHOLDS = (
    Threshold("dW scaled by 1 + e", "local", {"float64": 1e-13, "float32": 5e-5, "bfloat16": 5e-3, "float16": 1e-3}),
    Threshold("dW scaled by 1 + e", "lifted", dict.fromkeys(DTYPES, 1e-12)),
)


def find_smallest(values: Iterable[float], share: float = SHARE) -> float:
    """Return the smallest size that finds the fault in that share of the networks, `inf` when none does, `nan` for no network.

    >>> find_smallest([1e-3] * 99 + [math.inf]), find_smallest([1e-3] * 98 + [math.inf] * 2)
    (0.001, inf)
    """
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered) - 1e-9) - 1] if ordered else math.nan


def list_columns(methods: Sequence[str]) -> list[str]:
    """Return the columns of the trials' CSV: the trial's fields, and one column for each method."""
    return [column.name for column in fields(Trial) if column.name != "smallest"] + [f"by {method}" for method in methods]


def list_cells(trial: Trial, methods: Sequence[str]) -> list[Any]:
    """Return one row of the trials' CSV."""
    own = [getattr(trial, column.name) for column in fields(Trial) if column.name not in ("smallest", "sizes")]
    own.insert(list_columns(()).index("sizes"), " ".join(map(repr, trial.sizes)))
    return [*own, *(trial.smallest.get(method, math.nan) for method in methods)]


def frame_trials(trials: Iterable[Trial], methods: Sequence[str]) -> pd.DataFrame:
    """Return trials as the frame that their CSV gives when it is read."""
    return pd.DataFrame([list_cells(trial, methods) for trial in trials], columns=list_columns(methods))


def read_trials(paths: Iterable[Path]) -> pd.DataFrame:
    """Return the trials of several CSV files as one frame."""
    text = {"case": str, "dtype": str, "kind": str, "family": str, "node": str, "layer": str, "sizes": str, "broken": str}
    parts = [pd.read_csv(path, keep_default_na=False, na_values={}, dtype=text) for path in paths if path.exists()]
    merged = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list_columns(CHECKS))
    for method in list_methods(merged):
        merged[f"by {method}"] = pd.to_numeric(merged[f"by {method}"], errors="coerce")
    return merged


def read_alarms(paths: Iterable[Path]) -> pd.DataFrame:
    """Return the alarms of several CSV files added up."""
    parts = [pd.read_csv(path) for path in paths if path.exists()]
    return add_alarms(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(ALARMS)))


def add_alarms(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the counts of each dtype and backend, in the order of the dtypes."""
    counts = rows.groupby(["dtype", "backend"], as_index=False)[["networks", "rows", "false_alarms"]].sum()
    return _in_order(counts, ["dtype", "backend"])[list(ALARMS)]


def list_methods(trials: pd.DataFrame) -> list[str]:
    """Return the methods that the trials have columns for."""
    return [str(name).removeprefix("by ") for name in trials if str(name).startswith("by ")]


def score(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the detection table: one row for each method, kind, dtype and, for a graded kind, size.

    Equivalent mutants are left out. `networks` are those in which the method was asked and accuses nothing without the
    fault; a size counts as found where it and every larger one are. `smallest_99` stands in each row of a graded kind.
    """
    rows: list[tuple[Any, ...]] = []
    real = trials[~trials["equivalent"].astype(bool)]
    for (kind, family, dtype), group in real.groupby(["kind", "family", "dtype"], sort=False):
        graded = bool(group["graded"].iloc[0])
        sizes = [float(size) for size in str(group["sizes"].iloc[0]).split()] if graded else [math.nan]
        for method in list_methods(trials):
            values = group[f"by {method}"].dropna().tolist()
            least = find_smallest(values) if graded else math.nan
            for size in sizes if values else []:
                found = sum(value <= size if graded else value < math.inf for value in values)
                rows.append((method, kind, family, size, dtype, len(values), found, len(values) - found, least))
    return pd.DataFrame(rows, columns=list(DETECTION))


def score_named(trials: pd.DataFrame) -> pd.DataFrame:
    """Return for each named defect and dtype how many networks it was asked in, left out, found and named in."""
    rows = []
    for (kind, dtype), group in trials[trials["family"] == "named"].groupby(["kind", "dtype"], sort=False):
        vanished = group["equivalent"].astype(bool)
        below = group["below_noise"].astype(bool) & ~vanished
        asked = group[~(vanished | below)]
        seen = asked["by verdict"] < math.inf
        found, named = int(seen.sum()), int((seen & asked["told"].astype(bool)).sum())
        left_out = (int(vanished.sum()) + int(below.sum())) / len(group)
        shares = (found / len(asked), named / len(asked)) if len(asked) else (math.nan, math.nan)
        rows.append((kind, dtype, len(group), vanished.sum(), below.sum(), left_out, len(asked), found, named, *shares))
    return _in_order(pd.DataFrame(rows, columns=list(NAMED)), ["kind", "dtype"])


def share_equivalent(trials: pd.DataFrame) -> float:
    """Return the share of the trials whose mutant is equivalent."""
    return float(trials["equivalent"].astype(bool).mean()) if len(trials) else math.nan


def find_smallest_of(table: pd.DataFrame, kind: str, method: str, dtype: str) -> float:
    """Return the smallest size that the method finds in 99 % of the networks, `nan` when it was not tried."""
    rows = table[(table["kind"] == kind) & (table["method"] == method) & (table["dtype"] == dtype)]
    return float(rows["smallest_99"].iloc[0]) if len(rows) else math.nan


def list_unmet(table: pd.DataFrame, dtypes: Sequence[str], must_try: bool) -> list[str]:
    """Return a sentence for each threshold that is not met; one that was never tried is not met where `must_try`."""
    unmet = []
    for wanted in THRESHOLDS:
        for dtype in [name for name in dtypes if name in wanted.largest]:
            got, largest = find_smallest_of(table, wanted.kind, wanted.method, dtype), wanted.largest[dtype]
            if got > largest or (math.isnan(got) and must_try):
                unmet.append(
                    f"{wanted.kind}, {dtype}, {wanted.method}: found in 99 % from {got:g}; it must be {largest:g} or smaller"
                )
    return unmet


def list_unmet_named(named: pd.DataFrame) -> list[str]:
    """Return a sentence for each named defect that is missed or not named in over 1 %, or left out of too many networks."""
    unmet = []
    for row in named.to_dict("records"):
        where = f"{row['kind']}, {row['dtype']}"
        if row["asked"] and not (row["found_share"] >= SHARE and row["named_share"] >= SHARE):
            unmet.append(f"{where}: found in {row['found_share']:.1%} and named in {row['named_share']:.1%}; it must be 99 %")
        if row["dtype"] in ("float64", "float32") and not row["excluded_share"] <= MOST_EXCLUDED:
            unmet.append(
                f"{where}: {row['excluded_share']:.1%} of the networks were left out; it must be {MOST_EXCLUDED:.0%} or fewer"
            )
    return unmet


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame to CSV at once: a reader sees the old file or the new one, never half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    frame.to_csv(beside, index=False)
    os.replace(beside, path)


def _in_order(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the rows sorted by the columns, dtypes in their own order."""
    places = {name: place for place, name in enumerate(DTYPES)}

    def rank(column: Any) -> Any:
        return column.map(lambda name: places.get(name, len(places))) if column.name == "dtype" else column

    return frame.sort_values(columns, key=rank, kind="stable", ignore_index=True)
