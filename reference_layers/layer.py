"""The layer contract: arrays come in through `forward`, gradients go out of `backward`, and a bound says what rounding may do.

A layer class carries, beside the hand-written NumPy rule, everything that a judge needs to know
about it, so that adding a layer is adding one file:

- `formula(xp, params, *inputs)`: the forward pass once more, in the Array API subset of the harness;
- `forward_bound` and `backward_bound`: how far rounding may move the results;
- `native`: what a framework itself offers for the same thing, as functions of that framework's module;
- `initial_params`, `sample_inputs`: random parameters and inputs;
- `hazards`: inputs on which implementations of this layer are known to break;
- `worked`: numbers worked out without any code, which catch a mistake that the class and its formula share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Params = Mapping[str, Any]
Place = Literal["map", "merge", "project", "loss", "alone"]
Rule = Literal["layer", "formula", "native"]


@dataclass(frozen=True)
class Rounding:
    """The arithmetic for which a bound is derived.

    `u` is the unit roundoff of stored values, `ua` of the accumulator of sums and products, `tiny`
    the smallest normal number (what flushing to zero may lose), `elementary` the error of exp and
    log in units of `u`. `rule` says whose backward pass is judged: the hand-written `layer`, the
    differentiated `formula` or a framework's `native` op, for they round in different places.
    `typical` asks for what sums of n roundings come to (as the square root of n) in place of the worst case.
    `largest` is the largest number: beyond it exp is infinite. `store` and `least` are the unit roundoff and the
    smallest number of the format in which results are stored where that is narrower than `u`; no bound here counts
    them, for the network stores, not the layer.
    """

    u: float
    ua: float
    tiny: float
    elementary: float = 5.0
    rule: Rule = "layer"
    typical: bool = False
    largest: float = float("inf")
    store: float = 0.0
    least: float = 0.0

    def gamma(self, n: int) -> float:
        """Bound of n successive roundings, n*ua / (1 - n*ua) (Higham, Accuracy and Stability, 3.1).

        The typical size is sqrt(n)*ua (Higham and Mary, A new approach to probabilistic rounding error analysis).

        Infinite from n*ua = 1 on, where nothing is left that a bound could promise.

        >>> Rounding(u=2.0**-53, ua=2.0**-53, tiny=2.0**-1022).gamma(0)
        0.0
        """
        if self.typical:
            return float(np.sqrt(n)) * self.ua
        return n * self.ua / (1.0 - n * self.ua) if n * self.ua < 1 else float("inf")


@dataclass(frozen=True, eq=False)
class Pair:
    """A value and how far the value under test may lie from it: |computed - value| <= error, elementwise.

    `is_exact` says that the error is 0 everywhere, so that a bound need not carry it on.
    """

    value: Array
    error: Array
    is_exact: bool = False

    @property
    def size(self) -> Array:
        """The largest magnitude that the computed value can have."""
        out: Array = np.abs(self.value)
        return out if self.is_exact else out + self.error


@dataclass(frozen=True, eq=False)
class BackwardBound:
    """The bound of every gradient that one backward pass returns, each shaped like its gradient."""

    dx: tuple[Array | None, ...]
    dparams: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Hazard:
    """Values that break implementations: `plant(rng, columns)` returns a changed copy of a 2-d array.

    It works column by column, so that a network can plant it in the inputs of a layer or, when an
    affine map feeds the layer, in the columns of that map's weights and bias. `reach` says how many
    times larger it makes numbers: formats with few exponents cannot hold them.
    """

    name: str
    why: str
    plant: Callable[[np.random.Generator, Array], Array]
    reach: float = 1.0


@dataclass(frozen=True)
class Worked:
    """One pass through a layer worked out without running any code: what goes in, and what must come out.

    Numbers are nested tuples, integers for labels; what float32 holds exactly is meant exactly, anything else is
    the nearest float64. Parameters must be exact in every dtype. `dx` has None for a constant input. `source` says
    where the numbers come from.
    """

    inputs: tuple[Any, ...]
    dy: Any
    y: Any
    dx: tuple[Any, ...]
    source: str
    params: Mapping[str, Any] = field(default_factory=dict)
    dparams: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Layer(Protocol):
    """A hand-written layer: `params` and `grads` by name, and the two passes.

    `forward` keeps what `backward` needs in `cache`, a fresh tuple each time; `backward` takes an
    older one, so that forward A, forward B, backward A works. Neither changes an array it is given.
    """

    params: dict[str, Array]
    grads: dict[str, Array]
    cache: tuple[Any, ...]

    def forward(self, *inputs: Array) -> Array:
        """Return the output for the inputs and keep `cache`."""
        ...

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Any:
        """Return the gradient of each differentiable input (one array or a tuple) and fill `grads`."""
        ...


class LayerBase:
    """What the layers here share: no parameters, no hazards, placed nowhere, until a layer says otherwise."""

    name: ClassVar[str]
    place: ClassVar[Place] = "alone"
    differentiable: ClassVar[tuple[bool, ...]] = (True,)
    native: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    hazards: ClassVar[tuple[Hazard, ...]] = ()
    worked: ClassVar[tuple[Worked, ...]] = ()

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.cache: tuple[Any, ...] = ()

    def _recall(self, cache: tuple[Any, ...] | None) -> tuple[Any, ...]:
        kept = self.cache if cache is None else cache
        if not kept:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward pass before it: no cache is kept")
        return kept

    @staticmethod
    def initial_params(rng: np.random.Generator, n_in: int, n_out: int) -> dict[str, Array]:
        """Return random float64 parameters for `n_in` features in and `n_out` out; none by default."""
        return {}

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {value.dtype}{list(value.shape)}" for name, value in self.params.items())
        return f"{type(self).__name__}({shapes})"
