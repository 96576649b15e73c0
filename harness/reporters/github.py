"""GitHub: failures and summaries come in, annotations of lines of code and a part of the step summary of Actions go out.

It is no reporter that a run chooses by name: what it writes belongs to the step of a workflow and not to a folder, so that
the command line and the pytest plug-in call it wherever they run in Actions.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.discovery import find_layers
from harness.reporters import summaries
from harness.reporters.markdown import LIMIT, compose_summary, limit
from harness.reporters.verdict import decide_verdict, locate_failures
from harness.reporters.words import clip, plural

if TYPE_CHECKING:
    from harness.table import Run

MOST = 10  # GitHub shows no more of one step
LONGEST = 4000
LEAST_ROOM = 1000
FULL = "::warning title=harness::the step summary is full, so that nothing was added to it"
MESSAGE = {"%": "%25", "\r": "%0D", "\n": "%0A"}
PROPERTY = {**MESSAGE, ":": "%3A", ",": "%2C"}


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: str
    line: int


@dataclass(frozen=True)
class Annotation:
    """An error as GitHub shows it: beside a line of code where there is a place, else beside the run."""

    title: str
    message: str
    place: Place | None = None


def is_in_actions() -> bool:
    """Tell whether this process runs in GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS", "").lower() not in ("", "0", "false")


def format_annotations(annotations: Sequence[Annotation], most: int = MOST) -> list[str]:
    r"""Return the workflow commands of at most so many annotations, of which the last says how many more there are.

    >>> format_annotations([Annotation("relu: dx", "50 %\nwrong", Place("layers.py", 7))])
    ['::error file=layers.py,line=7,title=relu%3A dx::50 %25%0Awrong']
    """
    if len(annotations) > most:
        rest = Annotation("harness", f"and {len(annotations) - most + 1} more; the step summary and the log tell of them")
        annotations = [*annotations[: most - 1], rest]
    return [_format(one) for one in annotations]


def add_to_summary(text: str, rest: str) -> str:
    """Add Markdown to the summary of this step, cut where it would grow to 1 MiB; `rest` says where the whole of it is.

    Returns the workflow command to print where nothing could be added, else nothing.
    """
    name = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if not name:
        return ""
    path = Path(name)
    try:
        room = LIMIT - (path.stat().st_size if path.exists() else 0)
        if room < LEAST_ROOM:
            return FULL
        with path.open("a", encoding="utf-8") as file:
            file.write(limit(text, room, rest))
    except OSError as error:
        return f"::warning title=harness::{_escape(f'the step summary could not be written: {error}', MESSAGE)}"
    return ""


def say(lines: Sequence[str]) -> None:
    """Print workflow commands: each on a line of its own, which is where GitHub looks for them."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def tell_run(run: Run) -> None:
    """Print annotations of what fails in a run, and add its summary to the step's."""
    say(format_annotations(list(annotate_run(run))))
    if trouble := add_to_summary(compose_summary(run), "all of it is in the CSV files of the run's folder"):
        say([trouble])


def annotate_run(run: Run) -> Iterator[Annotation]:
    """Yield an annotation for each place where comparisons fail, the one with the most first; one where the run fails without."""
    frame = summaries.tidy_comparisons(run.comparisons)
    failures = locate_failures(frame, most=len(frame))
    for one in failures:
        where = f"{one['layer']}.{one['quantity']} [{one['who']}, {one['dtype']}]: {one['verdict']}"
        where += f", wrong is {one['culprit']}" if one["culprit"] else ""
        told = f"{one['message']}\n{plural(one['rows'], 'comparison')}; harness replay {one['case']}"
        yield Annotation(where, told, find_place(find_layers().get(one["layer"])))
    verdict = decide_verdict(frame, run)
    if not failures and verdict.tone != "pass":
        yield Annotation("harness", "\n".join([verdict.headline, verdict.sentence, *verdict.notes]))


def find_place(thing: Any) -> Place | None:
    """Return where a class or function is written, of an object its class, of a wrapper what it wraps; None where nobody knows.

    The file is named from the root of the repository in Actions, elsewhere from the working folder; one outside by its
    whole path.
    """
    source = _unwrap(thing)
    try:
        file, (_, line) = inspect.getsourcefile(source), inspect.getsourcelines(source)
    except (TypeError, OSError):
        return None
    return name_place(file, max(line, 1)) if file else None


def name_place(file: str, line: int) -> Place:
    """Return a line of a file, which is named from the root of the repository where it lies in it."""
    root = os.path.realpath(os.environ.get("GITHUB_WORKSPACE") or os.getcwd())
    near = os.path.relpath(os.path.realpath(file), root)
    return Place(file if near.startswith(os.pardir) else near.replace(os.sep, "/"), line)


def _unwrap(thing: Any) -> Any:
    for _ in range(20):  # wrappers in a circle are somebody's mistake, and no reason to hang
        inner = thing.func if isinstance(thing, partial) else getattr(thing, "wraps", None) or getattr(thing, "__wrapped__", None)
        if inner is None:
            break
        thing = inner
    return thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)


def _format(one: Annotation) -> str:
    place = {"file": one.place.file, "line": str(one.place.line)} if one.place else {}
    properties = {**place, "title": one.title}
    named = ",".join(f"{name}={_escape(text, PROPERTY)}" for name, text in properties.items())
    return f"::error {named}::{_escape(clip(one.message, LONGEST), MESSAGE)}"


def _escape(text: str, signs: dict[str, str]) -> str:
    printable = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate can be printed nowhere
    return "".join(signs.get(letter, letter) for letter in printable)
