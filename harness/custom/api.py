"""The one call: a layer of anybody's comes in, a report that says whether it is right goes out, or is raised.

Each trial of the layer runs in NumPy, behind it the frameworks that differentiate its formula, and the judge weighs every
gradient of each against the oracle; the contracts are put to the first trial. What the layer does in between, raising
included, becomes a result.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np

from harness.core import DTYPES, USUAL_DTYPES, Array, Backend, BadInput, Comparison
from harness.custom.contracts.contract import Contract
from harness.custom.diagnose import SLIGHT, Diagnosis
from harness.custom.hearing import Said
from harness.custom.isolated import Isolation, find_way, read_isolation, run_isolated
from harness.custom.pieces import OWN, ExplainGradient, ExplainStates, Judged, JudgeTrial, PutContract, Shrink
from harness.custom.report import CheckReport, CheckResult, ConformanceError
from harness.custom.results import expect, is_cast, skip_stopped, skip_unjudged, sum_up, tell_reference
from harness.custom.setting import About, Setting, describe
from harness.custom.spec import LayerSpec
from harness.custom.stability import find_unstable
from harness.custom.targets import Address
from harness.custom.trials import VARIATIONS, TrialId, list_again
from harness.discovery import find_backends, find_contracts
from harness.floats import find_format
from harness.isolation import quiet
from harness.judge.oracle import check_precision

FRAMEWORKS = ("torch", "jax")
STOPPED = ("error", "crash", "timeout", "memory")
MOST_LOST = 2
FOLDER = ".harness"
VALUES = {
    "forward": "the output is the formula's, to what rounding can do",
    "gradients": "every gradient is the formula's derivative, to what rounding can do",
    "power": "of each gradient some trial could have shown an error of 1 %",
}
CONTRACTS: tuple[Contract, ...] = tuple(find_contracts().values())
CHECKS: Mapping[str, str] = {**VALUES, **{contract.name: contract.why for contract in CONTRACTS}}
PROMOTED = Diagnosis(
    "cast",
    "a float64 number or array inside turns float32 into float64, as np.sqrt(2 / np.pi) does since NumPy 2: float(...) of a "
    "number keeps the dtype of the array, and so does .astype(x.dtype) of an array",
)
DEMOTED = Diagnosis(
    "cast", "it computes in float32 whatever it is given: where that is meant, have it checked with dtypes=['float32']"
)
SAYING: Mapping[str, str] = {"shape": "shape", "error": "raises"}
OnFail = Literal["raise", "warn", "report"]
Run = Callable[[Iterable[Any]], Iterator[tuple[Any, Any]]]


def check_layer(
    layer: Any, formula: Callable[..., Any] | None = None, *,
    inputs: Sequence[Any] | Callable[[np.random.Generator], Sequence[Array]] | None = None,
    params: Mapping[str, Array] | Callable[[np.random.Generator], Mapping[str, Array]] | None = None,
    dtypes: Sequence[str] = USUAL_DTYPES, against: Sequence[str] | None = FRAMEWORKS, checks: Collection[str] | None = None,
    seed: int = 0, cases: int = len(VARIATIONS), expected_failures: Mapping[str, str] | None = None,
    on_fail: OnFail = "raise", constants: Sequence[int] = (), name: str = "", gradient: Callable[..., Any] | None = None,
    isolate: bool | Isolation = False, again: Collection[TrialId] = (), shrink: bool | None = None,
    folder: str | Path = FOLDER,
) -> CheckReport:  # fmt: skip
    """Return what every check found about a hand-written layer.

    `layer`, `formula`, `inputs`, `params`, `constants`, `name` and `gradient` are those of `LayerSpec`, which may be given
    as `layer` instead. Without a formula the gradients are held against the layer's own forward pass, differentiated; the
    report's `reference` says how, and how small a fault that could have shown. `against` names frameworks that differentiate
    the formula beside it, None for all that are installed; `checks` the checks to run, None for all (`CHECKS` lists them);
    `cases` is the number of trials in each dtype.
    `expected_failures` gives for the name of a check the reason why it may fail; where it does not fail, that is a failure.
    `again` names trials of earlier runs, which are tried before the usual ones.
    `shrink` asks for the smallest case of what fails, and `folder` takes its files where the layer can be imported: a case for
    `harness replay`, and a script that shows it without the harness; None shrinks unless `on_fail` is "report".
    Raises ConformanceError, an AssertionError, when the layer does not conform and `on_fail` is "raise"; "warn" warns
    instead, "report" only returns. `isolate` runs the layer in a guarded process with limits of time and memory, so that
    what hangs or dies fails one trial alone; the layer must be one that another process can import. Raises BadInput on a
    wrong setting.

    >>> class Square:
    ...     def forward(self, x):
    ...         self.x = x
    ...         return x * x
    ...
    ...     def backward(self, dy):
    ...         return 2 * self.x * dy
    >>> check_layer(Square, lambda xp, params, x: x**2, inputs=[(4, 3)], dtypes=["float64"], against=[]).passed
    True
    """
    __tracebackhide__ = True  # pytest then shows the line that called this
    spec = _read_spec(layer, formula, inputs, params, tuple(constants), name, gradient)
    wanted, expected = read_checks(checks, expected_failures or {})
    if on_fail not in ("raise", "warn", "report"):
        raise BadInput(f"on_fail: {on_fail!r}; accepted are raise, warn, report")
    read_sizes(dtypes, cases, seed)
    if wrong := [one for one in again if not isinstance(one, TrialId)]:
        raise BadInput(f"again: {wrong[0]!r}; accepted are trials: TrialId(seed, index, dtype)")
    limits = read_isolation(isolate)
    backends = [find_backends()["numpy"], *_find_frameworks(against, spec.is_unaided)]
    about, way = describe(spec), find_way(spec) if limits else spec
    into = Path(folder) if (on_fail != "report" if shrink is None else shrink) else None
    plan = _Plan(tuple(dtypes), cases, seed, wanted, expected, tuple(again), into)
    return _hand_out(_run(about, way, backends, plan, limits), on_fail)


def check_address(
    address: Address, about: About, *, dtypes: Sequence[str], against: Sequence[str] | None, checks: Collection[str] | None,
    seed: int, cases: int, isolate: Isolation, shrink: bool = False, folder: str | Path = FOLDER,
) -> CheckReport:  # fmt: skip
    """Return the report of a layer that this process never imports: only the guarded one does. Raises BadInput."""
    wanted, _ = read_checks(checks, {})
    read_sizes(dtypes, cases, seed)
    backends = [find_backends()["numpy"], *_find_frameworks(against, about.is_unaided)]
    into = Path(folder) if shrink else None
    return _run(about, address, backends, _Plan(tuple(dtypes), cases, seed, wanted, {}, folder=into), isolate)


@dataclass(frozen=True)
class _Plan:
    """What is to be run: the trials of earlier runs before the usual ones, and the checks that are wanted or may fail.

    `folder` takes the smallest cases of what fails; None looks for none.
    """

    dtypes: tuple[str, ...]
    cases: int
    seed: int
    wanted: frozenset[str]
    expected: Mapping[str, str]
    again: tuple[TrialId, ...] = ()
    folder: Path | None = None

    def list_again(self, dtype: str) -> list[TrialId]:
        """Return the trials of earlier runs."""
        return list_again(dtype, self.again, self.cases, self.seed)

    def list_trials(self, dtype: str) -> list[TrialId]:
        """Return all trials in a dtype; none where no check of values is wanted."""
        usual = [TrialId(self.seed, index, dtype) for index in range(self.cases)]
        return [*self.list_again(dtype), *usual] if self.wanted & set(VALUES) else []

    def list_tried(self, dtype: str) -> list[TrialId]:
        """Return the trials that contracts are put to: those of earlier runs, and the first of the usual ones."""
        return [*self.list_again(dtype), TrialId(self.seed, 0, dtype)]


def _run(
    about: About, way: LayerSpec | Address, backends: Sequence[Backend], plan: _Plan, limits: Isolation | None
) -> CheckReport:
    setting = Setting(way, about.name, uuid4().hex if limits else "")
    names = tuple(backend.name for backend in backends)
    start, state = time.perf_counter(), np.random.get_state()

    def run(works: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        return run_isolated(works, limits, names) if limits else ((work, work.run()) for work in works)

    try:
        with quiet():
            report = _check(about, setting, backends, plan, run)
    finally:
        np.random.set_state(state)
    return replace(report, seconds=time.perf_counter() - start)


def _read_spec(
    layer: Any, formula: Any, inputs: Any, params: Any, constants: tuple[int, ...], name: str, gradient: Any
) -> LayerSpec:
    if isinstance(layer, LayerSpec):
        if formula is not None or inputs is not None or params is not None or constants or name or gradient:
            raise BadInput(
                "layer: a LayerSpec holds formula, inputs, params, constants, name and gradient itself; give them there alone"
            )
        return layer
    if inputs is None:
        raise BadInput("inputs: None; accepted is a list with a shape or an array for each input, or a function of a generator")
    return LayerSpec(layer, formula, inputs, params, name, constants, gradient)


def read_checks(checks: Collection[str] | None, expected: Mapping[str, str]) -> tuple[frozenset[str], Mapping[str, str]]:
    """Return the names of the checks to run, and the reasons of those that may fail. Raises BadInput on an unknown name."""
    wanted = frozenset(CHECKS) if checks is None else frozenset(checks)
    for field, names in (("checks", wanted), ("expected_failures", frozenset(expected))):
        if unknown := sorted(names - set(CHECKS)):
            raise BadInput(f"{field}: {unknown}; accepted are {', '.join(CHECKS)}")
    if not wanted:
        raise BadInput(f"checks: none is named; accepted are {', '.join(CHECKS)}")
    for name, reason in expected.items():
        if not isinstance(reason, str) or not reason.strip():
            raise BadInput(f"expected_failures[{name!r}]: {reason!r}; accepted is the reason, in words")
    return wanted, expected


def read_sizes(dtypes: Sequence[str], cases: int, seed: int) -> None:
    """Raise BadInput where one of them cannot be."""
    if isinstance(dtypes, str) or not dtypes or set(dtypes) - set(DTYPES):
        raise BadInput(f"dtypes: {dtypes!r}; accepted is a list of {', '.join(DTYPES)}")
    for dtype in dtypes:
        check_precision(dtype)
    for field, value, least in (("cases", cases, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadInput(f"{field}: {value!r}; accepted is a whole number of at least {least}")


def list_frameworks() -> dict[str, Backend]:
    """Return the backends that can differentiate a formula, whether they are installed or not, by name."""
    return {one.name: one for one in find_backends().values() if one.variant == "formula" and one.default}


def is_installed(backend: Backend) -> bool:
    """Tell whether the framework behind a backend can be found; it is not imported."""
    return find_spec(backend.framework) is not None


def _find_frameworks(against: Sequence[str] | None, idle: bool = False) -> list[Backend]:
    """Return the backends that differentiate the formula. Raises BadInput on a framework that is unknown or not installed.

    Frameworks that stay `idle`, for there is no formula, need not be installed.
    """
    known = list_frameworks()
    if against is None:
        found = [one for one in known.values() if one.framework in FRAMEWORKS and is_installed(one)]
        if not found and not idle:
            raise BadInput(
                f"against: None, but none of {', '.join(FRAMEWORKS)} is installed: pip install torch, or jax; [] asks for none"
            )
        return found
    if isinstance(against, str):
        raise BadInput(f"against: {against!r}; accepted is a list of {', '.join(known)}")
    for name in against:
        if name not in known:
            raise BadInput(f"against: {name!r}; accepted are {', '.join(known)}")
        if not idle and not is_installed(known[name]):
            raise BadInput(f"against: {name!r} is not installed: pip install {known[name].framework}, or leave it out")
    return [known[name] for name in against]


@dataclass(eq=False)
class _Found:
    """What came back so far, of each trial and of each contract put to it.

    `explained` is what was said of a wrong gradient in the most precise dtype in which it is wrong, and that dtype.
    """

    judged: dict[TrialId, Judged] = dataclasses.field(default_factory=dict)
    kept: dict[tuple[TrialId, str], CheckResult] = dataclasses.field(default_factory=dict)
    said: Said = dataclasses.field(default_factory=Said)
    explained: dict[str, tuple[str, Diagnosis]] = dataclasses.field(default_factory=dict)

    def take(self, work: Any, result: Any) -> None:
        """Add a result; a trial that was split comes back in parts."""
        if isinstance(work, JudgeTrial):
            before = self.judged.get(work.trial, Judged(()))
            self.judged[work.trial] = Judged((*before.rows, *result.rows), before.reference or result.reference)
            self.said += result.said
        else:
            self.kept[work.trial, work.name], said = result
            self.said += said

    def rows(self, trials: Iterable[TrialId]) -> list[Comparison]:
        """Return the rows of trials, as far as they came back."""
        return [row for trial in trials if trial in self.judged for row in self.judged[trial].rows]

    def is_hopeless(self, trials: Iterable[TrialId]) -> bool:
        """Whether all of the first trials were lost with their processes: the others would be, each after its time."""
        own = [row.verdict for row in self.rows(trials) if row.variant == "layer"]
        return len(own) >= MOST_LOST and all(verdict in ("timeout", "crash") for verdict in own)


def _check(about: About, setting: Setting, backends: Sequence[Backend], plan: _Plan, run: Run) -> CheckReport:
    found, results = _Found(), list[CheckResult]()
    for work, result in run(_list_works(setting, backends, plan, found)):
        found.take(work, result)
    for dtype in plan.dtypes:
        trials = plan.list_trials(dtype)
        rows = found.rows(trials)
        stopped = _find_stop(rows)
        summed = sum_up(rows, dtype, backends, len(trials)) if trials else []
        results += [skip_unjudged(skip_stopped(one, rows, stopped), about, rows) for one in summed if one.check in plan.wanted]
        tried = plan.list_tried(dtype)
        results += [_take_contract(found, tried, one.name, stopped) for one in CONTRACTS if one.name in plan.wanted]
    precise = sorted(results, key=lambda one: find_format(one.dtype).u)
    results = [_diagnose(one, found, plan, setting, run) for one in precise]
    results = [one for dtype in plan.dtypes for one in _explain_states(results, dtype, plan, setting, run)]
    rows = [row for dtype in plan.dtypes for row in found.rows(plan.list_trials(dtype))]
    references = [one.reference for one in found.judged.values() if one.reference is not None]
    told = tell_reference(references, rows, backends[1:]) if about.is_unaided and plan.wanted & set(VALUES) else ""
    remarks = tuple(f"numpy, {dtype}, {name}: {words}" for (dtype, name), words in find_unstable(rows).items())
    final = tuple(expect(results, plan.expected))
    report = CheckReport(about.name, final, tuple(rows), reference=told, said=found.said.tell(), remarks=remarks)
    return report if plan.folder is None or report.passed else _add_examples(report, backends, plan, plan.folder, setting, run)


def _explain_states(
    results: Sequence[CheckResult], dtype: str, plan: _Plan, setting: Setting, run: Run
) -> tuple[CheckResult, ...]:
    """Return the results of one dtype; what a broken contract explains is explained by it."""
    own = tuple(one for one in results if one.dtype == dtype)
    if not {one.check for one in own if one.fails and one.backend == OWN} & set(CHECKS) - set(VALUES):
        return own
    ((_, explained),) = run([ExplainStates(setting, plan.list_tried(dtype)[-1], own)])
    found: tuple[CheckResult, ...] = explained
    return found


def _add_examples(
    report: CheckReport, backends: Sequence[Backend], plan: _Plan, folder: Path, setting: Setting, run: Run
) -> CheckReport:
    """Return the report with the smallest cases of what fails."""
    trials = tuple(trial for dtype in plan.dtypes for trial in plan.list_trials(dtype) or plan.list_tried(dtype))
    frameworks = tuple(backend.framework for backend in backends if backend.variant == "formula")
    ((_, examples),) = run([Shrink(setting, report.failures, trials, frameworks, folder)])
    return replace(report, examples=examples)


def _list_works(setting: Setting, backends: Sequence[Backend], plan: _Plan, found: _Found) -> Iterator[Any]:
    """Yield trials and contracts, as far as what was found until then leaves a sense in them."""
    names = tuple(backend.name for backend in backends)
    for dtype in plan.dtypes:
        trials = plan.list_trials(dtype)
        for trial in trials:
            if not found.is_hopeless(trials):
                yield JudgeTrial(setting, trial, names)
        for contract in CONTRACTS:
            for trial in plan.list_tried(dtype) if contract.name in plan.wanted else ():
                if not _find_stop(found.rows(trials)):
                    yield PutContract(setting, trial, contract.name, names)


def _take_contract(found: _Found, trials: Sequence[TrialId], name: str, stopped: str) -> CheckResult:
    """Return the first failure; without one what the last trial gave, the first of the usual ones.

    Where the layer does not run at all, which its trials tell, the contract is skipped.
    """
    kept = [found.kept[trial, name] for trial in trials if (trial, name) in found.kept]
    if stopped or not kept:
        return CheckResult(name, trials[-1].dtype, "numpy", "skipped", f"the layer does not run: {stopped}", 1)
    return next((one for one in kept if one.fails), kept[-1])


def _diagnose(result: CheckResult, found: _Found, plan: _Plan, setting: Setting, run: Run) -> CheckResult:
    """Return the result; where the layer's own values are wrong, with what explains them, quantity by quantity."""
    if not result.fails or result.check not in ("forward", "gradients") or result.backend != "numpy":
        return result
    trials, is_forward = plan.list_trials(result.dtype), result.check == "forward"
    own = [row for row in found.rows(trials) if row.backend == "numpy" and (row.quantity == "y") is is_forward]
    said = {row.quantity: PROMOTED if row.dtype == "float32" else DEMOTED for row in own if is_cast(row)}
    works = [] if is_forward else _list_explanations(found, trials, setting)
    explained = {work.quantity: one for work, one in run(works) if one.cause or work.least == SLIGHT} if works else {}
    found.explained = {name: (result.dtype, one) for name, one in explained.items()} | found.explained
    said |= explained
    told = "; ".join(f"{', '.join(names)}: {words}" for words, names in _group_quantities(said).items())
    plain = {SAYING[row.verdict] for row in own if row.verdict in SAYING}  # such a verdict is its own diagnosis
    causes = (*_find_common([one.cause for one in said.values() if one.cause]), *sorted(plain))
    return replace(result, diagnosis=told, causes=causes)


def _group_quantities(said: Mapping[str, Diagnosis]) -> dict[str, list[str]]:
    """Return which quantities have which words: one mistake spoils several."""
    groups: dict[str, list[str]] = {}
    for name, one in said.items():
        groups.setdefault(one.words, []).append(name)
    return groups


def _find_common(causes: Sequence[str]) -> tuple[str, ...]:
    """Return the causes that most quantities have in common: one mistake spoils several gradients, each in its own way."""
    counts = Counter(causes)
    return tuple(cause for cause, count in counts.items() if count == max(counts.values()))


def _list_explanations(found: _Found, trials: Sequence[TrialId], setting: Setting) -> list[ExplainGradient]:
    """Return what to explain: what the node itself gave wrong and, where rounding is unknown, what is grossly wrong."""
    wrong = _find_trials(found, trials, "mismatch")
    unknown = {name: some for name, some in _find_trials(found, trials, "noise-unknown").items() if name not in wrong}
    gross = float(np.sqrt(find_format(trials[0].dtype).u))
    works = [ExplainGradient(setting, name, tuple(some)) for name, some in wrong.items()]
    works += [ExplainGradient(setting, name, tuple(some), gross) for name, some in unknown.items()]
    return [replace(one, known=found.explained.get(one.quantity)) for one in works]


def _find_trials(found: _Found, trials: Sequence[TrialId], verdict: str) -> dict[str, list[TrialId]]:
    """Return by quantity the trials in which the node's own gradient has that verdict."""
    wrong: dict[str, list[TrialId]] = {}
    for trial in trials:
        for row in found.rows([trial]):
            if row.backend == "numpy" and row.node == row.layer and row.quantity != "y" and row.verdict == verdict:
                wrong.setdefault(row.quantity, []).append(trial)
    return wrong


def _find_stop(rows: Sequence[Comparison]) -> str:
    """Return why the layer cannot run at all, nothing where some trial ran: every contract would say the same once more."""
    own = [row for row in rows if row.variant == "layer"]
    return own[0].message if own and all(row.verdict in STOPPED for row in own) else ""


def _hand_out(report: CheckReport, on_fail: OnFail) -> CheckReport:
    __tracebackhide__ = True
    if report.passed or on_fail == "report":
        return report
    if on_fail == "raise":
        raise ConformanceError(report)
    warnings.warn(report.describe(), stacklevel=3)
    return report
