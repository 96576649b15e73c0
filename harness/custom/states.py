"""States: the results of all checks and the layer on the bench come in, the results go out with what a broken contract explains.

A layer that changes its inputs, draws lots or keeps something for the next pass gives gradients that no formula explains:
then it is the contract that names the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.custom.contracts.subject import Subject, go_back, run_pass
from harness.custom.diagnose import Diagnosis
from harness.custom.report import CheckResult
from harness.isolation import quiet

RANDOM = Diagnosis("nondeterministic", "it is another one at each call, on the same arrays")
MUTATION = Diagnosis("aliasing/mutation", "an array that is another's is changed")
HANDED_OUT = Diagnosis("aliasing/mutation", "an array that it goes on using is handed out")
USED_UP = Diagnosis("aliasing/mutation", "the backward pass changes what the forward pass kept for it")
ACCUMULATED = Diagnosis("accumulated", "the gradients add up from pass to pass")
STALE = Diagnosis("stale-cache", "what was kept of the pass before is used again")
RAISES = Diagnosis("raises", "it takes no such arrays")
NOT_LINEAR = Diagnosis("cotangent-changed", "dy is not used as it is: the gradient is not linear in it")
NEAR = 1e-4


def explain_states(results: Sequence[CheckResult], subject: Subject) -> list[CheckResult]:
    """Return the results of one dtype; what a contract explains better than a formula is explained by it."""
    failing = {result.check for result in results if result.fails and result.backend == "numpy"}
    named = any(result.causes for result in results)
    raising = {result.check for result in results if result.fails and "it raises" in result.message}
    for check, explain, overrules in WAYS:
        if check in failing and (overrules or not named):
            found = RAISES if check in raising else explain(subject)
            if found is not None:
                return [_explain(one, check, found) for one in results]
    return list(results) if named else [_explain(one, one.check, RAISES) if one.check in raising else one for one in results]


def _explain(result: CheckResult, check: str, found: Diagnosis) -> CheckResult:
    """Return the result with the cause where it is the contract's; without one where it is a gradient that follows from it."""
    if not result.fails or result.backend != "numpy":
        return result
    if result.check == check:
        return replace(result, diagnosis=found.words, causes=(found.cause,))
    return replace(result, diagnosis=f"see {check}", causes=()) if result.check == "gradients" else result


def _find_mutation(subject: Subject) -> Diagnosis:
    return MUTATION


def _find_state(subject: Subject) -> Diagnosis | None:
    """Tell gradients that add up from a cache that is kept: the sum of two passes is neither's."""
    return ACCUMULATED if _try(_adds_up, subject) else STALE


def _find_used(subject: Subject) -> Diagnosis:
    return ACCUMULATED if _try(_adds_up, subject) else USED_UP


def _try(find: Callable[[Subject], bool], subject: Subject) -> bool:
    try:
        with quiet():
            return find(subject)
    except (Exception, SystemExit):  # reason: a stranger's code; what it raises was told already, and shows no sum
        return False


def _adds_up(subject: Subject) -> bool:
    """Whether some gradient of a second backward pass, or of a second pass, is the sum of both."""
    layer = subject.make()
    first = run_pass(layer, subject.inputs, subject.dy)
    again = go_back(layer, first.y, subject.dy)
    if any(_is_sum(again.name_gradients().get(name), value, value) for name, value in first.name_gradients().items()):
        return True
    layer, others = subject.make(), subject.others
    before = run_pass(layer, *others).name_gradients()
    after = run_pass(layer, subject.inputs, subject.dy).name_gradients()
    return any(_is_sum(after.get(name), before.get(name), value) for name, value in subject.alone.name_gradients().items())


def _is_sum(whole: Any, one: Any, other: Any) -> bool:
    if whole is None or one is None or other is None or np.shape(whole) != np.shape(one) or not np.any(one):
        return False
    apart = np.linalg.norm(np.asarray(whole, np.float64) - one - other)
    return bool(apart <= NEAR * np.linalg.norm(one))


# In the order in which one explains the others; those that overrule a diagnosis explain it away.
WAYS: tuple[tuple[str, Callable[[Subject], Diagnosis | None], bool], ...] = (
    ("deterministic", lambda _: RANDOM, True),
    ("inputs_unchanged", _find_mutation, True),
    ("no_stale_state", _find_state, False),
    ("backward_twice", _find_used, False),
    ("linear_in_cotangent", lambda _: NOT_LINEAR, False),
    ("no_aliasing", lambda _: HANDED_OUT, False),
)
