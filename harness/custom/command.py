"""The check command: targets and settings as words come in, a report for each layer that stands there goes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

from harness.core import DTYPES, BadInput, Status
from harness.custom.api import CHECKS, FRAMEWORKS, check_address, check_layer
from harness.custom.isolated import Isolation, run_isolated
from harness.custom.report import CheckReport
from harness.custom.setting import About, describe
from harness.custom.spec import LayerSpec
from harness.custom.targets import Address, find_specs, read_target
from harness.custom.told import tell_reports
from harness.discovery import choose, find_backends
from harness.isolation import can_limit_memory

ROWS = (".csv", ".json")


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; names are comma-separated or "all", for `against` those installed, or "none"."""

    targets: Sequence[str]
    formula: str = ""
    inputs: str = ""
    dtypes: str = "float64,float32"
    against: str = "all"
    checks: str = "all"
    seed: int = 0
    cases: int = 7
    isolate: bool = False
    timeout: float = 30.0
    memory: float = 2048.0
    require: str = ""
    out: Path | None = None
    shrink: bool = True


@dataclass(frozen=True)
class Survey:
    """A target whose layers are listed, in a guarded process."""

    address: Address
    backends: tuple[str, ...] = ()
    is_single: bool = True

    def split(self) -> list[Survey]:
        """Return nothing smaller: there is none."""
        return [self]

    def lose(self, status: Status, message: str) -> list[tuple[Address, About]]:
        """Raise BadInput: a module that takes its process with it cannot be imported."""
        raise BadInput(f"target {str(self.address)!r} cannot be imported: {status}: {message}")

    def run(self) -> list[tuple[Address, About]]:
        """Return the address of each layer and what is to be known of it."""
        return [(address, describe(spec)) for address, spec in find_specs(self.address)]


def check_targets(asked: Asked, show: Callable[[CheckReport], None]) -> tuple[list[CheckReport], str]:
    """Return a report for each layer of the targets, and what is required and missing, in words; nothing then was run.

    `show` gets each report as it is done. The judge's rows go into the file `out`. Raises BadInput, naming the setting.
    """
    if not asked.targets:
        raise BadInput("targets: none is named; accepted are package.module, path/to/file.py, or either with :name")
    if asked.out is not None and asked.out.suffix not in ROWS:
        raise BadInput(f"--out {str(asked.out)!r}; accepted is a file that ends in {' or '.join(ROWS)}")
    if lost := find_lost(asked):
        return [], lost
    found = list[tuple[LayerSpec | None, CheckReport]]()
    for spec, report in _check_isolated(asked) if asked.isolate else _check_here(asked):
        show(report)
        found.append((spec, report))
    reports = [report for _, report in found]
    if asked.out is not None:
        write_rows(asked.out, reports)
    tell_reports(found)
    return reports, ""


def find_lost(asked: Asked) -> str:
    """Return which frameworks are required, or asked for by name, and are not installed; nothing when all are there."""
    required = [] if not asked.require else choose("framework", asked.require, _list_frameworks())
    named = [] if asked.against in ("all", "none") else choose("framework", asked.against, _list_frameworks())
    lost = [name for name in dict.fromkeys([*required, *named]) if find_spec(name) is None]
    if asked.against == "all" and not _read_against(asked):
        return f"none of {', '.join(FRAMEWORKS)} is installed: install backprop-harness[torch], or ask for none: --against none"
    return "; ".join(f"{name} is required and missing; install backprop-harness[{name}]" for name in lost)


def _list_frameworks() -> dict[str, str]:
    """Return the frameworks that differentiate a formula, by the names of their backends."""
    found = find_backends().values()
    return {one.name: one.framework for one in found if one.variant == "formula" and one.default}


def _read_addresses(asked: Asked) -> list[Address]:
    return [read_target(target, asked.formula, asked.inputs) for target in asked.targets]


def _check_here(asked: Asked) -> Iterator[tuple[LayerSpec | None, CheckReport]]:
    specs: list[LayerSpec] = [spec for address in _read_addresses(asked) for _, spec in find_specs(address)]
    for spec in specs:
        yield spec, check_layer(
            spec, dtypes=_read_dtypes(asked), against=_read_against(asked), checks=_read_checks(asked), seed=asked.seed,
            cases=asked.cases, on_fail="report", shrink=asked.shrink,
        )  # fmt: skip


def _check_isolated(asked: Asked) -> Iterator[tuple[LayerSpec | None, CheckReport]]:
    """Yield the reports; neither the target's module nor anything of it is imported here, so that there is no specification."""
    memory = asked.memory if can_limit_memory() and asked.memory else None
    limits = Isolation(asked.timeout, memory)
    surveys = [Survey(address) for address in _read_addresses(asked)]
    listed = dict(run_isolated(surveys, limits, ()))
    for survey in surveys:
        for address, about in listed[survey]:
            yield None, check_address(
                address, about, dtypes=_read_dtypes(asked), against=_read_against(asked), checks=_read_checks(asked),
                seed=asked.seed, cases=asked.cases, isolate=limits, shrink=asked.shrink,
            )  # fmt: skip


def _read_dtypes(asked: Asked) -> list[str]:
    return choose("dtype", asked.dtypes, dict.fromkeys(DTYPES))


def _read_checks(asked: Asked) -> list[str]:
    return choose("check", asked.checks, CHECKS)


def _read_against(asked: Asked) -> list[str]:
    if asked.against == "none":
        return []
    known = _list_frameworks()
    if asked.against == "all":
        return [name for name in FRAMEWORKS if find_spec(known[name])]
    return choose("framework", asked.against, known)


def write_rows(path: Path, reports: Sequence[CheckReport]) -> None:
    """Write the results of every check and the judge's rows of every layer: as JSON both, as CSV the rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        told = [
            {
                "layer": report.layer, "passed": report.passed, "seconds": round(report.seconds, 3),
                "results": [asdict(result) for result in report.results], "findings": list(report.findings),
                "comparisons": [_drop_nan(asdict(row)) for row in report.comparisons],
            }
            for report in reports
        ]  # fmt: skip
        path.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
        return
    import pandas as pd

    from harness.table import guard_frame

    frame = pd.concat([report.to_frame().assign(layer=report.layer) for report in reports], ignore_index=True)
    guard_frame(frame).to_csv(path, index=False)


def _drop_nan(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with None for what is no finite number: JSON has none."""
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in row.items()}
