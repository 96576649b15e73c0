"""Mutation: a layer class comes in, a subclass of the same name with one fault in its two passes goes out.

The fault is planted by wrapping: what forward and backward receive and return is changed, and nothing is known of
the layer's inside, so that any layer can be asked "would this test have found a fault in you?". A mutation may leave
a network's numbers bit for bit as they were (a batch factor with a batch of one, a cast that is exact): such an
equivalent mutant can be found by nobody, and whoever counts must leave it out. That can happen to every mutation
on some network; `may_vanish` marks those of which it is usual.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from harness.core import DTYPES, Array
from harness.mutations.passes import Gradients, Passed, Settings, make_faulty
from reference_layers import Rounding

Family = Literal["scale", "element", "structure", "formula", "arithmetic", "state", "named"]
SIZES = (*(float(f"{digit}e{power}") for power in range(-18, 1) for digit in (1, 2, 5)), 10.0)


def fits_all(kind: Any) -> bool:
    """Whether the mutation can be planted in this layer class: in all."""
    return True


@dataclass(frozen=True)
class Mutation:
    """One kind of fault.

    `sizes` are the relative sizes of a graded fault, ascending, and empty for a gross one; `why` says which real bug
    it stands for; `dtypes` are the dtypes of networks in which it changes anything. A mutation changes what it has a
    hook for: `receives(settings, inputs)` what forward computes from, `returns(passed)` what forward returns,
    `upstream(settings, dy)` what backward computes from, `gradients(passed)` what backward returns.

    >>> import numpy as np
    >>> from reference_layers import ReLU
    >>> faulty = find_mutation("dx scaled by 1 + e").plant(ReLU, 0.5, seed=0)()
    >>> faulty.forward(np.array([-1.0, 2.0])), faulty.backward(np.array([1.0, 1.0]))
    (array([0., 2.]), array([0. , 1.5]))
    """

    name: str
    family: Family
    why: str
    sizes: tuple[float, ...] = ()
    needs: Callable[[Any], bool] = fits_all
    receives: Callable[[Settings, tuple[Array, ...]], tuple[Array, ...]] | None = None
    returns: Callable[[Passed], Any] | None = None
    upstream: Callable[[Settings, Array], Array] | None = None
    gradients: Callable[[Passed], Gradients | None] | None = None
    dtypes: tuple[str, ...] = DTYPES
    may_vanish: bool = False

    def fits(self, kind: Any) -> bool:
        """Whether the mutation can be planted in this layer class: whether it has what is changed."""
        return self.needs(kind)

    def plant(self, kind: Any, size: float = 0.0, seed: int = 0, rounding: Rounding | None = None) -> Any:
        """Return a subclass with the fault: same name, formula and bounds, other passes.

        `seed` picks the entry, row or tensor that is hit, the same one in each pass. `rounding` is the arithmetic in
        which multiples of the rounding bound are counted; without one it is that of the arrays' dtype.
        """
        return make_faulty(kind, self, Settings(size, seed, rounding))

    def __reduce__(self) -> tuple[Any, ...]:
        return find_mutation, (self.name,)


@cache
def find_mutations() -> tuple[Mutation, ...]:
    """Return every generic mutation: the `MUTATIONS` of the modules beside this one."""
    return tuple(mutation for module in _modules() for mutation in getattr(module, "MUTATIONS", ()))


@cache
def find_named() -> tuple[Mutation, ...]:
    """Return the mutations of one known layer each: the `NAMED` of the modules beside this one."""
    return tuple(mutation for module in _modules() for mutation in getattr(module, "NAMED", ()))


def find_mutation(name: str) -> Mutation:
    """Return the mutation of that name. Raises KeyError, naming it, when there is none."""
    return {mutation.name: mutation for mutation in (*find_mutations(), *find_named())}[name]


def _modules() -> list[Any]:
    package = __name__.rpartition(".")[0]
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return [importlib.import_module(f"{package}.{name}") for name in names]
