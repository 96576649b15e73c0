"""The one call: a layer of anybody's comes in, a report that says whether it is right goes out, or is raised.

Each trial of the layer runs in NumPy, behind it the frameworks that differentiate its formula, and the judge weighs every
gradient of each against the oracle; the contracts are put to the first trial. What the layer does in between, raising
included, becomes a result.
"""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.core import DTYPES, PASSING, USUAL_DTYPES, Array, Backend, BadInput, Comparison, Outcome, Problem
from harness.custom.contracts.contract import Contract, NotApplicable, Note, look
from harness.custom.contracts.subject import Subject
from harness.custom.conventions import excuse_kinks
from harness.custom.diagnose import Diagnosis, diagnose_layer
from harness.custom.differences import NoSlope
from harness.custom.reference import Reference, describe_references
from harness.custom.report import CheckReport, CheckResult, ConformanceError
from harness.custom.shrink import Found, Reason
from harness.custom.smallest import find_examples
from harness.custom.spec import LayerSpec
from harness.custom.stability import find_unstable
from harness.custom.states import explain_states
from harness.custom.trials import VARIATIONS, Trial, TrialId, draw_again, draw_trials
from harness.custom.unaided import find_visible, judge_unaided
from harness.discovery import find_backends, find_contracts
from harness.isolation import quiet
from harness.judge.oracle import check_precision
from harness.shards import Programs, ShardResult, guard, run_problem

FRAMEWORKS = ("torch", "jax")
NOT_JUDGED = "no formula was given, so the forward pass is not judged"
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
SAYING: Mapping[str, str] = {"shape": "shape", "error": "raises"}
OnFail = Literal["raise", "warn", "report"]


def check_layer(
    layer: Any, formula: Callable[..., Any] | None = None, *,
    inputs: Sequence[Any] | Callable[[np.random.Generator], Sequence[Array]] | None = None,
    params: Mapping[str, Array] | Callable[[np.random.Generator], Mapping[str, Array]] | None = None,
    dtypes: Sequence[str] = USUAL_DTYPES, against: Sequence[str] | None = FRAMEWORKS, checks: Collection[str] | None = None,
    seed: int = 0, cases: int = len(VARIATIONS), expected_failures: Mapping[str, str] | None = None,
    on_fail: OnFail = "raise", constants: Sequence[int] = (), name: str = "", gradient: Callable[..., Any] | None = None,
    again: Collection[TrialId] = (), shrink: bool | None = None, folder: str | Path = ".harness",
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
    instead, "report" only returns. Raises BadInput on a wrong setting.

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
    backends = [find_backends()["numpy"], *_find_frameworks(against, spec.is_unaided)]
    start, state = time.perf_counter(), np.random.get_state()
    into = Path(folder) if (on_fail != "report" if shrink is None else shrink) else None
    try:
        with quiet():
            report = _check(spec, backends, dtypes, cases, seed, wanted, expected, again, into)
    finally:
        np.random.set_state(state)
    return _hand_out(replace(report, seconds=time.perf_counter() - start), on_fail)


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


def _check(
    spec: LayerSpec, backends: Sequence[Backend], dtypes: Sequence[str], cases: int, seed: int, wanted: frozenset[str],
    expected: Mapping[str, str], again: Collection[TrialId], into: Path | None,
) -> CheckReport:  # fmt: skip
    results, rows, references = list[CheckResult](), list[Comparison](), list[Reference]()
    every = dict[str, list[Trial]]()
    for dtype in dtypes:
        before, usual = list(draw_again(spec, dtype, again, cases, seed)), list(draw_trials(spec, dtype, cases, seed))
        trials, programs = [*before, *usual], dict[str, Programs]()
        every[dtype] = trials
        found = judge_trials(trials, backends, programs, references) if wanted & set(VALUES) else []
        rows += found
        summed = [_skip_unjudged(one, spec, found) for one in _sum_up(found, dtype, backends, len(trials))]
        own = [_diagnose(one, found, trials) for one in summed if one.check in wanted]
        stopped = _find_stop(found)
        subjects = [Subject(trial, _find_runs(trial, backends, programs)) for trial in (*before, usual[0])]
        own += [_put_to_each(contract, subjects, dtype, stopped) for contract in CONTRACTS if contract.name in wanted]
        results += explain_states(own, subjects[-1])
    told = _tell_reference(references, rows, backends[1:]) if spec.is_unaided and wanted & set(VALUES) else ""
    unstable = find_unstable(rows)
    remarks = tuple(f"numpy, {dtype}, {name}: {words}" for (dtype, name), words in unstable.items())
    report = CheckReport(spec.name, tuple(_expect(results, expected)), tuple(rows), reference=told, remarks=remarks)
    if into is None or report.passed:
        return report
    frameworks = [backend.framework for backend in backends if backend.variant == "formula"]
    return replace(report, examples=find_examples(spec, report.failures, every, list_reasons, frameworks, into))


def list_reasons(trial: Trial, check: str) -> dict[Reason, Found]:
    """Return why the trial fails the check, with no framework beside the layer; nothing where it passes."""
    if check not in VALUES:
        try:
            broken = look(next(contract for contract in CONTRACTS if contract.name == check), Subject(trial))
        except NotApplicable:
            return {}
        told = broken if isinstance(broken, str) else ""
        return {Reason(check, words=re.sub(r"\d+", "#", told)): Found(told)} if told else {}
    rows = [row for row in judge_trials([trial], [find_backends()["numpy"]], {}, []) if row.node in (trial.node, "network")]
    wanted = [row for row in rows if row.node == "network" or (row.quantity == "y") is (check == "forward")]
    return {_name_reason(check, row): Found(row.message, _count_bounds(row)) for row in wanted if row.verdict not in PASSING}


def _name_reason(check: str, row: Comparison) -> Reason:
    """Return the reason of a failing row: of what was raised its kind and place, for the rest of the text may name sizes."""
    raised = re.sub(r":.*?(\(line [^()]*\))?$", r" \1", row.message) if row.verdict == "error" else ""
    return Reason(check, row.node, row.quantity, row.verdict, row.culprit, raised)


def _count_bounds(row: Comparison) -> float:
    """Return how many times what rounding can do in its own dtype the row is off."""
    known = [row.local_error_in_bounds, row.network_error_in_bounds, row.noise_error_in_bounds]
    return max((value for value in known if not np.isnan(value)), default=float("nan"))


def _tell_reference(references: Sequence[Reference], rows: Sequence[Comparison], idle: Sequence[Backend]) -> str:
    names = " and ".join(backend.name for backend in idle)
    said = f"; {names} had nothing to differentiate, for no formula was given" if names else ""
    return describe_references(references, find_visible(rows)) + said


def _skip_unjudged(result: CheckResult, spec: LayerSpec, rows: Sequence[Comparison]) -> CheckResult:
    """Return the result; skipped where there is no formula that could have judged it, which is no reason to pass.

    An output of a wrong dtype, or none at all, is wrong all the same.
    """
    if spec.formula is not None or result.check == "power":
        return result
    if result.check == "forward":
        wrong = result.backend == "numpy" and any(row.quantity in ("y", "all") for row in rows if row.backend == "numpy")
        return result if wrong else replace(result, state="skipped", message=NOT_JUDGED)
    if spec.is_unaided and result.backend != "numpy":
        return replace(result, state="skipped", message=f"no formula was given: {result.backend} has nothing to differentiate")
    return result


def judge_trials(
    trials: Iterable[Trial], backends: Sequence[Backend], programs: dict[str, Programs], references: list[Reference]
) -> list[Comparison]:
    """Return the judge's rows; what a backend prepared for a graph serves all trials of its sizes.

    `references` takes what layers without a formula were held against.
    """
    result = ShardResult()
    for trial in trials:
        ready = programs.setdefault(trial.problem.case.network.digest, Programs())
        if trial.declared.formula is None:
            rows, reference = judge_unaided(trial, backends[0])
            result.comparisons += rows
            references += [reference] if reference else []
        elif trial.declared is trial.kind:
            found = ShardResult()
            run_problem(trial.problem, backends, {trial.node: trial.kind}, {}, ready, found)
            result.comparisons += excuse_kinks(found.comparisons, trial, backends)
        else:
            result.comparisons += _judge_declared(trial, backends)
    return result.comparisons


def _find_runs(
    trial: Trial, backends: Sequence[Backend], programs: Mapping[str, Programs]
) -> dict[str, Callable[[Problem], Outcome]]:
    """Return what runs the trial's formula in each framework, by its name; what was compiled for it is used again."""
    case, kinds = trial.problem.case, {trial.node: trial.declared}
    ready = programs.get(case.network.digest, {}) if trial.declared is trial.kind else {}

    def run(backend: Backend, problem: Problem) -> Outcome:
        program = ready.get((backend.name, case.dtype)) or backend.prepare(case.network, case.dtype, kinds)
        return guard(program.run, problem) if program and not isinstance(program, Outcome) else Outcome("error")

    return {one.name: partial(run, one) for one in backends if one.variant == "formula"}


def _judge_declared(trial: Trial, backends: Sequence[Backend]) -> list[Comparison]:
    """Return the output's rows by the formula of the forward pass, and the gradients' by the one they are declared to be of."""
    rows, forward = [], [(trial.kind, True)] if trial.has_formula else []
    for kind, is_output in (*forward, (trial.declared, False)):
        result = ShardResult()
        run_problem(trial.problem, backends, {trial.node: kind}, {}, Programs(), result)
        rows += [row for row in result.comparisons if (row.quantity == "y") is is_output]
    return rows


def _sum_up(rows: Sequence[Comparison], dtype: str, backends: Sequence[Backend], trials: int) -> list[CheckResult]:
    results = []
    for backend in backends:
        own = [row for row in rows if row.backend == backend.name]
        whole = [row for row in own if row.node == "network"]  # a pass that failed has neither output nor gradients
        outputs = [row for row in own if row.quantity == "y"] + whole
        gradients = [row for row in own if row.quantity != "y" and row not in whole] + whole
        results.append(_decide("forward", outputs, dtype, backend.name, trials))
        results.append(_decide("gradients", gradients, dtype, backend.name, trials))
        if backend.variant == "layer":
            results.append(_weigh_power(gradients, rows, dtype, backend.name, trials))
    return results


def _decide(check: str, rows: Sequence[Comparison], dtype: str, backend: str, trials: int) -> CheckResult:
    """Return what the rows come to: the message is that of the worst row."""
    failing = [row for row in rows if row.verdict not in PASSING or row.verdict == "unavailable"]
    if not rows:
        return CheckResult(check, dtype, backend, "failed", "nothing was compared", trials)
    if not failing:
        return CheckResult(check, dtype, backend, "passed", "", trials)
    worst = max(failing, key=_rank)
    cases = len({row.case for row in failing})
    apart = abs(worst.got - worst.expected) / abs(worst.expected) if worst.expected else float("nan")
    size = f", off by {apart:.2g} of the value" if np.isfinite(apart) and worst.verdict == "mismatch" else ""
    culprit = f"; wrong is {worst.culprit}" if worst.culprit else ""
    message = f"{worst.verdict} in {cases} of {trials} trials{size}: {worst.message}{culprit} (trial {worst.case})"
    return CheckResult(check, dtype, backend, "failed", message, trials, case=worst.case)


def _rank(row: Comparison) -> tuple[bool, bool, float]:
    """Return a key by which the row that tells most comes last: of the node itself before the graph's, of the largest error."""
    return row.node != "network", row.layer != "input", float(np.nan_to_num(row.error_in_bounds))


def _weigh_power(
    rows: Sequence[Comparison], rows_of_all: Sequence[Comparison], dtype: str, backend: str, trials: int
) -> CheckResult:
    """Return whether every quantity had a trial in which an error of 1 % would have been seen."""
    shown = {row.quantity for row in rows if row.verdict != "powerless"}
    blunt = sorted({row.quantity for row in rows} - shown)
    if not blunt:
        return CheckResult("power", dtype, backend, "passed", "", trials)
    unstable = find_unstable(rows_of_all)
    why = [unstable[dtype, name] for name in blunt if (dtype, name) in unstable]
    advice = f"{why[0]}" if why else "give inputs at which it is not lost in rounding, or 0"
    message = f"no trial could have shown an error of 1 % in {', '.join(blunt)}: {advice}"
    return CheckResult("power", dtype, backend, "failed", message, trials)


def _diagnose(result: CheckResult, rows: Sequence[Comparison], trials: Sequence[Trial]) -> CheckResult:
    """Return the result; where the layer's own values are wrong, with what explains them, quantity by quantity."""
    if not result.fails or result.check not in ("forward", "gradients") or result.backend != "numpy":
        return result
    own = [row for row in rows if row.backend == "numpy" and (row.quantity == "y") is (result.check == "forward")]
    said = {
        row.quantity: PROMOTED for row in own if row.verdict == "dtype" and row.dtype == "float32" and "float64" in row.message
    }
    for name, some in _find_wrong(own, trials).items() if result.check == "gradients" else ():
        said[name] = _explain_quantity(some, name)
    told = "; ".join(f"{name}: {found.words}" for name, found in said.items())
    plain = {SAYING[row.verdict] for row in own if row.verdict in SAYING}  # such a verdict is its own diagnosis
    return replace(
        result, diagnosis=told, causes=(*_find_common([one.cause for one in said.values() if one.cause]), *sorted(plain))
    )


def _find_common(causes: Sequence[str]) -> tuple[str, ...]:
    """Return the causes that most quantities have in common: one mistake spoils several gradients, each in its own way."""
    counts = Counter(causes)
    return tuple(cause for cause, count in counts.items() if count == max(counts.values()))


def _explain_quantity(trials: Sequence[Trial], quantity: str) -> Diagnosis:
    try:
        return diagnose_layer(trials, quantity)
    except NoSlope as reason:
        return Diagnosis("", f"not looked for: no formula was given, and {reason}")


def _is_promoted(row: Comparison) -> bool:
    """Whether a result, and no cotangent on its way, came back in float64 where float32 went in."""
    return row.verdict == "dtype" and row.dtype == "float32" and "float64" in row.message and row.quantity != "dy"


def _find_wrong(rows: Sequence[Comparison], trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    """Return by quantity the trials in which the node itself gave a wrong one."""
    wrong: dict[str, list[Trial]] = {}
    for trial in trials:
        for row in rows:
            if row.case == trial.problem.case.id and row.node == trial.node and row.verdict == "mismatch":
                wrong.setdefault(row.quantity, []).append(trial)
    return wrong


def _find_stop(rows: Sequence[Comparison]) -> str:
    """Return why the layer cannot run at all, nothing where some trial ran: every contract would say the same once more."""
    own = [row for row in rows if row.variant == "layer"]
    return own[0].message if own and all(row.verdict == "error" for row in own) else ""


def _put_to_each(contract: Contract, subjects: Sequence[Subject], dtype: str, stopped: str) -> CheckResult:
    """Return the first failure; without one what the last subject gave, of the first of the usual trials."""
    for subject in subjects:
        result = _put(contract, subject, dtype, stopped)
        if result.fails:
            break
    return result


def _put(contract: Contract, subject: Subject, dtype: str, stopped: str) -> CheckResult:
    if stopped:
        return CheckResult(contract.name, dtype, "numpy", "skipped", f"the layer does not run: {stopped}", 1)
    try:
        broken = look(contract, subject)
    except NotApplicable as reason:
        return CheckResult(contract.name, dtype, "numpy", "skipped", str(reason), 1)
    if isinstance(broken, Note):
        return CheckResult(contract.name, dtype, "numpy", "passed", broken.text, 1)
    if not broken:
        return CheckResult(contract.name, dtype, "numpy", "passed", "", 1)
    return CheckResult(
        contract.name, dtype, "numpy", "failed", f"{broken} ({contract.why})", 1, case=subject.trial.problem.case.id
    )


def _expect(results: Sequence[CheckResult], expected: Mapping[str, str]) -> list[CheckResult]:
    """Return the results with expected failures as such; a check that was to fail and fails nowhere is a failure."""
    failing = {result.check for result in results if result.fails}
    return [_expect_one(result, expected, failing) for result in results]


def _expect_one(result: CheckResult, expected: Mapping[str, str], failing: set[str]) -> CheckResult:
    if result.check not in expected or result.state == "skipped":
        return result
    reason = expected[result.check]
    if result.fails:
        return replace(result, state="expected", message=f"expected ({reason}): {result.message}")
    if result.check in failing:
        return result
    return replace(
        result, state="unexpected pass", message=f"it was expected to fail ({reason}), and does not: take it from the list"
    )


def _hand_out(report: CheckReport, on_fail: OnFail) -> CheckReport:
    __tracebackhide__ = True
    if report.passed or on_fail == "report":
        return report
    if on_fail == "raise":
        raise ConformanceError(report)
    warnings.warn(report.describe(), stacklevel=3)
    return report
