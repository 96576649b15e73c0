"""Pieces of a check: a setting and what of it is wanted come in, rows or a result come out, here or in a guarded process.

The results of a guarded process are unpickled by Pebble, and the process ran a stranger's code, which could have sent a
pickle that runs code here. That gives a stranger nothing that he lacks: without isolation his code runs in this very
process, and his module is imported wherever he is asked for. Isolation guards against accidents, not against attacks; for
those take a container.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import isnan
from pathlib import Path

from harness.core import PASSING, Backend, BadInput, Comparison, Outcome, Problem, Status
from harness.custom.contracts.contract import NotApplicable, Note, look
from harness.custom.contracts.subject import Subject
from harness.custom.conventions import excuse_kinks
from harness.custom.diagnose import SLIGHT, Diagnosis, diagnose_layer, err_alike
from harness.custom.differences import NoSlope
from harness.custom.example import Example
from harness.custom.hearing import Said, heed, listen
from harness.custom.reference import Reference
from harness.custom.report import CheckResult
from harness.custom.setting import Setting
from harness.custom.shrink import Found, Reason
from harness.custom.smallest import find_examples
from harness.custom.spec import NoLayer
from harness.custom.states import explain_states
from harness.custom.trials import Trial, TrialId
from harness.custom.unaided import judge_unaided
from harness.discovery import find_backends, find_contracts
from harness.engines import lost_row
from harness.isolation import quiet
from harness.shards import Programs, ShardResult, guard, run_problem
from harness.strangers import RAISED, tell

OWN = "numpy"


@dataclass(frozen=True, eq=False)
class Judged:
    """What one trial came to: the judge's rows, what a layer without a formula was held against, and what it said."""

    rows: tuple[Comparison, ...]
    reference: Reference | None = None
    said: Said = field(default_factory=Said)


@dataclass(frozen=True, eq=False)
class JudgeTrial:
    """One trial of a layer on some backends."""

    setting: Setting
    trial: TrialId
    backends: tuple[str, ...]

    @property
    def is_single(self) -> bool:
        """Whether one backend is left."""
        return len(self.backends) == 1

    def split(self) -> list[JudgeTrial]:
        """Return the trial once for each backend."""
        return [replace(self, backends=(name,)) for name in self.backends]

    def lose(self, status: Status, message: str) -> Judged:
        """Return the row of a trial that never came back."""
        return Judged((self._fail(status, message),))

    def run(self) -> Judged:
        """Return the rows. Raises BadInput where what was given is no layer, or the formula does not fit."""
        setting = self.setting.recall()
        with listen() as heard, quiet():
            try:
                setting.meet()
            except BadInput:
                raise
            except RAISED as error:
                return Judged((self._fail("error", tell(error)),), said=heard.sum_up())
            rows, reference = self._judge(setting)
        return Judged(tuple(rows), reference, heard.sum_up())

    def _judge(self, setting: Setting) -> tuple[list[Comparison], Reference | None]:
        try:
            trial = setting.draw(self.trial)
        except BadInput as error:
            if not isinstance(error, NoLayer):
                raise
            return [self._fail("error", str(error))], None  # it was a layer when it was made first
        except RAISED as error:
            return [self._fail("error", tell(error))], None
        known = find_backends()
        return judge_trial(trial, [known[name] for name in self.backends], setting.prepared(trial))

    def _fail(self, status: Status, message: str) -> Comparison:
        backend = OWN if OWN in self.backends else self.backends[0]
        seed, index, dtype = self.trial.seed, self.trial.index, self.trial.dtype
        case = f"{self.setting.name}-s{seed}t{index}-{dtype.replace('float', 'f')}-lost"  # the rest of its id is its numbers'
        return lost_row(case, self.setting.name, dtype, backend, status, message)


@dataclass(frozen=True, eq=False)
class PutContract:
    """One contract that is put to one trial of a layer."""

    setting: Setting
    trial: TrialId
    name: str
    backends: tuple[str, ...]
    is_single: bool = True

    def split(self) -> list[PutContract]:
        """Return nothing smaller: there is none."""
        return [self]

    def lose(self, status: Status, message: str) -> tuple[CheckResult, Said]:
        """Return a contract that is broken by what became of its process."""
        return self._say("failed", f"{status}: {message}"), Said()

    def run(self) -> tuple[CheckResult, Said]:
        """Return what became of the contract."""
        contract = find_contracts()[self.name]
        setting = self.setting.recall()
        with listen() as heard:
            try:
                trial = setting.draw(self.trial)
                with heed():  # a contract may ask the stranger's object itself
                    broken = look(contract, Subject(trial, find_runs(trial, self.backends, setting.prepared(trial))))
                result = self._judge(broken, contract.why, trial)
            except NotApplicable as reason:
                result = self._say("skipped", str(reason))
            except RAISED as error:
                if isinstance(error, BadInput) and not isinstance(error, NoLayer):
                    raise
                result = self._say("failed", f"no layer could be made: {tell(error)}")
        return result, heard.sum_up()

    def _judge(self, broken: str | Note, why: str, trial: Trial) -> CheckResult:
        if isinstance(broken, Note):
            return self._say("passed", broken.text)
        if not broken:
            return self._say("passed", "")
        return replace(self._say("failed", f"{broken} ({why})"), case=trial.problem.case.id)

    def _say(self, state: str, message: str) -> CheckResult:
        return CheckResult(self.name, self.trial.dtype, OWN, state, message, 1)  # type: ignore[arg-type]  # reason: one of the states


@dataclass(frozen=True, eq=False)
class ExplainGradient:
    """One wrong gradient, in those trials in which it is wrong by at least so much, for which a known fault is looked for.

    `known` is what explains it in another dtype, or that nothing does, if anything was looked for there.
    """

    setting: Setting
    quantity: str
    trials: tuple[TrialId, ...]
    least: float = SLIGHT
    known: tuple[str, Diagnosis] | None = None
    backends: tuple[str, ...] = (OWN,)
    is_single: bool = True

    def split(self) -> list[ExplainGradient]:
        """Return nothing smaller: there is none."""
        return [self]

    def lose(self, status: Status, message: str) -> Diagnosis:
        """Return that nothing was looked for, and why."""
        return Diagnosis("", f"not looked for: {status}: {message}")

    def run(self) -> Diagnosis:
        """Return which known fault explains the gradient, or that none does."""
        setting = self.setting.recall()
        try:
            with listen():
                if self.known is not None and self._errs_as(self.known[0], setting):
                    return self.known[1]
                return diagnose_layer([setting.draw(trial) for trial in self.trials], self.quantity, self.least)
        except NoSlope as reason:
            return Diagnosis("", f"not looked for: no formula was given, and {reason}")
        except RAISED as error:
            return Diagnosis("", f"not looked for: {tell(error)}")

    def _errs_as(self, dtype: str, setting: Setting) -> bool:
        """Whether the gradient errs in each trial as it does in the other dtype: in a wider one less of an error is rounding."""
        with suppress(*RAISED):  # reason: in the other dtype a stranger's code may raise; then nothing is known of it
            pairs = ((setting.draw(trial), setting.draw(replace(trial, dtype=dtype))) for trial in self.trials)
            return all(err_alike(trial, other, self.quantity) for trial, other in pairs)
        return False


@dataclass(frozen=True, eq=False)
class ExplainStates:
    """The results of one dtype, of which a broken contract may explain some, and the trial to which contracts were put."""

    setting: Setting
    trial: TrialId
    results: tuple[CheckResult, ...]
    backends: tuple[str, ...] = (OWN,)
    is_single: bool = True

    def split(self) -> list[ExplainStates]:
        """Return nothing smaller: there is none."""
        return [self]

    def lose(self, status: Status, message: str) -> tuple[CheckResult, ...]:
        """Return the results as they were."""
        return self.results

    def run(self) -> tuple[CheckResult, ...]:
        """Return the results with what a contract explains explained by it."""
        try:
            with listen():
                return tuple(explain_states(self.results, Subject(self.setting.recall().draw(self.trial))))
        except RAISED:  # reason: a stranger's code; what it raises was told by the trials
            return self.results


@dataclass(frozen=True, eq=False)
class Shrink:
    """The failures of a layer, of which smallest cases are looked for, and the folder that takes their files."""

    setting: Setting
    failures: tuple[CheckResult, ...]
    trials: tuple[TrialId, ...]
    frameworks: tuple[str, ...]
    folder: Path
    backends: tuple[str, ...] = (OWN,)
    is_single: bool = True

    def split(self) -> list[Shrink]:
        """Return nothing smaller: there is none."""
        return [self]

    def lose(self, status: Status, message: str) -> tuple[Example, ...]:
        """Return no case: what hangs or dies has none that could be told."""
        return ()

    def run(self) -> tuple[Example, ...]:
        """Return the smallest cases."""
        setting, drawn = self.setting.recall(), dict[str, list[Trial]]()
        with listen():
            for one in self.trials:
                with suppress(*RAISED):  # reason: what a stranger's code raises while a trial is drawn was told by that trial
                    drawn.setdefault(one.dtype, []).append(setting.draw(one))
            return find_examples(setting.find_spec(), self.failures, drawn, list_reasons, self.frameworks, self.folder)


def list_reasons(trial: Trial, check: str) -> dict[Reason, Found]:
    """Return why the trial fails the check, with no framework beside the layer; nothing where it passes."""
    if (contract := find_contracts().get(check)) is not None:
        try:
            broken = look(contract, Subject(trial))
        except NotApplicable:
            return {}
        told = broken if isinstance(broken, str) else ""
        return {Reason(check, words=re.sub(r"\d+", "#", told)): Found(told)} if told else {}
    rows, _ = judge_trial(trial, [find_backends()[OWN]], Programs())
    own = [row for row in rows if row.node in (trial.node, "network")]
    wanted = [row for row in own if row.node == "network" or (row.quantity == "y") is (check == "forward")]
    return {_name_reason(check, row): Found(row.message, _count_bounds(row)) for row in wanted if row.verdict not in PASSING}


def _name_reason(check: str, row: Comparison) -> Reason:
    """Return the reason of a failing row: of what was raised its kind and place, for the rest of the text may name sizes."""
    raised = re.sub(r":.*?(\(line [^()]*\))?$", r" \1", row.message) if row.verdict == "error" else ""
    return Reason(check, row.node, row.quantity, row.verdict, row.culprit, raised)


def _count_bounds(row: Comparison) -> float:
    """Return how many times what rounding can do in its own dtype the row is off."""
    known = [row.local_error_in_bounds, row.network_error_in_bounds, row.noise_error_in_bounds]
    return max((value for value in known if not isnan(value)), default=float("nan"))


def find_runs(trial: Trial, names: Sequence[str], programs: Programs) -> dict[str, Callable[[Problem], Outcome]]:
    """Return what runs the trial's formula in each framework, by its name; what was compiled for it is used again."""
    case, kinds, known = trial.problem.case, {trial.node: trial.declared}, find_backends()
    ready = programs if trial.declared is trial.kind else {}

    def run(backend: Backend, problem: Problem) -> Outcome:
        program = ready.get((backend.name, case.dtype)) or backend.prepare(case.network, case.dtype, kinds)
        return guard(program.run, problem) if program and not isinstance(program, Outcome) else Outcome("error")

    return {name: partial(run, known[name]) for name in names if known[name].variant == "formula"}


def judge_trial(trial: Trial, backends: list[Backend], programs: Programs) -> tuple[list[Comparison], Reference | None]:
    """Return the rows of one trial, and what a layer without a formula was held against."""
    if trial.declared.formula is None:
        own = [one for one in backends if one.name == OWN]
        return judge_unaided(trial, own[0]) if own else ([], None)
    if trial.declared is not trial.kind:
        return _judge_declared(trial, backends), None
    result = ShardResult()
    run_problem(trial.problem, backends, {trial.node: trial.kind}, {}, programs, result)
    return excuse_kinks(result.comparisons, trial, backends), None


def _judge_declared(trial: Trial, backends: list[Backend]) -> list[Comparison]:
    """Return the output's rows by the formula of the forward pass, and the gradients' by the one they are declared to be of."""
    rows, forward = list[Comparison](), [(trial.kind, True)] if trial.has_formula else []
    for kind, is_output in (*forward, (trial.declared, False)):
        result = ShardResult()
        run_problem(trial.problem, backends, {trial.node: kind}, {}, Programs(), result)
        rows += [row for row in result.comparisons if (row.quantity == "y") is is_output]
    return rows
