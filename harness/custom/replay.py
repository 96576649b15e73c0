"""Replay: a case of a user's layer comes in, as JSON; what the layer does with it now goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import Backend, BadInput, Comparison
from harness.custom.api import CHECKS, VALUES
from harness.custom.layer_case import LayerCase, case_from_json, load_spec, make_case_trial
from harness.custom.pieces import judge_trial, list_reasons
from harness.custom.spec import LayerSpec
from harness.shards import Programs


@dataclass(frozen=True, eq=False)
class Replayed:
    """What became of a case: what still fails in words, nothing where the layer is mended, and the judge's rows, if any."""

    case: LayerCase
    failing: tuple[str, ...]
    rows: tuple[Comparison, ...] = ()


def replay(text: str, folder: Path, backends: Sequence[Backend] = ()) -> Replayed:
    """Run the case of a JSON text again, with its layer imported as seen from the folder; backends are run beside it.

    Raises BadInput where the text is no case, or its layer is not there.
    """
    case = case_from_json(text)
    return replay_case(case, load_spec(case, folder), backends)


def replay_case(case: LayerCase, spec: LayerSpec, backends: Sequence[Backend] = ()) -> Replayed:
    """Run a case again on the layer of a specification. Raises BadInput on a check that there is not."""
    if case.check not in CHECKS:
        raise BadInput(f"case.check: {case.check!r}; accepted are {', '.join(CHECKS)}")
    trial = make_case_trial(case, spec)
    failing = tuple(found.message for found in list_reasons(trial, case.check).values())
    rows = judge_trial(trial, list(backends), Programs())[0] if backends and case.check in VALUES else []
    return Replayed(case, failing, tuple(rows))
