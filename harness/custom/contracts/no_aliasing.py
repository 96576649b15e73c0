"""The contract no_aliasing: what a layer hands out is no array that it goes on using."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.custom.contracts.comparing import list_parted, say
from harness.custom.contracts.contract import Contract
from harness.custom.contracts.subject import Subject, go_back, run_pass
from harness.floats import is_float


def find_aliased(subject: Subject) -> str:
    """Scribble on what a layer returned, and see whether the next pass suffers."""
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
    return f"{parted}; return dx.copy()" if parted else ""


def _scribble(value: Any) -> None:
    if isinstance(value, np.ndarray) and value.flags.writeable and is_float(value):
        value[...] = 7.0


CONTRACTS = (
    Contract("no_aliasing", "arrays", "an array that was handed out is its new owner's, who may write to it", find_aliased),
)
