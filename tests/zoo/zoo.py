"""The zoo: the modules of layers beside this one come in, right layers and the faults planted in them go out.

Each fault says what a competent engineer would name as its cause, from a fixed vocabulary, and was written before, and
without a look at, what diagnoses it. Half of them, by a hash of the name, are held out: no diagnosis is tuned on those.
"""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness.custom.spec import LayerSpec

CAUSES: Mapping[str, str] = {
    "zero": "the gradient is all 0",
    "swapped": "it is another quantity's gradient",
    "identity": "the local derivative is missing: it is dy itself",
    "sign": "it has the wrong sign",
    "factor": "it is a constant times the truth",
    "size-factor": "it is multiplied or divided by a size, or by another size than it should be",
    "transposed": "it is transposed, or reshaped instead of transposed",
    "order": "it is shifted, reversed or permuted along an axis",
    "wrong-axis": "it is summed or averaged over the wrong axis",
    "missing-term": "a term of a sum is missing",
    "missing-factor": "a factor of a product is missing",
    "extra-factor": "a factor of a product is there twice, or should not be there",
    "dropped-row": "one sample is left out",
    "one-element": "one entry alone is wrong",
    "one-slice": "one row, column or channel alone is wrong, or 0",
    "mask": "a mask is missing, or has the wrong threshold or comparison",
    "at-output": "the derivative is taken at the output instead of the input",
    "at-input": "the derivative is taken at the input instead of the output",
    "cotangent-ignored": "dy plays no part: it is taken as 1",
    "cotangent-changed": "another thing than dy plays its part: its mean, its sign, its square",
    "clipped": "it is clipped",
    "diagonal-only": "of the Jacobian the diagonal alone is used",
    "stale-cache": "the cache is that of another batch",
    "accumulated": "it adds up from call to call",
    "cast": "it is computed in a lower precision",
    "constant": "a constant in it is slightly wrong",
    "aliasing/mutation": "an array that is another's is changed or handed out",
    "nondeterministic": "it is another one at each call",
    "shape": "it has the wrong shape",
    "raises": "it raises",
    "none": "nothing of the above: to name any would be wrong",
}
MOST_CAUSES = 3


@dataclass(frozen=True, eq=False)
class RightLayer:
    """A layer that is right, in one framework, with what is needed to judge it."""

    name: str
    spec: LayerSpec
    framework: str = "numpy"


@dataclass(frozen=True, eq=False)
class Fault:
    """A layer that is wrong: the right one it was made from, what is wrong, and which of CAUSES would be a right answer.

    `found_by` names the checks of which at least one must see it.
    """

    name: str
    right: RightLayer
    layer: Any
    causes: frozenset[str]
    why: str
    found_by: frozenset[str] = field(default=frozenset({"gradients"}))

    @property
    def framework(self) -> str:
        """The framework in which it is written."""
        return self.right.framework

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the half that is never used to tune a diagnosis."""
        return bool(zlib.crc32(self.name.encode()) % 2)

    @cached_property
    def spec(self) -> LayerSpec:
        """The right layer's specification with the wrong layer in it."""
        return replace(self.right.spec, layer=self.layer, name=self.right.spec.name)


def plant(right: RightLayer, name: str, layer: Any, causes: str, why: str, found_by: str = "gradients") -> Fault:
    """Return a fault; `causes` and `found_by` are words in one string. Raises ValueError on a word that is no cause."""
    named = frozenset(causes.split())
    if unknown := sorted(named - set(CAUSES)):
        raise ValueError(f"causes: {unknown}; accepted are {', '.join(CAUSES)}")
    if not 1 <= len(named) <= MOST_CAUSES or ("none" in named and len(named) > 1):
        raise ValueError(f"causes: {causes!r}; accepted are 1 to {MOST_CAUSES} causes, or none alone")
    return Fault(f"{right.name}-{name}", right, layer, named, why, frozenset(found_by.split()))


@dataclass(frozen=True)
class Zoo:
    """All right layers and all faults, each by its name."""

    right: Mapping[str, RightLayer]
    faults: Mapping[str, Fault]


@cache
def find_zoo() -> Zoo:
    """Return what the modules beside this one hold in RIGHT and FAULTS. Raises ValueError where two have one name."""
    package = __name__.rpartition(".")[0]
    names = sorted(found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"{package}.{name}") for name in names if not name.startswith("test_")]
    return Zoo(
        _by_name([one for module in modules for one in getattr(module, "RIGHT", ())]),
        _by_name([one for module in modules for one in getattr(module, "FAULTS", ())]),
    )


def _by_name(entries: list[Any]) -> dict[str, Any]:
    found = {one.name: one for one in entries}
    if len(found) != len(entries):
        raise ValueError(f"names: {sorted(one.name for one in entries)} are not all different")
    return found
