"""Layers that take their process with them; every one is right but on a batch of two, which is one trial of seven."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import numpy as np

from harness import LayerSpec
from tests.custom.layers import Swish, swish


class Hangs(Swish):
    def forward(self, x: Any) -> Any:
        while len(x) == 2:
            time.sleep(0.01)
        return super().forward(x)


class Exits(Swish):
    def backward(self, dy: Any) -> Any:
        if len(dy) == 2:
            os._exit(0)
        return super().backward(dy)


class Segfaults(Swish):
    def backward(self, dy: Any) -> Any:
        if len(dy) == 2:
            ctypes.string_at(0)
        return super().backward(dy)


class Hogs(Swish):
    def forward(self, x: Any) -> Any:
        if len(x) == 2:
            self.kept = [np.ones(2**20) for _ in range(1000)]
        return super().forward(x)


class HangsAlways(Swish):
    def backward(self, dy: Any) -> Any:
        time.sleep(600)


class Scaled(Swish):
    def backward(self, dy: Any) -> Any:
        return 1.5 * super().backward(dy)


class NoLayer:
    def forward(self, x: Any) -> Any:
        return x


class Talks(Swish):
    """It is right, and writes to the streams of the system."""

    def forward(self, x: Any) -> Any:
        os.write(1, b"from below\n")
        sys.stdout.write("from above\n")
        return super().forward(x)


def inputs(rng: np.random.Generator) -> list[Any]:
    """Return one input, for specifications that travel."""
    return [rng.standard_normal((4, 3))]


hangs, exits, segfaults, hogs, hangs_always, scaled = (
    LayerSpec(kind, lambda xp, params, x: swish(xp, params, x), [(6, 5)])
    for kind in (Hangs, Exits, Segfaults, Hogs, HangsAlways, Scaled)
)
several = [LayerSpec(Talks, lambda xp, params, x: swish(xp, params, x), [(6, 5)], name=name) for name in ("one", "two")]
