"""`harness replay`: one case comes in, its rows and whether it still fails go out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.commands.console import CONFORMS, MISMATCH, NOTHING_RAN, escape, print_rows, say


def replay(case: str, *, run: Path = Path("reports/latest"), backends: str = "all", shrink: bool = False) -> int:
    """Run one case again, of a network or of a layer that `check_layer` judged: its id, a file of its JSON, or the JSON itself.

    Parameters
    ----------
    case
        An id (found in the run folder, or made again from its seed), a file, or JSON. The case of a layer imports it.
    run
        The run folder in which to look an id up.
    backends
        Backends or frameworks, comma-separated.
    shrink
        Look for the smallest network that fails in the same way, and print its JSON (needs Hypothesis; networks only).
    """
    from harness import runner
    from harness.custom.layer_case import is_case

    names = runner.choose_backends(backends)
    missing = runner.find_missing(names)
    text = _read_text(case)
    if is_case(text):
        return _replay_layer(case, text, [name for name in names if name not in missing])
    found = _find_case(text, run)
    rows = runner.replay_case(found, [name for name in names if name not in missing])
    print_rows(found.id, rows)
    if shrink and any(row.fails for row in rows):
        _shrink(found, names=list(dict.fromkeys(row.backend for row in rows if row.fails)))
    return MISMATCH if any(row.fails for row in rows) else CONFORMS if any(row.n_compared for row in rows) else NOTHING_RAN


def _replay_layer(case: str, text: str, names: list[str]) -> int:
    """Run the case of a user's layer again, beside the backends that differentiate its formula, and say what still fails."""
    from harness.custom.replay import replay
    from harness.discovery import find_backends
    from harness.isolation import quiet

    folder = Path() if text == case else Path(case).resolve().parent
    known = [find_backends()[name] for name in names]
    with quiet():
        done = replay(text, folder, [one for one in known if one.variant in ("layer", "formula") and one.default])
    rows = [row for row in done.rows if row.node != "input"]
    if rows:
        print_rows(f"{done.case.name} {done.case.check} {done.case.dtype}", rows)
    for message in done.failing:
        say(f"[red]{escape(done.case.check)} still fails:[/] {escape(message)}")
    if not done.failing:
        say(f"[green]{escape(done.case.check)} of {escape(done.case.name)} is right in this case[/]")
    return MISMATCH if done.failing else CONFORMS


def _read_text(case: str) -> str:
    """Return the text of a file of JSON, anything else as it is."""
    from harness.core import BadInput

    if case.lstrip().startswith("{") or not case.endswith(".json"):
        return case
    try:
        return Path(case).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        words = getattr(error, "strerror", None) or "it is no text"
        raise BadInput(f"case {case!r}: {words}; accepted is an id, a file of JSON, or JSON") from None


def _find_case(case: str, run: Path) -> Any:
    """Return the case of an id or JSON."""
    import json

    from harness.cases import find_case
    from harness.core import USUAL_DTYPES, case_from_json
    from harness.discovery import find_layers

    if case.lstrip().startswith("{"):
        return case_from_json(case)
    log = run / "cases.jsonl"
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        if f'"{case}"' in line and (record := json.loads(line))["id"] == case:
            return case_from_json(json.dumps(record["case"]))
    return find_case(case, find_layers(), USUAL_DTYPES)


def _shrink(case: Any, names: list[str]) -> None:
    """Print the smallest case found, what it is made of first."""
    from harness.shrink import shrink_case

    small = shrink_case(case, names)
    widths = ", ".join(f"{name} of width {width}" for name, width in small.network.widths.items())
    say(f"smallest case found: {' -> '.join(node.layer for node in small.network.nodes)}, batch {small.network.batch}, {widths}")
    sys.stdout.write(f"{small.to_json()}\n")
