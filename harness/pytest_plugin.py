"""The pytest plug-in: options of pytest come in, tests of layers with these settings, and what CI shows of them, go out.

pytest imports it at every start, so it imports nothing of the harness, and no framework, until a test or an option asks
for it. What a test found travels with its report, as plain data, so that under pytest-xdist the controlling process tells it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from functools import wraps
from typing import Any, Literal

import pytest

OPTIONS = {
    "seed": "the seed of the trials",
    "cases": "how many trials are run in each dtype",
    "dtypes": "which dtypes are checked, separated by commas",
    "against": "which frameworks differentiate the formula, separated by commas; `none` for none of them",
    "require": "frameworks that must be installed, separated by commas; else nothing runs, and the exit code is 4",
}
NUMBERS = ("seed", "cases")
MARK = "harness_checks"  # of harness.custom.items, which is not imported before it is used
TELLER = "harness-teller"
SETTINGS = pytest.StashKey[dict[str, Any]]()
CHECKED = pytest.StashKey[list[tuple[Any, Any, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of `check_layer`: --harness-seed and so on, and harness_seed and so on in pytest's own settings."""
    group = parser.getgroup("harness", "checks of hand-written layers")
    for name, words in OPTIONS.items():
        kind: Literal["int", "args"] = "int" if name in NUMBERS else "args"
        group.addoption(f"--harness-{name}", type=int if name in NUMBERS else str, default=None, help=words)
        parser.addini(f"harness_{name}", words, type=kind, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings. Raises pytest.UsageError, whose exit code is 4, on a wrong one and on a missing framework."""
    config.addinivalue_line("markers", f"{MARK}(specs, reasons, settings): left on a test by parametrize_with_checks")
    given = {name: value for name in OPTIONS if (value := _read_option(config, name)) is not None}
    if not _is_worker(config):  # else the controlling process did
        for name in given:
            _check_option(name, given)
        config.pluginmanager.register(Teller(), TELLER)
    config.stash[SETTINGS] = given


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which settings hold, where any is given."""
    told = [f"{name} {value if name in NUMBERS else ','.join(value) or 'none'}" for name, value in config.stash[SETTINGS].items()]
    return f"harness: {', '.join(told)}" if told else None


@pytest.fixture
def check_layer(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`harness.check_layer` with the settings of pytest's command line; what a test gives itself comes first.

    Trials in which the test failed before are tried again, as those of `parametrize_with_checks` are.
    """
    from harness.custom.api import check_layer as check
    from harness.custom.remembered import recall
    from harness.custom.report import ConformanceError

    settings, kept = _choose_settings(request.config), request.node.stash.setdefault(CHECKED, [])

    @wraps(check)
    def run(layer: Any, *given: Any, **own: Any) -> Any:
        __tracebackhide__ = True
        again = recall(request.node.nodeid, _name_call(len(kept)))
        try:
            report = check(layer, *given, **{"again": again, **settings, **own})
        except ConformanceError as error:
            kept.append((layer, error.report, again))
            raise
        kept.append((layer, report, again))
        return report

    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the tests of `parametrize_with_checks`: the settings of its call come before those of the command line."""
    for mark in metafunc.definition.iter_markers(MARK):
        from harness.core import BadInput
        from harness.custom.items import collect_checks

        settings = {**_choose_settings(metafunc.config), **mark.kwargs["settings"]}
        try:
            pairs = list(collect_checks(mark.kwargs["specs"], mark.kwargs["reasons"], settings))
        except BadInput as error:
            pytest.fail(f"parametrize_with_checks: {error}", pytrace=False)
        metafunc.parametrize(("layer", "check"), [_make_param(metafunc.config, *pair) for pair in pairs])


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test that passes without having called its check: nothing was checked."""
    check = _find_check(pyfuncitem)
    if check is None:
        return (yield)
    check.run.called.discard(check.name)
    result = yield
    if check.name not in check.run.called:
        pytest.fail("the test never called its check, so that nothing was checked: check(layer)", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what was found into the report of a test that checked layers, and its names into the properties of JUnit's XML."""
    report = yield
    if report.when == "call" or (report.when == "setup" and not report.passed):
        check, kept = _find_check(item), item.stash.get(CHECKED, [])
        if check is not None or kept:
            _tell(item, report, check, kept, str(call.excinfo.value) if call.excinfo else "")
    return report


class Teller:
    """Gathers what the tests of all processes found, and tells it at the end of the run."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.commands: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if found := getattr(report, "harness", None):
            self.found.append(found)

    def pytest_sessionfinish(self) -> None:
        """In GitHub Actions, add to the summary of the step, whether or not there is a terminal to print to."""
        if self.found and os.environ.get("GITHUB_ACTIONS"):
            from harness.custom.told import Told, tell
            from harness.reporters.github import is_in_actions

            told = [Told.from_plain(one) for found in self.found for one in found["told"]]
            self.commands = tell(told) if is_in_actions() else []

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what could not be done, and in GitHub Actions print annotations."""
        notes = Counter(note for found in self.found for note in found["notes"])
        if notes or self.commands:
            terminalreporter.section("harness")
        for line in [*(f"{note} ({count} tests)" for note, count in notes.items()), *self.commands]:
            terminalreporter.write_line(line)


def _tell(item: pytest.Item, report: pytest.TestReport, check: Any, kept: list[tuple[Any, Any, Any]], error: str) -> None:
    """Add to the report of a test what is told at the end of the run, and properties."""
    _keep_trials(item.nodeid, report, kept)
    from harness.custom.remembered import find_obstacle
    from harness.custom.told import tell_check, tell_report

    outcome = "expected" if report.skipped and hasattr(report, "wasxfail") else report.outcome
    place = (str(item.path), (item.location[1] or 0) + 1)
    told = [tell_check(check, outcome, error, place)] if check is not None else []
    told += [tell_report(layer, found, outcome, place) for layer, found, _ in kept]
    properties = [pair for one in told for pair in one.list_properties()]
    item.user_properties += properties
    report.user_properties += properties
    notes = [note for note in (check.note if check is not None else "", find_obstacle(report.failed)) if note]
    report.harness = {"told": [one.to_plain() for one in told], "notes": notes}  # type: ignore[attr-defined]  # reason: reports carry what is added to them to the controlling process


def _keep_trials(test: str, report: pytest.TestReport, kept: list[tuple[Any, Any, Any]]) -> None:
    """Remember the trials of the fixture's calls where the test fails, which may expect what fails; else forget them."""
    from harness.custom.remembered import forget, list_failing, remember

    for number, (_, found, again) in enumerate(kept):
        if report.failed:
            remember(test, _name_call(number), list_failing(found.results))
        elif report.passed:
            forget(test, _name_call(number), again)


def _name_call(number: int) -> str:
    return f"check_layer {number}"


def _read_option(config: pytest.Config, name: str) -> Any:
    """Return the value on the command line, else the one in pytest's settings, else None."""
    value = config.getoption(f"harness_{name}")
    if value is None:
        try:
            value = config.getini(f"harness_{name}")
        except (pytest.UsageError, TypeError, ValueError) as error:
            raise pytest.UsageError(f"harness_{name} in pytest's settings is no {_say_kind(name)}: {error}") from None
    return value if value is None or name in NUMBERS else _split(name, [value] if isinstance(value, str) else value)


def _say_kind(name: str) -> str:
    return "whole number" if name in NUMBERS else "list of names"


def _split(name: str, texts: list[str]) -> list[str]:
    """Return the names in texts that commas or blanks part; of frameworks, `none` alone stands for none of them."""
    names = [part for text in texts for part in text.replace(",", " ").split()]
    if not names:
        raise pytest.UsageError(f"--harness-{name} (harness_{name} in pytest's settings) names nothing; it is {OPTIONS[name]}")
    return [] if name == "against" and names == ["none"] else names


def _check_option(name: str, given: Mapping[str, Any]) -> None:
    from harness.core import BadInput
    from harness.custom.settings import check_settings, find_lack

    try:
        if name != "require":
            check_settings({name: given[name]})
        lack = find_lack(name, given) if name in ("against", "require") else ""
    except BadInput as error:
        lack = str(error)
    if lack:
        raise pytest.UsageError(f"--harness-{name} (harness_{name} in pytest's settings): {lack}")


def _choose_settings(config: pytest.Config) -> dict[str, Any]:
    return {name: value for name, value in config.stash[SETTINGS].items() if name != "require"}


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _find_check(item: pytest.Item) -> Any:
    """Return the check of a test, None where it has none."""
    values = getattr(getattr(item, "callspec", None), "params", {}).values()
    return next((value for value in values if type(value).__module__ == "harness.custom.items"), None)


def _make_param(config: pytest.Config, layer: Any, check: Any) -> Any:
    """Return the parameters of one test; `--dist loadgroup` gives all tests of a layer to one worker, which runs it once."""
    marks = [pytest.mark.xdist_group(layer.name)] if config.pluginmanager.hasplugin("xdist") else []
    return pytest.param(layer, check, id=f"{layer.name}-{check.name}", marks=marks)
