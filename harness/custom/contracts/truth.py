"""The formula's word: inputs of any size or value come in, its output, its gradients or why it gives none go out."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import Array
from harness.custom.contracts.comparing import list_apart
from harness.custom.contracts.contract import NotApplicable
from harness.custom.contracts.subject import Inputs, Pass, Subject
from harness.judge.oracle import find_truth, narrow
from harness.judge.precision import Precision

PLAIN: Precision = np.dtype(np.float64)
STRICT = 1e-5
ALREADY = "the layer is not what its formula says at the usual inputs: see forward and gradients"


def evaluate(subject: Subject, inputs: Inputs) -> Array:
    """Return the formula's output in the layer's own dtype. Raises NotApplicable where it takes no such inputs."""
    formula = _require_formula(subject)
    try:
        return np.asarray(formula(make_numpy_namespace(), subject.params, *inputs))
    except Exception as error:  # reason: a formula that takes no such inputs asks nothing of the layer
        raise NotApplicable(f"the formula takes no such inputs ({type(error).__name__}: {error})") from None


def differentiate(subject: Subject, inputs: Inputs, dy: Array, precision: Precision = PLAIN) -> Pass:
    """Return the formula's output and the gradients, those that are declared where they are, in a higher precision.

    Raises NotApplicable where the formula takes no such inputs.
    """
    _require_formula(subject)
    trial = subject.trial
    try:
        truth = find_truth(trial.declared, subject.params, inputs, dy, precision)
        y = truth.y if trial.declared is trial.kind else evaluate(subject, inputs)
    except NotApplicable:
        raise
    except Exception as error:  # reason: as above
        raise NotApplicable(f"the formula takes no such inputs ({type(error).__name__}: {error})") from None
    dx = tuple(None if part is None else narrow(part) for part in truth.dx)
    return Pass(narrow(y), dx, {name: narrow(value) for name, value in truth.dparams.items()})


def compare_with_formula(subject: Subject, inputs: Inputs) -> str:
    """Return what a fresh layer makes of these inputs otherwise than the formula; nothing where they agree.

    Raises NotApplicable where the formula takes no such inputs, or gives no finite number for them.
    """
    dy = subject.draw_cotangent(np.shape(evaluate(subject, inputs)))
    right = differentiate(subject, inputs, dy)
    if not is_finite(right):
        raise NotApplicable("the formula gives no finite numbers there")
    suspects = list_suspects(subject)
    if suspects >= {name for name, value in right.name().items() if value is not None}:
        raise NotApplicable(ALREADY)
    found = subject.run(inputs, dy)
    return list_apart(subject, found, _leave_out(right, suspects), inputs, dy)


@lru_cache(maxsize=8)
def list_suspects(subject: Subject) -> frozenset[str]:
    """Return the quantities that are not the formula's at the trial's own arrays: what else they are nobody needs to be told.

    Raises NotApplicable where the formula gives no finite number there.
    """
    right = differentiate(subject, subject.inputs, subject.dy)
    if not is_finite(right):
        raise NotApplicable("the formula gives no finite numbers for the inputs themselves")
    apart = list_apart(subject, subject.alone, right, subject.inputs, subject.dy, STRICT)
    return frozenset(apart.split(", ")) - {""}


def _leave_out(one: Pass, names: frozenset[str]) -> Pass:
    dx = tuple(None if f"dx{i}" in names else part for i, part in enumerate(one.dx))
    grads = {name: value for name, value in one.grads.items() if f"d{name}" not in names}
    return Pass(None if "y" in names else one.y, dx, grads)


def is_finite(one: Pass) -> bool:
    """Whether everything in a pass is a finite number."""
    return all(bool(np.isfinite(value).all()) for value in one.name().values() if value is not None)


def _require_formula(subject: Subject) -> Any:
    formula = subject.trial.kind.formula
    if formula is None:
        raise NotApplicable("there is no formula that would say what is right here")
    return formula
