"""The contract inputs_unchanged: what a layer is given and has handed out stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.custom.contracts.contract import Contract
from harness.custom.contracts.subject import Subject
from harness.judge.local import same_bits


def find_changed(subject: Subject) -> str:
    """Compare inputs, output, cotangent and parameters with copies of them after each pass."""
    inputs = [np.array(value) for value in subject.inputs]
    layer, dy = subject.make().layer, np.array(subject.dy)
    own = dict(getattr(layer, "params", {}))
    y = layer.forward(*inputs)
    kept, handed_out = [np.array(value) for value in inputs], np.array(y)
    changed = _list_changed("forward changed input", inputs, subject.inputs)
    layer.backward(dy)
    changed += _list_changed("backward changed input", inputs, kept)
    changed += [] if same_bits(dy, subject.dy) else ["backward changed the cotangent dy"]
    changed += [] if same_bits(y, handed_out) else ["backward changed the output that forward had returned"]
    changed += [f"a pass changed the parameter {k}" for k, v in subject.params.items() if not same_bits(own.get(k), v)]
    return "; ".join(changed)


def _list_changed(words: str, now: Sequence[Any], before: Sequence[Any]) -> list[str]:
    return [f"{words} {i}" for i, (a, b) in enumerate(zip(now, before, strict=True)) if not same_bits(a, b)]


CONTRACTS = (
    Contract("inputs_unchanged", "arrays", "whoever made an array still reads it: another layer, or the optimizer", find_changed),
)
