"""The contract no_aliasing: what a layer hands out is no array that it goes on using."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.custom.contracts.comparing import list_parted, say
from harness.custom.contracts.contract import Contract
from harness.custom.contracts.subject import Subject, go_back, run_pass
from harness.floats import is_float
from harness.strangers import RAISED


def find_aliased(subject: Subject) -> str:
    """Scribble on what a layer returned, and see whether the next pass suffers; then the other way round."""
    layer = subject.make()
    y = layer.forward(*subject.inputs)
    kept = np.array(y)
    _scribble(y)
    first = go_back(layer, kept, subject.dy)
    if parted := list_parted(first, subject.alone):
        return f"whoever writes to the output that forward returned changes what backward gives: {parted}; return y.copy()"
    returned = layer.backward(subject.dy)
    for part in returned if isinstance(returned, tuple) else (returned,):
        _scribble(part)
    again = run_pass(layer, subject.inputs, subject.dy)
    words = "whoever writes to the gradient that backward returned changes the pass after it"
    parted = say(list_parted(again, subject.alone), words)
    return f"{parted}; return dx.copy()" if parted else _find_overwritten(subject)


def _find_overwritten(subject: Subject) -> str:
    """Keep what a pass handed out, and see whether a later pass over other numbers writes to it."""
    layer = subject.make()
    y = layer.forward(*subject.inputs)
    returned = layer.backward(subject.dy)
    dx = returned if isinstance(returned, tuple) else (returned,)
    handed = {"the output that forward returned": y} | {f"dx{i}, which backward returned": part for i, part in enumerate(dx)}
    arrays = {name: value for name, value in handed.items() if isinstance(value, np.ndarray)}
    before = {name: value.copy() for name, value in arrays.items()}
    try:
        run_pass(layer, *subject.others)
    except RAISED:  # reason: not every layer takes other numbers, and this is not the place to tell
        run_pass(layer, subject.inputs, -subject.dy)
    changed = [name for name, value in arrays.items() if not np.array_equal(value, before[name], equal_nan=is_float(value))]
    return f"a later pass writes to {' and '.join(changed)}; return a copy, or compute into a new array" if changed else ""


def _scribble(value: Any) -> None:
    if isinstance(value, np.ndarray) and value.flags.writeable and is_float(value):
        value[...] = 7.0


CONTRACTS = (
    Contract("no_aliasing", "arrays", "an array that was handed out is its new owner's, who may write to it", find_aliased),
)
