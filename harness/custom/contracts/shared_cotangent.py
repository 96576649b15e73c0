"""The contract shared_cotangent: two layers of a kind that receive one cotangent array do not disturb one another."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.custom.contracts.comparing import list_parted
from harness.custom.contracts.contract import Contract
from harness.custom.contracts.subject import Pass, Subject, read_gradients


def find_disturbed(subject: Subject) -> str:
    """Run two layers forward, hand both the same array, and read the first one's gradients when the second is done."""
    layers, dy = [subject.make().layer for _ in range(2)], np.array(subject.dy)
    given = (subject.inputs, subject.others[0])
    outputs = [np.array(layer.forward(*map(np.array, inputs))) for layer, inputs in zip(layers, given, strict=True)]
    returned = [(layer.backward(dy), dict(getattr(layer, "grads", None) or {})) for layer in layers]
    found = [_read(y, *parts) for y, parts in zip(outputs, returned, strict=True)]
    right = [subject.alone, subject.run(given[1])]
    parted = [list_parted(a, b) for a, b in zip(found, right, strict=True)]
    return "; ".join(
        f"the {place} of two layers that share one cotangent gives other numbers than alone: {names}"
        for place, names in zip(("first", "second"), parted, strict=True)
        if names
    )


def _read(y: Any, dx: Any, grads: dict[str, Any]) -> Pass:
    return Pass(y, read_gradients(dx), {name: np.array(value) for name, value in grads.items()})


CONTRACTS = (
    Contract(
        "shared_cotangent",
        "cotangent",
        "where a value is used twice its gradient goes to two layers as one array, and each must find it whole",
        find_disturbed,
    ),
)
