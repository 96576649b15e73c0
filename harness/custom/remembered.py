"""Memory: trials that failed come in, and go out again in the next run, from the example database of Hypothesis.

An entry is the JSON of a seed, a number and a dtype, under the names of the layer and of the check; what is no such JSON
is passed over. Nothing is written unless something fails, or stops failing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from harness.core import DTYPES
from harness.custom.report import CheckResult
from harness.custom.trials import TrialId, read_trial_id

MOST = 10  # of one check: a database that many runs with many seeds write to must not make the next run long
FIELDS = {"seed", "index", "dtype"}


def recall(layer: str, check: str) -> tuple[TrialId, ...]:
    """Return the trials in which the check failed before, in a fixed order, at most MOST of them."""
    database = _open()
    if database is None:
        return ()
    found = [_read(entry) for entry in database.fetch(_make_key(layer, check))]
    return tuple(sorted({one for one in found if one is not None})[:MOST])


def remember(layer: str, check: str, trials: Iterable[TrialId]) -> None:
    """Keep trials in which the check fails, as long as there is room."""
    database, known = _open(), recall(layer, check)
    if database is None:
        return
    for trial in sorted(set(trials) - set(known))[: MOST - len(known)]:
        database.save(_make_key(layer, check), _write(trial))


def forget(layer: str, check: str, trials: Iterable[TrialId]) -> None:
    """Drop trials in which the check fails no more."""
    database = _open()
    for trial in trials if database is not None else ():
        database.delete(_make_key(layer, check), _write(trial))


def list_failing(results: Iterable[CheckResult]) -> list[TrialId]:
    """Return the trials that show best what fails, of the results for which there is one."""
    found = [read_trial_id(one.case, one.dtype) for one in results if one.state == "failed"]
    return [one for one in found if one is not None]


def find_obstacle(failing: bool) -> str:
    """Return why nothing can be remembered, in words; nothing where it can, or where it is so on purpose and nothing fails."""
    try:
        import hypothesis  # noqa: F401  # reason: it is asked for alone
    except ImportError:
        return "failing trials are not remembered for the next run: Hypothesis is not installed (pip install hypothesis)"
    if failing and _open() is None:
        return "failing trials are not remembered for the next run: Hypothesis's settings have no database, as in CI"
    return ""


def _open() -> Any:
    """Return the database of Hypothesis's settings, None where there is none."""
    try:
        from hypothesis import settings
    except ImportError:
        return None
    return settings.default.database if settings.default is not None else None


def _make_key(layer: str, check: str) -> bytes:
    return f"backprop-harness {layer} {check}".encode()


def _write(trial: TrialId) -> bytes:
    return json.dumps(asdict(trial), sort_keys=True).encode()


def _read(entry: bytes) -> TrialId | None:
    try:
        found = json.loads(entry)
    except ValueError:
        return None
    if not isinstance(found, dict) or set(found) != FIELDS or found["dtype"] not in DTYPES:
        return None
    numbers = (found["seed"], found["index"])
    if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
        return None
    return TrialId(*numbers, found["dtype"])
