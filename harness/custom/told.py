"""Tellings: reports of layers come in, what GitHub Actions shows of them, annotations and a step summary, goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.custom.report import CheckReport, CheckResult, State
from harness.custom.spec import LayerSpec
from harness.isolation import quiet
from harness.reporters.github import (
    Annotation,
    Place,
    add_to_summary,
    find_place,
    format_annotations,
    is_in_actions,
    name_place,
    say,
)
from harness.reporters.markdown import escape
from harness.reporters.words import plural

if TYPE_CHECKING:
    from harness.custom.items import LayerCheck

WORST_FIRST: tuple[State, ...] = ("failed", "unexpected pass", "expected", "passed", "skipped")
MARKS: Mapping[str, str] = {"failed": "❌ ", "unexpected pass": "❌ "}
LONGEST_MESSAGE = 1200
REST = "the log has all of it"


@dataclass(frozen=True)
class Told:
    """Results of one layer with the place of its code."""

    layer: str
    results: tuple[CheckResult, ...]
    place: Place | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return it as dicts, lists and texts, which one process can send to another."""
        return {**asdict(self), "results": [asdict(one) for one in self.results]}

    def list_properties(self) -> list[tuple[str, str]]:
        """Return what JUnit's XML shall name: the layer, frameworks, checks and dtypes, and those in which it fails."""
        names = {"framework": "backend", "check": "check", "dtype": "dtype"}
        found = {name: [getattr(one, field) for one in self.results] for name, field in names.items()}
        found["failing_dtype"] = [one.dtype for one in self.results if one.fails]
        joined = [(name, ", ".join(dict.fromkeys(filter(None, values)))) for name, values in found.items()]
        return [("layer", self.layer), *((name, text) for name, text in joined if text)]

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> Told:
        """Return what `to_plain` made plain."""
        place = Place(**plain["place"]) if plain["place"] else None
        return Told(plain["layer"], tuple(CheckResult(**one) for one in plain["results"]), place)


def tell_reports(reports: Iterable[tuple[Any, CheckReport]]) -> None:
    """In GitHub Actions, print annotations and add to the step's summary; elsewhere do nothing.

    `reports` are pairs of a layer, its LayerSpec, or None where its code is not here, and what `check_layer` returned for it.
    """
    if is_in_actions():
        pairs = [(locate(layer) if report.failures and layer is not None else None, report) for layer, report in reports]
        say(tell([Told(report.layer, report.results, place) for place, report in pairs]))


def tell(told: Sequence[Told]) -> list[str]:
    """Add to the step's summary, and return the workflow commands that annotate the failures."""
    trouble = add_to_summary(compose(told), REST)
    return [*format_annotations(list(annotate(told))), *([trouble] if trouble else [])]


def tell_check(check: LayerCheck, outcome: str, error: str, place: tuple[str, int]) -> Told:
    """Return what a test of one check found; `outcome` is the test's, and `place` where it is, if the layer's is unknown.

    A test that fails for another reason than its check's results, or is skipped without any, has one result that says so.
    """
    spec, results = check.run.spec, _excuse(check.results, outcome)
    if outcome == "skipped" and any(one.state != "skipped" for one in results):
        results = ()
    if (outcome == "failed" and not any(one.fails for one in results)) or (outcome == "skipped" and not results):
        state: State = "failed" if outcome == "failed" else "skipped"
        results = (*results, CheckResult(check.check, "", check.backend, state, error))
    return Told(spec.name, results, _locate_failing(spec, results, place))


def tell_report(layer: Any, report: CheckReport, outcome: str, place: tuple[str, int]) -> Told:
    """Return what a test found that called `check_layer` itself."""
    results = _excuse(report.results, outcome)
    return Told(report.layer, results, _locate_failing(layer, results, place))


def locate(layer: Any) -> Place | None:
    """Return where the layer's class is written: of a specification's factory, what it makes, else itself, else the formula."""
    if not isinstance(layer, LayerSpec):
        return find_place(layer)
    tries: tuple[Callable[[], Any], ...] = (lambda: _find_class(layer), lambda: layer.layer, lambda: layer.formula)
    for find in tries:
        try:
            with quiet():
                place = find_place(find())
        except Exception:  # reason: the factory is a stranger's code; where its class is may stay unknown
            continue
        if place is not None:
            return place
    return None


def annotate(told: Sequence[Told]) -> Iterator[Annotation]:
    """Yield an annotation for each check of each layer and framework that fails, in whichever dtypes."""
    for layer, place, results in _group(told):
        failing = [one for one in results if one.fails]
        if failing:
            first = failing[0]
            words = [first.message, f"diagnosis: {first.diagnosis}" if first.diagnosis else ""]
            yield Annotation(f"{layer}: {_describe(first, failing)}", "\n".join(filter(None, words)), place)


def compose(told: Sequence[Told]) -> str:
    """Return Markdown: whether all conforms, a table of layers and checks by framework, and the failures with their messages."""
    groups = list(_group(told))
    return "\n".join([*_head(groups), *_table(groups), *_failures(groups)]) + "\n"


def _excuse(results: tuple[CheckResult, ...], outcome: str) -> tuple[CheckResult, ...]:
    """Return the results; where the test does not fail, it expects what does."""
    if outcome == "failed":
        return results
    return tuple(replace(one, state="expected") if one.fails else one for one in results)


def _locate_failing(layer: Any, results: Sequence[CheckResult], place: tuple[str, int]) -> Place | None:
    """Return the place of a layer that fails; of others nobody asks."""
    return (locate(layer) or name_place(*place)) if any(one.fails for one in results) else None


Group = tuple[str, Place | None, list[CheckResult]]


def _find_class(spec: LayerSpec) -> Any:
    """Return the class of the layer, unless that is one of the harness, which stands around somebody's object or functions."""
    kind = type(spec.make())
    if kind.__module__.partition(".")[0] == "harness":
        raise LookupError(f"{kind} is not the user's")
    return kind


def _group(told: Sequence[Told]) -> Iterator[Group]:
    """Yield the layer, its place and the results in all dtypes for each check and framework, in the order in which they came."""
    groups: dict[tuple[str, str, str], Group] = {}
    for one in told:
        for result in one.results:
            key = (one.layer, result.check, result.backend)
            _, place, results = groups.get(key, (one.layer, None, []))
            groups[key] = (one.layer, place or one.place, [*results, result])
    yield from groups.values()


def _describe(first: CheckResult, results: Sequence[CheckResult]) -> str:
    dtypes = ", ".join(dict.fromkeys(one.dtype for one in results if one.dtype))
    return f"{first.check} [{first.backend}{f', {dtypes}' if dtypes else ''}]"


def _head(groups: Sequence[Group]) -> Iterator[str]:
    failing = [group for group in groups if any(one.fails for one in group[2])]
    ran = [group for group in groups if any(one.state != "skipped" for one in group[2])]
    layers, wrong = {group[0] for group in groups}, {group[0] for group in failing}
    if failing:
        yield f"# ❌ {len(wrong)} of {plural(len(layers), 'layer')} fail: {len(failing)} of {plural(len(ran), 'check')}"
    elif not ran:
        yield "# ⚠️ No layer was checked"
    else:
        yield f"# ✅ None of {plural(len(layers), 'layer')} fails: {plural(len(ran), 'check')}"


def _table(groups: Sequence[Group]) -> Iterator[str]:
    backends = list(dict.fromkeys(results[0].backend for _, _, results in groups))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for layer, _, results in groups:
        rows.setdefault((layer, results[0].check), {})[results[0].backend] = _show_state(results)
    if rows:
        yield from ("", f"| layer | check | {' | '.join(map(escape, backends))} |", "| --- " * (2 + len(backends)) + "|")
    for (layer, check), cells in rows.items():
        yield f"| {escape(layer)} | {escape(check)} | {' | '.join(cells.get(backend, '–') for backend in backends)} |"


def _show_state(results: Sequence[CheckResult]) -> str:
    """Return the worst state, with the dtypes in which it is so where the others are another."""
    worst = min((one.state for one in results), key=WORST_FIRST.index)
    own = [one for one in results if one.state == worst]
    dtypes = ", ".join(dict.fromkeys(one.dtype for one in own if one.dtype))
    return f"{MARKS.get(worst, '')}{worst}" + (f" in {escape(dtypes)}" if dtypes and len(own) < len(results) else "")


def _failures(groups: Sequence[Group]) -> Iterator[str]:
    failing = [(layer, one) for layer, _, results in groups for one in results if one.fails]
    if failing:
        yield from ("", "## Failures", "", "| layer | check | framework | dtype | what was found |", "| --- " * 5 + "|")
    for layer, one in failing:
        words = f"{one.message}; diagnosis: {one.diagnosis}" if one.diagnosis else one.message
        yield f"| {' | '.join(map(escape, (layer, one.check, one.backend, one.dtype)))} | {escape(words, LONGEST_MESSAGE)} |"
