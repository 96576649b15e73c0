"""The score of a selftest: the folders of its parts come in; the tables, what is not as it must be, and an exit code go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.discovery import find_layers
from harness.mutations.named import NAMED
from harness.runner import CONFORMS, HARNESS_FAILED, MISMATCH, NOTHING_RAN, USAGE
from harness.selftest.plan import PARTS
from harness.selftest.tables import (
    list_unmet,
    list_unmet_named,
    read_alarms,
    read_trials,
    score,
    score_named,
    share_equivalent,
    write_table,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Score:
    """What came out: the tables, the share of equivalent mutants, and what is not as it must be.

    `parts` are those that ended and those asked for; `monotone` the graded trials in which a smaller fault was never
    found where a larger one was missed, of those in which every size was tried.
    """

    detection: pd.DataFrame
    alarms: pd.DataFrame
    named: pd.DataFrame
    equivalent: float
    monotone: tuple[int, int]
    parts: tuple[int, int]
    unmet: tuple[str, ...]
    status: str
    code: int

    @property
    def untried(self) -> tuple[str, ...]:
        """The named defects that no network had."""
        return tuple(mutation.name for mutation in NAMED if mutation.name not in set(self.named["kind"]))


def read_score(out: Path, asked: Mapping[str, Any], stopped: int = 0) -> Score:
    """Return the score of the parts of a folder; `stopped` is the exit code of what ended the last one too early."""
    folders = [path.parent for path in sorted((out / PARTS).glob("*/asked.json"))]
    trials = read_trials(folder / "trials.csv" for folder in folders)
    alarms = read_alarms(folder / "alarms.csv" for folder in folders)
    detection, named = score(trials), score_named(trials)
    must_try = asked["mutated"] > 0 and set(asked["layers"]) == set(find_layers())
    unmet = [f"{row.backend}, {row.dtype}: {row.false_alarms} false alarms" for row in list_false(alarms)]
    unmet += [*list_unmet(detection, asked["dtypes"], must_try), *list_unmet_named(named)]
    status, code = decide(unmet, alarms, len(trials), stopped)
    return Score(
        detection=detection,
        alarms=alarms,
        named=named,
        equivalent=share_equivalent(trials),
        monotone=_count_monotone(trials),
        parts=(sum((folder / "done.json").exists() for folder in folders), int(asked["parts"])),
        unmet=tuple(unmet),
        status=status,
        code=code,
    )


def _count_monotone(trials: pd.DataFrame) -> tuple[int, int]:
    scanned = trials[trials["scanned"].astype(bool)]
    return int((scanned["broken"] == "").sum()), len(scanned)


def list_false(alarms: pd.DataFrame) -> list[Any]:
    """Return the counts of ours that accuse what is right; a rival's false alarms are its own affair."""
    ours = ~alarms["backend"].astype(str).str.startswith("rival:")
    return list(alarms[(alarms["false_alarms"] > 0) & ours].itertuples())


def decide(unmet: Sequence[str], alarms: pd.DataFrame, trials: int, stopped: int) -> tuple[str, int]:
    """Return the status and the exit code: 0 only with no false alarm and every threshold met."""
    if stopped in (USAGE, HARNESS_FAILED):
        return ("bad input" if stopped == USAGE else "harness failed"), stopped
    if list_false(alarms):
        return "false alarms", MISMATCH
    if stopped:
        return "interrupted", stopped
    if not alarms["rows"].sum() and not trials:
        return "nothing ran", NOTHING_RAN
    return ("not all found", MISMATCH) if unmet else ("conforms", CONFORMS)


def write_score(out: Path, found: Score) -> None:
    """Write `selftest.csv`, `selftest_alarms.csv` and `selftest_named.csv`, each at once."""
    write_table(found.detection, out / "selftest.csv")
    write_table(found.alarms, out / "selftest_alarms.csv")
    write_table(found.named, out / "selftest_named.csv")
