"""Items: layers of anybody's come in, one named check after the other, ready for a test runner, goes out.

The checks of one layer share one run of it: the first that is called runs everything, the others read what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core import BadInput
from harness.custom.remembered import MOST, forget, list_failing, recall, remember
from harness.custom.report import CheckReport, CheckResult, ConformanceError
from harness.custom.spec import LayerSpec
from harness.custom.trials import TrialId

OWN = "numpy"
PER_BACKEND = ("forward", "gradients")
MARK = "harness_checks"
Reasons = Mapping[str, Mapping[str, str]] | Callable[[LayerSpec], Mapping[str, str]]


@dataclass(eq=False)
class SharedRun:
    """One run of a layer, made when a check first asks for it; `called` holds the checks that were."""

    spec: LayerSpec
    settings: Mapping[str, Any]
    report: CheckReport | None = None
    error: Exception | None = None
    recalled: dict[str, tuple[TrialId, ...]] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)

    def read(self, checks: Iterable[str]) -> CheckReport:
        """Return the report; what failed on the way to it fails every check. `checks` are those to remember trials of."""
        __tracebackhide__ = True
        if self.error is not None:
            raise self.error.with_traceback(None)
        if self.report is None:
            self.report = self._run(checks)
        return self.report

    def _run(self, checks: Iterable[str]) -> CheckReport:
        from harness.custom.api import check_layer

        self.recalled = {name: recall(self.spec.name, name) for name in checks}
        again = sorted({one for found in self.recalled.values() for one in found})[:MOST]
        self.recalled = {name: tuple(one for one in found if one in again) for name, found in self.recalled.items()}
        try:
            return check_layer(self.spec, **{"shrink": True, **self.settings, "on_fail": "report", "again": again})
        except Exception as error:  # reason: it is kept, for every check to raise
            self.error = error
            raise


@dataclass(frozen=True, eq=False)
class LayerCheck:
    """One check of one layer on one backend: called with the layer's specification, it raises where the layer fails it.

    `lack` says why the backend cannot take part; where that is `excused`, the check is skipped, else it fails.
    """

    check: str
    backend: str
    run: SharedRun = field(repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)
    lack: str = field(default="", repr=False)
    excused: bool = field(default=False, repr=False)

    @property
    def name(self) -> str:
        """The check and, where it is another's than the layer's own, the backend."""
        return _name(self.check, self.backend)

    @property
    def note(self) -> str:
        """What must be said at the end of a run, lest skipped checks pass for passed ones."""
        needed = f"{self.lack}; checks of it are skipped, and --harness-require {self.backend} makes that an error"
        return needed if self.lack and self.excused else ""

    @property
    def results(self) -> tuple[CheckResult, ...]:
        """What the check found, one result for each dtype; nothing before the layer was run."""
        if self.lack:
            return (CheckResult(self.check, "", self.backend, "skipped" if self.excused else "failed", self.lack),)
        found = self.run.report.results if self.run.report else ()
        return tuple(one for one in found if (one.check, one.backend) == (self.check, self.backend))

    def __call__(self, layer: Any = None) -> None:
        """Raise ConformanceError where this check fails, in any dtype, or never ran.

        Under pytest, a check that does not apply is skipped, one that may fail and does ends as xfailed, and one that may
        fail and does not fails as a strict xfail does. Raises BadInput where it is called with another layer than its own.
        """
        __tracebackhide__ = True
        self.run.called.add(self.name)
        if layer is not None and layer is not self.run.spec:
            raise BadInput(f"layer: {layer!r:.80} is not the one of this check; accepted is {self.run.spec.name}'s specification")
        report = CheckReport(self.run.spec.name, (), ()) if self.lack else self.run.read(self.names or (self.name,))
        own = self.results
        self._keep_trials(own)
        if not own or any(one.state == "failed" for one in own):
            raise _fail(report, own, self.backend)
        if any(one.state == "unexpected pass" for one in own):
            _fail_strictly(own)
        if any(one.state == "expected" for one in own):
            _expect(own)
            raise _fail(report, _take_for_failures(own), self.backend)  # with --runxfail, pytest goes on to here
        if all(one.state == "skipped" for one in own):
            _skip(own[0].message)

    def _keep_trials(self, own: Iterable[CheckResult]) -> None:
        """Remember the trials in which the check fails for the next run, and forget those in which it does no more."""
        layer, passed = self.run.spec.name, {one.dtype for one in own if one.state == "passed"}
        remember(layer, self.name, list_failing(own))
        forget(layer, self.name, [one for one in self.run.recalled.get(self.name, ()) if one.dtype in passed])


def layer_checks_generator(layer: LayerSpec, **settings: Any) -> Iterator[tuple[LayerSpec, LayerCheck]]:
    """Yield every check of a layer with its specification; `settings` are those of `check_layer`.

    The options of pytest's command line are not among them: `parametrize_with_checks` knows those. Raises BadInput on
    anything but a LayerSpec, and on wrong settings. A framework that is not installed fails the checks that need it, where
    `against` names it, and else skips them, with the reason.
    """
    from harness.custom.settings import check_settings, choose_checks, choose_frameworks

    if not isinstance(layer, LayerSpec):
        raise BadInput(f"layers: {layer!r:.80}; accepted are specifications: LayerSpec(layer, formula, inputs)")
    check_settings(settings)
    frameworks = choose_frameworks(settings)
    shared = SharedRun(layer, {**settings, "against": frameworks.ready})
    pairs = [
        (check, backend)
        for check in choose_checks(settings)
        for backend in (OWN, *(frameworks.asked if check in PER_BACKEND else ()))
    ]
    names = tuple(_name(*pair) for pair in pairs)
    for check, backend in pairs:
        yield layer, LayerCheck(check, backend, shared, names, frameworks.lacking.get(backend, ""), frameworks.excused)


def parametrize_with_checks(layers: Iterable[LayerSpec], *, expected_failures: Reasons | None = None, **settings: Any) -> Any:
    """Return a pytest mark that calls a test with every check of every layer, as `layer` and `check`.

    It marks a function, a class, or as `pytestmark` a module, all of whose tests then take `layer` and `check`.
    `expected_failures` gives for a layer's name the checks that may fail, each with its reason, or is a function that
    returns these for a specification; a check that may fail and does not is a failure. The other `settings` are those of
    `check_layer`, and come before what pytest's command line and settings say. Raises BadInput on no layer, on a name that
    no layer has, and on two layers of one name; wrong settings fail the collection. The tests are made by the plug-in
    `harness.pytest_plugin`, which pytest loads wherever the harness is installed.

    >>> from reference_layers import ReLU
    >>> relu = LayerSpec(ReLU, ReLU.formula, [(4, 3)], name="relu")
    >>> @parametrize_with_checks([relu])
    ... def test_layers(layer, check):
    ...     check(layer)
    """
    import pytest

    specs = [_read_spec(spec) for spec in layers]
    names = [spec.name for spec in specs]
    if not specs:
        raise BadInput("layers: none is given, so that nothing would be checked; accepted are specifications: LayerSpec(...)")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"layers: {', '.join(doubled)} stands for more than one; give each LayerSpec a name of its own")
    return getattr(pytest.mark, MARK)(specs=specs, reasons=_read_reasons(specs, expected_failures), settings=settings)


def collect_checks(
    specs: Iterable[LayerSpec], reasons: Mapping[str, Mapping[str, str]], settings: Mapping[str, Any]
) -> Iterator[tuple[LayerSpec, LayerCheck]]:
    """Yield the checks of several layers; the arguments are those of the mark of `parametrize_with_checks`."""
    for spec in specs:
        yield from layer_checks_generator(spec, **{"expected_failures": reasons.get(spec.name, {}), **settings})


def _read_spec(spec: Any) -> LayerSpec:
    if not isinstance(spec, LayerSpec):
        raise BadInput(f"layers: {spec!r:.80}; accepted are specifications: LayerSpec(layer, formula, inputs)")
    return spec


def _read_reasons(specs: Iterable[LayerSpec], expected: Reasons | None) -> Mapping[str, Mapping[str, str]]:
    if callable(expected):
        return {spec.name: dict(expected(spec) or {}) for spec in specs}
    reasons, names = dict(expected or {}), [spec.name for spec in specs]
    if unknown := sorted(set(reasons) - set(names)):
        raise BadInput(f"expected_failures: no layer is named {', '.join(unknown)}; accepted are {', '.join(names)}")
    if wrong := sorted(name for name, own in reasons.items() if not isinstance(own, Mapping)):
        text = f"expected_failures[{wrong[0]!r}]: {reasons[wrong[0]]!r:.80}"
        raise BadInput(f"{text}; accepted is a reason for each check: {{'gradients': 'it clips'}}")
    return reasons


def _name(check: str, backend: str) -> str:
    return check if backend == OWN else f"{check}-{backend}"


def _fail(report: CheckReport, own: tuple[CheckResult, ...], backend: str) -> ConformanceError:
    """Return the error of one check; its notes say what was found in the dtypes of which its text does not tell."""
    rows = tuple(row for row in report.comparisons if row.backend == backend) or report.comparisons
    error = ConformanceError(replace(report, results=own, comparisons=rows))
    told = next((one.message for one in own if one.fails), "")
    for one in own:
        if one.message != told:
            error.add_note(f"in {one.dtype}: {one.state}{f': {one.message}' if one.message else ''}")
    return error


def _take_for_failures(own: tuple[CheckResult, ...]) -> tuple[CheckResult, ...]:
    return tuple(replace(one, state="failed") if one.state == "expected" else one for one in own)


def _skip(reason: str) -> None:
    import pytest

    __tracebackhide__ = True
    pytest.skip(reason)


def _expect(own: tuple[CheckResult, ...]) -> None:
    import pytest

    __tracebackhide__ = True
    expected = [one for one in own if one.state == "expected"]
    pytest.xfail(f"in {', '.join(one.dtype for one in expected)}: {expected[0].message}")


def _fail_strictly(own: tuple[CheckResult, ...]) -> None:
    import pytest

    __tracebackhide__ = True
    pytest.fail(f"[XPASS(strict)] {own[0].message}", pytrace=False)
