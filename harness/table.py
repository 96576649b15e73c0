"""Tables: comparisons, discrepancies and timings come in, pandas frames and CSV files of a run folder go out.

A run folder holds `comparisons.csv`, `discrepancies.csv`, `timings.csv`, `training.csv` (when something was
trained), `cases.jsonl` and `run.json`. The columns are the fields of the dataclasses in `harness.core`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core import BadInput, Case, Comparison, Discrepancy, Timing

COLUMNS: Mapping[str, str] = {
    "case": "id of the case; `harness replay ID` runs it again",
    "network": "digest of the graph with its sizes",
    "hazards": "what was planted, joined by +; empty outside the hazards",
    "backend": "who computed the gradients",
    "variant": "layer (hand-written), formula (differentiated), native (the framework's own op) or numerical",
    "dtype": "float64, float32, bfloat16 or float16",
    "node": "the node of the graph; the input's name for the gradient of an input",
    "layer": "the layer's name; `input` for the gradient of a network input, `fan-out` for a sum of contributions",
    "quantity": "y, dx, dx0, dx1 ..., or d followed by a parameter's name (dW, db)",
    "check": "the checks that ran, joined by +: local (each node on what it received), lifted (the same code one precision "
    "up), network (the whole against the oracle), noise (the same, calibrated), worked (values worked out by hand)",
    "verdict": "what the judge says",
    "decides": "whether the row counts for the exit code; witnesses' rows do not",
    "error_in_bounds": "largest error over its bound, of the checks that ran; above 1 no rounding explains it",
    "local_error_in_bounds": "the same, of the local check alone",
    "network_error_in_bounds": "the same, of the network check alone",
    "noise_error_in_bounds": "the same, of the noise check alone",
    "lifted_error_in_bounds": "the same, of the lifted re-run alone, in bounds of the higher precision",
    "ulps": "largest error in units in the last place of the true value, over the entries that are not 0",
    "relative_to_norm": "norm of the error over norm of the truth",
    "power": "smallest relative error of the whole quantity that would surely have been seen",
    "seen_percent": "share of the entries in which a relative error of 1e-2 would have been seen",
    "seen_millionth": "share of the entries in which a relative error of 1e-6 would have been seen",
    "n_compared": "how many numbers were compared",
    "n_wrong": "how many of them lie outside their bound",
    "worst_index": "where the error is largest, in units of its bound",
    "got": "the value there",
    "expected": "the true value there",
    "culprit": "who is wrong: your layer, a framework, the formula, or nobody; empty where nothing is",
    "message": "what is wrong, in words",
}
EXTRAS = ("training", "conventions", "selftest", "selftest_alarms", "selftest_named")  # what only some run folders hold
TABLES: Mapping[str, type] = {"comparisons": Comparison, "discrepancies": Discrepancy, "timings": Timing}
CATEGORIES = ("network", "hazards", "backend", "variant", "dtype", "node", "layer", "quantity", "check", "verdict")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its tables, its cases as JSON by id, and what is known of it (`info`: seed, versions, counts)."""

    comparisons: pd.DataFrame
    discrepancies: pd.DataFrame
    timings: pd.DataFrame
    training: pd.DataFrame
    cases: Mapping[str, str]
    info: Mapping[str, Any]
    conventions: pd.DataFrame = field(default_factory=pd.DataFrame)
    selftest: pd.DataFrame = field(default_factory=pd.DataFrame)
    selftest_alarms: pd.DataFrame = field(default_factory=pd.DataFrame)
    selftest_named: pd.DataFrame = field(default_factory=pd.DataFrame)


def make_frame(rows: Iterable[Any], kind: type = Comparison) -> pd.DataFrame:
    """Return a frame with one column per field of the dataclass `kind`, also when there are no rows."""
    names = [column.name for column in fields(kind)]
    return pd.DataFrame([tuple(getattr(row, name) for name in names) for row in rows], columns=names)


def open_folder(folder: Path) -> None:
    """Make an empty run folder. Raises BadInput when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in [*(f"{table}.csv" for table in TABLES), "cases.jsonl", "run.json", "training.csv", "conventions.csv"]:
            (folder / name).unlink(missing_ok=True)
        for table, kind in TABLES.items():
            append_rows(folder, table, [], header=[column.name for column in fields(kind)])
    except OSError as error:
        raise BadInput(f"--out {str(folder)!r}: {error.strerror}; accepted is a folder that can be written") from None


def append_rows(folder: Path, table: str, rows: Iterable[Any], header: list[str] | None = None) -> None:
    """Append dataclass rows to a table of the run folder, flushed before it returns, so that nothing finished is lost."""
    names = [column.name for column in fields(TABLES[table])]
    with (folder / f"{table}.csv").open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(header)
        writer.writerows([guard_cell(getattr(row, name)) for name in names] for row in rows)


def append_cases(folder: Path, cases: Iterable[Case]) -> None:
    """Append cases to `cases.jsonl`, one JSON object a line with its id."""
    with (folder / "cases.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": case.id, "case": json.loads(case.to_json())}) + "\n" for case in cases)


def guard_cell(value: Any) -> Any:
    """Return the value as a spreadsheet may see it: text that would be read as a formula gets a quote before it.

    >>> guard_cell("=HYPERLINK(1)"), guard_cell(-1.5), guard_cell("relu")
    ("'=HYPERLINK(1)", -1.5, 'relu')
    """
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def guard_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with every text cell guarded against being read as a formula."""
    text = frame.select_dtypes(exclude=["number", "bool"]).columns
    return frame.assign(**{name: frame[name].astype(object).map(guard_cell) for name in text})


def load_run(folder: Path) -> Run:
    """Read a run folder. Raises BadInput when it holds no run."""
    try:
        info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        tables = {table: _read(folder / f"{table}.csv") for table in TABLES}
        lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"run {str(folder)!r}: {error}; accepted is a folder that `harness run` has written") from None
    paths = {name: folder / f"{name}.csv" for name in EXTRAS}
    extras = {name: pd.read_csv(path) if path.exists() else pd.DataFrame() for name, path in paths.items()}
    records = [json.loads(line) for line in lines]
    return Run(
        cases={record["id"]: json.dumps(record["case"]) for record in records},
        info=info,
        **tables,
        **extras,
    )


def _read(path: Path) -> pd.DataFrame:
    text = {"hazards", "message", "worst_index", "culprit", *CATEGORIES}
    frame = pd.read_csv(path, keep_default_na=False, na_values={}, dtype=dict.fromkeys(text, "str"), low_memory=False)
    for name in frame.columns.difference([*text]):
        if frame[name].dtype == object or str(frame[name].dtype) == "str":
            numbers = pd.to_numeric(frame[name].replace("", "nan"), errors="coerce")
            if numbers.notna().any() or (frame[name].isin(["", "nan"])).all():
                frame[name] = numbers
    return frame.astype({name: "category" for name in CATEGORIES if name in frame})
