"""States: the results of all checks and the layer on the bench come in, the results go out with what a broken contract explains.

A layer that changes its inputs, draws lots or keeps something for the next pass gives gradients that no formula explains:
then it is the contract that names the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
NOT_LINEAR = Diagnosis("", "dy is not used as it is: the gradient is not linear in it")
ADDED = Diagnosis("", "something is added that does not depend on dy")
CLIPPED = Diagnosis("clipped", "it is clipped, or dy is: where dy is large it grows no more")
ROUNDED = Diagnosis("cast", "it is rounded: it is linear in dy but for what a cast to a lower precision leaves out")
NEAR, SLIGHTLY = 1e-4, 2.0**-6


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
        return replace(result, diagnosis=found.words, causes=(found.cause,) if found.cause else ())
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


def _find_bend(subject: Subject) -> Diagnosis:
    """Tell a gradient that is clipped, and one that is rounded, from one that is not linear in dy for no known reason."""
    if any(value is not None and np.asarray(value).any() for value in _scale(subject, 0.0).values()):
        return ADDED
    if _try(_is_clipped, subject):
        return CLIPPED
    return ROUNDED if _try(_is_rounded, subject) else NOT_LINEAR


def _is_clipped(subject: Subject) -> bool:
    """Whether the gradient stays as it is when a large dy grows, and is linear in a small one: a sign alone is not."""
    huge, vast, small, tiny = (_scale(subject, 2.0**power) for power in (30, 40, -10, -20))
    return _are_alike(huge, vast, 1.0) and _are_alike(tiny, small, 2.0**10)


def _scale(subject: Subject, factor: float) -> dict[str, Any]:
    return subject.run(dy=np.asarray(factor * subject.dy, subject.dy.dtype)).name_gradients()


def _are_alike(one: Mapping[str, Any], other: Mapping[str, Any], factor: float) -> bool:
    """Whether the other gradients are the first ones times a factor, and not all 0."""
    given = {name: value for name, value in one.items() if value is not None and other.get(name) is not None}
    pairs = [(np.asarray(value, np.float64), np.asarray(other[name], np.float64)) for name, value in given.items()]
    return any(value.any() for value, _ in pairs) and all(np.allclose(factor * a, b, rtol=1e-9, atol=0) for a, b in pairs)


def _is_rounded(subject: Subject) -> bool:
    """Whether the gradient for 1.1 dy is nearly 1.1 of that for dy, and quite so for 4 dy, which rounds as dy does."""
    once, scaled = subject.alone.name_gradients(), _scale(subject, 1.1)
    apart = [_part(scaled.get(name), value) for name, value in once.items() if value is not None]
    return bool(apart) and max(apart) < SLIGHTLY and _are_alike(once, _scale(subject, 4.0), 4.0)


def _part(scaled: Any, once: Any) -> float:
    wanted = 1.1 * np.asarray(once, np.float64)
    size = float(np.linalg.norm(wanted))
    return float(np.linalg.norm(np.asarray(scaled, np.float64) - wanted)) / size if size else 0.0


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
    ("linear_in_cotangent", _find_bend, False),
    ("no_aliasing", lambda _: HANDED_OUT, False),
)
