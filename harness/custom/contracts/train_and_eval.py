"""The contract train_and_eval: evaluation works from the start, is repeatable, and leaves nothing in training's gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import CLOSE, list_parted, say
from harness.custom.contracts.contract import Contract, describe_error
from harness.custom.contracts.modes import Switch, find_modes, unwrap
from harness.custom.contracts.subject import Subject, read_gradients, run_pass
from harness.judge.local import same_bits

STEP = 2.0**-20


def find_mode_broken(subject: Subject) -> str:
    """Put the questions one after the other; the first that is answered wrongly is told."""
    modes = find_modes(subject)
    for find in (_find_eval_first, _find_eval_unsteady, _find_left_behind, _find_eval_gradient_wrong):
        if broken := find(subject, modes):
            return broken
    return ""


def _make(subject: Subject, modes: Mapping[str, Switch], mode: str) -> Any:
    return _switch(subject.make(), modes, mode)


def _switch(adopted: Any, modes: Mapping[str, Switch], mode: str) -> Any:
    modes[mode](unwrap(adopted.layer))
    return adopted


def _find_eval_first(subject: Subject, modes: Mapping[str, Switch]) -> str:
    try:
        _make(subject, modes, "eval").forward(*subject.inputs)
    except (Exception, SystemExit) as error:  # reason: as in `look`; that it is the first pass belongs into the message
        return f"evaluation before any training raises {describe_error(error)}"
    return ""


def _find_eval_unsteady(subject: Subject, modes: Mapping[str, Switch]) -> str:
    layer = _make(subject, modes, "eval")
    first = np.array(layer.forward(*subject.inputs))
    layer.forward(*subject.others[0])
    again = layer.forward(*subject.inputs)
    return "" if same_bits(first, again) else "evaluation of the same inputs gives other outputs the second time"


def _find_left_behind(subject: Subject, modes: Mapping[str, Switch]) -> str:
    """Compare training with training behind an evaluation, where training can be repeated at all."""
    alone, same = (run_pass(_make(subject, modes, "train"), subject.inputs, subject.dy) for _ in range(2))
    if list_parted(alone, same):
        return ""
    layer = _make(subject, modes, "eval")
    layer.forward(*subject.others[0])
    found = run_pass(_switch(layer, modes, "train"), subject.inputs, subject.dy)
    return say(list_parted(found, alone), "an evaluation before it changes what training gives")


def _find_eval_gradient_wrong(subject: Subject, modes: Mapping[str, Switch]) -> str:
    """Compare the gradient of an evaluation behind a training pass with differences of its own outputs, in float64.

    What the layer learned in training (running means, for instance) is then in both.
    """
    if subject.dtype != np.float64 or not subject.places or subject.trial.declared is not subject.trial.kind:
        return ""
    layer = _make(subject, modes, "train")
    run_pass(layer, subject.inputs, subject.dy)
    _switch(layer, modes, "eval").forward(*subject.inputs)
    try:
        dx = read_gradients(layer.backward(subject.dy))
    except (Exception, SystemExit):  # reason: as above; a layer may refuse to go back in evaluation
        return ""
    rng = np.random.default_rng(0)
    along = {i: rng.standard_normal(subject.inputs[i].shape) for i in subject.places if i < len(dx) and dx[i] is not None}
    terms = [float(term) for i, v in along.items() for term in (np.sum(dx[i] * v), np.sum(np.abs(dx[i] * v)))]
    ahead, behind = (_weigh(subject, layer, along, sign * STEP) for sign in (1, -1))
    slope = (ahead - behind) / (2 * STEP)
    given, size = sum(terms[::2]), sum(terms[1::2])
    if not np.isfinite(slope) or abs(slope - given) <= CLOSE * (size + abs(slope)):
        return ""
    words = "in evaluation behind a training pass the gradient is not that of the output"
    return f"{words}: {given:.6g} along a line, not {slope:.6g}"


def _weigh(subject: Subject, layer: Any, along: Mapping[int, Array], step: float) -> float:
    moved = tuple(value + step * along[i] if i in along else value for i, value in enumerate(subject.inputs))
    return float(np.sum(subject.dy * layer.forward(*moved)))


CONTRACTS = (
    Contract(
        "train_and_eval",
        "modes",
        "a model is evaluated before, between and after its training, and must not learn or forget by it",
        find_mode_broken,
    ),
)
