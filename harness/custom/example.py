"""Examples: the smallest trial that a layer fails, and what came of it, come in; the lines that show it go out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.layer_case import LayerCase

MOST_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Example:
    """The smallest trial found that fails a check, in the dtype that is named.

    `params`, `inputs` (by the names that the message uses) and `dy` are what the layer was given; `got` is what it gave for
    `quantity` and `expected` the truth, both None where there is nothing to compare; `in_bounds` is how many times what
    rounding can do they are apart, where that is known; `message` says what was found. `case` makes it again, `case_file` is
    what `harness replay` takes and `script` a program that shows it without the harness, both empty where the layer cannot be
    imported, which `note` then says.
    """

    check: str
    dtype: str
    quantity: str
    verdict: str
    message: str
    params: Mapping[str, Array] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)
    dy: Array | None = None
    got: Array | None = None
    expected: Array | None = None
    in_bounds: float = float("nan")
    case: LayerCase | None = None
    case_file: str = ""
    script: str = ""
    note: str = ""

    def describe(self) -> list[str]:
        """Return at most four lines: what goes in, what comes out, how to run it again, and what to know of it."""
        given = {**self.inputs, **self.params} | ({} if self.dy is None else {"dy": self.dy})
        lines = [
            f"smallest case of {self.check} ({self.dtype}): " + ", ".join(f"{k} = {show_array(v)}" for k, v in given.items())
        ]
        if self.expected is not None and self.got is None:
            lines.append(f"  {self.quantity} by the formula {show_array(self.expected)}, by the layer nothing")
        elif self.expected is not None:
            lines.append(f"  {self.quantity} by the layer {show_array(self.got)}, by the formula {show_array(self.expected)}")
        else:
            lines.append(f"  {' '.join(self.message.split())}")
        again = [f"harness replay {self.case_file}"] if self.case_file else []
        again += [f"python {self.script}"] if self.script else []
        lines += [f"  run it again: {', or '.join(again)}"] if again else []
        return [*lines, *([f"  {self.note}"] if self.note else [])]


def show_array(value: Any) -> str:
    """Return an array as it is written, its shape and dtype where it is long.

    >>> show_array(np.ones((1, 2))), show_array(np.ones((8, 5)))
    ('[[1.0, 1.0]]', 'float64 of shape [8, 5]')
    """
    array = np.asarray(value)
    if array.size > MOST_SHOWN:
        return f"{array.dtype} of shape {list(array.shape)}"
    return str(array.tolist())
