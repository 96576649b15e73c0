"""Markdown: a run comes in, a summary goes out that a pull request or a step summary of CI can show."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.reporters import evidence, summaries, words
from harness.reporters.conventions import Answer, find_atlas
from harness.reporters.kill_score import find_kill_score
from harness.reporters.verdict import decide_verdict

if TYPE_CHECKING:
    import pandas as pd

    from harness.table import Run

LIMIT = 2**20  # GitHub refuses a longer step summary
MOST_FAILURES = 20
MOST_ROWS = 300
LONGEST_NAME = 60
LONGEST_TEXT = 400
MARKS = {"pass": "✅", "fail": "❌", "empty": "⚠️"}
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~^$:])")
COUNTS = {"networks": "networks", "rows": "comparisons", "false_alarms": "false alarms"}
Column = tuple[str, Callable[[Mapping[str, Any]], str]]


@dataclass(frozen=True)
class MarkdownReporter:
    """Writes `summary.md`, of less than 1 MiB however long the run was."""

    name: str = "markdown"
    summary: str = "summary.md: verdict, grid, first failures with how to replay them, timings; below 1 MiB"

    def write(self, run: Run, folder: Path) -> list[Path]:
        path = folder / "summary.md"
        path.write_text(compose_summary(run), encoding="utf-8")
        return [path]


REPORTER = MarkdownReporter()


def compose_summary(run: Run) -> str:
    """Return the summary as Markdown."""
    frame = summaries.tidy_comparisons(run.comparisons)
    parts = (
        _head,
        _known,
        _failures,
        _culprits,
        _grid,
        _hazards,
        _arithmetic,
        _power,
        _kinks,
        _score,
        _timings,
        _numerical,
        _training,
        _origin,
    )
    return limit("\n".join(line for part in parts for line in part(frame, run)) + "\n")


def escape(text: object, most: int = LONGEST_TEXT) -> str:
    r"""Return text that Markdown shows as it is, on one line, within a table or without.

    >>> escape("a|b `c` <img>\n*d*")
    'a\\|b \\`c\\` &lt;img&gt; \\*d\\*'
    """
    return SPECIAL.sub(r"\\\1", html.escape(_line(text, most), quote=False)).replace("@", "&#64;")


def quote(text: object) -> str:
    """Return text as code, from which nothing can break out: a backtick and a bar turn into their likes.

    >>> quote("harness replay a`b|c")
    "`harness replay a'b¦c`"
    """
    return f"`{_line(text, LONGEST_TEXT).replace('`', chr(39)).replace('|', '¦')}`"


def _line(text: object, most: int) -> str:
    """Return the text on one line, without what cannot be printed."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words.clip(text, most)).split())


def _head(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    verdict = decide_verdict(frame, run)
    yield from (f"# {MARKS[verdict.tone]} {escape(verdict.headline)}", "", escape(verdict.sentence), "")
    yield from (f"- {escape(name)}: {escape(value)}" for name, value in verdict.facts)
    yield from (f"- {escape(note)}" for note in verdict.notes)


def _known(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    columns = (_text("id", "finding"), _text("reason"), _text("matched", "rows matched"))
    yield from _section("Known findings", run.info.get("findings", ()), columns)


def _failures(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    failing = summaries.failing_rows(frame)
    columns = (
        _text("verdict"),
        *([_text("culprit", "who is wrong")] if failing["culprit"].ne("").any() else []),
        *(_text(name) for name in ("layer", "node", "quantity")),
        _text("who", "backend"),
        _text("dtype"),
        _number("error_in_bounds", "worst in bounds", words.measure),
        _text("message", most=LONGEST_TEXT),
        ("replay", lambda row: quote(f"harness replay {row['case']}")),
    )
    yield from _section("Failures", summaries.list_records(failing.head(MOST_FAILURES)), columns, len(failing))


def _grid(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    counts = summaries.count_verdicts(frame, ["layer", "who", "dtype"])
    shown = summaries.list_records(counts.head(MOST_ROWS))
    yield from _section("Layers and backends", shown, _verdicts("layer", "who", "dtype"), len(counts))


def _hazards(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    yield from _section("Hazards", summaries.list_records(summaries.tally_hazards(frame).head(MOST_ROWS)), _verdicts("hazard"))


def _culprits(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    rows = evidence.count_culprits(frame)
    columns = (
        _text("culprit", "who is wrong"),
        _text("layer"),
        _text("dtypes"),
        _number("rows", "rows", words.count),
        _number("fails", "failing", words.count),
        _number("worst", "worst in bounds", words.measure),
    )
    yield from _section("Which one is wrong", rows[:MOST_ROWS], columns, len(rows))


def _arithmetic(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    rows = evidence.list_arithmetic(frame)
    columns = (
        _text("saying", "finding"),
        _text("who", "backend"),
        *(_text(name) for name in ("layer", "quantity", "dtype")),
        ("rows", lambda row: f"{words.count(row['rows'])} of {words.count(row['of'])}"),
        _number("worst", "worst factor", words.measure),
    )
    yield from _section("Findings about arithmetic", rows[:MOST_ROWS], columns, len(rows))


def _power(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    power = evidence.describe_power(frame)
    shares = (_number("entries", "entries", words.rough_count), ("1 %", _seen("seen_percent")), ("1e-6", _seen("seen_millionth")))
    columns = (_text("layer"), _text("dtype"), _text("who", "backend"), *shares)
    yield from _section("Could an error have been seen?", power["rows"][:MOST_ROWS], columns, len(power["rows"]))
    if power["blind"]:
        yield from ("", f"{words.plural(power['blind'], 'case')} of {words.count(power['cases'])} can show nothing.")
    if power["rows"]:
        yield from ("", power["checks"])


def _seen(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "nothing" if row["blind"] else words.share(row[name])


def _kinks(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    atlas = find_atlas(run)
    if atlas is None:
        return
    columns: tuple[Column, ...] = (
        *(_text(name) for name in ("operation", "place")),
        _text("interval", "right gradients"),
        *((escape(name), _answer(index)) for index, name in enumerate(atlas.frameworks)),
        _text("agrees", "all"),
    )
    yield from _section("What each framework returns at a kink", [vars(kink) for kink in atlas.kinks[:MOST_ROWS]], columns)
    outside = f"{words.plural(atlas.outside, 'gradient')} outside the interval of right ones"
    yield from ("", f"The frameworks part at {words.plural(atlas.parted, 'place')}; {outside} (❌).")
    yield from (f"- {escape(note)}" for note in atlas.missing)


def _answer(index: int) -> Callable[[Mapping[str, Any]], str]:
    def show(answer: Answer) -> str:
        mark = "❌ " if answer.tone == "bad" else ""
        return f"{mark}{escape(answer.text)}" + (f" ({escape(answer.function, LONGEST_NAME)})" if answer.function else "")

    return lambda row: ", ".join(map(show, row["answers"][index]))


def _score(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    score = find_kill_score(run)
    if score is None:
        return
    smallest = [(escape(dtype), _cell(index, lambda cell: escape(cell))) for index, dtype in enumerate(score.dtypes)]
    found = [(escape(dtype), _cell(index, lambda cell: words.share(cell["share"]))) for index, dtype in enumerate(score.dtypes)]
    title = f"Kill score: smallest defect found in 99 % ({escape(score.headline)})"
    yield from _section(title, score.by_method[:MOST_ROWS], (_text("method"), *smallest))
    columns = (_text("kind", "fault"), _text("family"), _text("size"), *found)
    yield from _section(f"Kill score: found by {escape(score.judge)}", score.by_kind[:MOST_ROWS], columns)
    counts = (_number(name, title, words.count) for name, title in COUNTS.items())
    shares = [(word, lambda row, key=f"{word}_share": words.share(row[key])) for word in ("excluded", "found", "named")]
    named = summaries.list_records(score.named.head(MOST_ROWS))
    yield from _section("Kill score: known mistakes", named, (_text("kind", "mistake"), _text("dtype"), *shares))
    alarms = summaries.list_records(score.alarms.head(MOST_ROWS))
    yield from _section("Kill score: false alarms", alarms, (_text("dtype"), _text("backend", "accuser"), *counts))


def _cell(index: int, show: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: words.MISSING if row["cells"][index] is None else show(row["cells"][index])


def _timings(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    table = summaries.summarise_timings(run.timings)
    columns = (
        *(_text(name) for name in ("phase", "dtype", "backend")),
        _number("networks", "networks", words.count),
        _number("seconds", "median", words.seconds),
        _number("spread", "spread", words.share),
        _number("ratio", "ratio to NumPy", words.times),
        ("quartiles", lambda row: f"{words.times(row['low'])} to {words.times(row['high'])}"),
    )
    yield from _section("Timings", summaries.list_records(table.head(MOST_ROWS)), columns, len(table))


def _numerical(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    numerical = frame[summaries.is_numerical(frame)]
    counts = summaries.list_records(summaries.count_verdicts(numerical, ["who", "dtype"]))
    yield from _section("Numerical differentiation", counts, _verdicts("who", "dtype"))
    speed = summaries.compare_speed(run.timings)
    columns = (
        _number("parameters", "parameters", words.count),
        _text("dtype"),
        _number("numerical", "numerical", words.seconds),
        _number("backprop", "backpropagation", words.seconds),
        _number("speedup", "times faster", words.times),
    )
    ends = summaries.smallest_and_largest(speed)
    yield from _section("Backpropagation over numerical differentiation", summaries.list_records(ends), columns, len(speed))


def _training(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    accuracies = summaries.final_accuracies(run.training)
    columns = (
        *(_text(name) for name in ("what", "framework")),
        _number("largest", "largest distance from NumPy", words.measure),
        _text("explained", "explained by rounding"),
        _text("beyond", "steps that rounding does not explain"),
    )
    rows = [{**row, "explained": _known_or_not(row["explained"])} for row in summaries.summarise_parting(run.training)]
    yield from _section("Training", rows[:MOST_ROWS], columns)
    if accuracies:
        yield from ("", "Test accuracy: " + ", ".join(f"{escape(name)} {words.share(one)}" for name, one in accuracies.items()))


def _known_or_not(number: float | None) -> str:
    return "unknown" if number is None else words.measure(number)


def _origin(frame: pd.DataFrame, run: Run) -> Iterator[str]:
    yield from ("", "## Run", "")
    yield from (f"- {escape(name)}: {escape(value, 2 * LONGEST_TEXT)}" for name, value in words.describe(run.info))
    backends = [_backend(one) for one in run.info.get("backends", ())]
    yield from (f"- backend {line}" for line in backends[:MOST_ROWS])


def _backend(backend: Mapping[str, Any]) -> str:
    told = [words.setting(backend[key]) for key in ("status", "version", "device", "arithmetic") if backend.get(key)]
    return f"{escape(backend.get('name', ''), LONGEST_NAME)}: {escape(', '.join(told))}"


def _section(title: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], total: int | None = None) -> Iterator[str]:
    """Yield a heading and a table, which says how many of how many rows it shows; nothing at all where there are none."""
    listed = list(rows)
    if not listed:
        return
    yield from ("", f"## {title}", "")
    if total is not None and total > len(listed):
        yield from (f"Showing {words.count(len(listed))} of {words.count(total)}; all are in the CSV files.", "")
    yield f"| {' | '.join(name for name, _ in columns)} |"
    yield f"|{' --- |' * len(columns)}"
    yield from (f"| {' | '.join(cell(row) for _, cell in columns)} |" for row in listed)


def _verdicts(*keys: str) -> tuple[Column, ...]:
    """Return the columns of a table of verdicts: its keys, how many rows are ok, what fails, and the worst error."""
    return (
        *(_text(key, {"who": "backend"}.get(key)) for key in keys),
        ("ok of rows", lambda row: f"{words.count(row['ok'])} of {words.count(row['rows'])}"),
        _number("powerless", "powerless", words.count),
        ("failing", lambda row: f"❌ {words.count(row['fails'])}" if row["fails"] else "0"),
        _number("worst", "worst in bounds", words.measure),
    )


def _text(key: str, title: str | None = None, most: int = LONGEST_NAME) -> Column:
    return title or key, lambda row: escape(row.get(key, ""), most)


def _number(key: str, title: str, show: Callable[[float], str]) -> Column:
    return title, lambda row: show(float(row[key]))


def limit(text: str, most: int = LIMIT, rest: str = "all of it is in the CSV files") -> str:
    """Return the text; where it has `most` bytes or more, cut at the end of a line, with a sentence that says so."""
    if len(text.encode()) < most:
        return text
    note = f"\n\nThe rest is cut; {rest}.\n"
    kept = text.encode()[: max(most - len(note.encode()) - 1, 0)].decode(errors="ignore")
    return kept.rpartition("\n")[0] + note
