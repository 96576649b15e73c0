"""The oracle: a layer's formula and the values it received come in, its true output and gradients in a higher precision go out.

float32 is judged in float64, float64 in 80-bit longdouble; HIPS autograd differentiates the formula there, which
is neither the layer under test nor a framework under judgment. A number that is not finite is no truth until a
second evaluation of another kind confirms it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace, make_numpy_namespace
from harness.backends.autograd_hips import differentiate
from harness.core import Array, BadInput

HIGHER: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float64), "float64": np.dtype(np.longdouble)}
PROBES = 3


@dataclass(frozen=True, eq=False)
class NodeTruth:
    """The true output and gradients of one node; `unconfirmed` says which of them the formula alone makes non-finite."""

    y: Array
    dx: tuple[Array | None, ...]
    dparams: Mapping[str, Array]
    unconfirmed: str = ""


class OracleFault(Exception):
    """The oracle could not keep its precision: a fault of the harness or of a formula, never of a layer."""


def check_precision(dtype: str) -> None:
    """Raise BadInput when this machine has no precision above the dtype's to judge it with."""
    if np.finfo(HIGHER[dtype]).eps > np.finfo(dtype).eps * 2.0**-8:
        raise BadInput(
            f"--dtypes {dtype}: this machine's longdouble is no more precise; accepted are "
            + ", ".join(name for name, higher in HIGHER.items() if np.finfo(higher).eps <= np.finfo(name).eps * 2.0**-8)
        )


def lift(value: Array, precision: np.dtype[Any]) -> Array:
    """Return the array in the higher precision; integers and booleans stay as they are."""
    return value.astype(precision) if value.dtype.kind == "f" else value


def find_truth(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, precision: np.dtype[Any],
    decisions: Array | None = None,
) -> NodeTruth:  # fmt: skip
    """Return the true output and vjp of the formula at these values, with the given branches where it has branches."""
    lifted = tuple(lift(value, precision) for value in inputs)
    own = {name: lift(value, precision) for name, value in params.items()}
    variable = {i: value for i, value in enumerate(lifted) if kind.differentiable[i] and value.dtype.kind == "f"}
    extra = {} if decisions is None else {"decisions": decisions}

    def forward(leaves: Any) -> Any:
        group, given = leaves
        return kind.formula(make_autograd_namespace(), group, *[given.get(i, value) for i, value in enumerate(lifted)], **extra)

    with np.errstate(all="ignore"):
        y, (dparams, dx) = differentiate(forward, (own, variable), lift(dy, precision))
    for value in (y, *dparams.values(), *dx.values()):
        if value.dtype != precision:
            raise OracleFault(f"the formula of {kind.name} computes in {value.dtype}, not in {precision}: it changes the dtype")
    truth = NodeTruth(y, tuple(dx.get(i) for i in range(len(inputs))), dparams)
    return truth if _is_finite(truth) else _doubt(kind, own, lifted, lift(dy, precision), truth, extra)


def _is_finite(truth: NodeTruth) -> bool:
    values = (truth.y, *truth.dparams.values(), *(value for value in truth.dx if value is not None))
    return all(bool(np.isfinite(value).all()) for value in values)


def _doubt(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, truth: NodeTruth, extra: Any
) -> NodeTruth:
    """Return the truth with `unconfirmed` set to what a second evaluation does not confirm."""
    doubts = []
    if not np.isfinite(truth.y).all() and _is_function_finite(kind, params, inputs, extra):
        doubts.append("y")
    for i, value in enumerate(truth.dx):
        if value is not None and _has_finite_slope(kind, params, inputs, dy, i, value, extra):
            doubts.append("dx" if len(inputs) == 1 else f"dx{i}")
    for name, value in truth.dparams.items():
        if _has_finite_slope(kind, params, inputs, dy, name, value, extra):
            doubts.append(f"d{name}")
    return NodeTruth(truth.y, truth.dx, truth.dparams, ", ".join(doubts))


def _is_function_finite(kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], extra: Any) -> bool:
    """Whether the formula is finite in longdouble, whose exponents reach 1e4932, or just beside these inputs."""
    wide = [lift(value, np.dtype(np.longdouble)) for value in inputs]
    if not all(np.isfinite(value).all() for value in wide) or not wide[0].size:
        return False
    own = {name: value.astype(np.longdouble) for name, value in params.items()}
    beside = [value * (1 + 2.0**-12) + 2.0**-30 if value.dtype.kind == "f" else value for value in wide]
    with np.errstate(all="ignore"):
        values = [kind.formula(make_numpy_namespace(), own, *arguments, **extra) for arguments in (wide, beside)]
    return any(bool(np.isfinite(value).all()) for value in values)


def _has_finite_slope(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, which: int | str, gradient: Array, extra: Any
) -> bool:
    """Whether differences of the formula are finite at an entry whose derivative is not: the function has a slope there."""
    for index in list(zip(*np.nonzero(~np.isfinite(gradient)), strict=True))[:PROBES]:
        sums = [_weigh(kind, params, inputs, dy, which, index, step, extra) for step in (-1, 0, 1)]
        if np.isfinite(sums).all():
            return True
    return False


def _weigh(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, which: int | str, index: Any,
    step: int, extra: Any,
) -> Any:  # fmt: skip
    """Return sum(dy * formula) with one entry moved by a small step."""
    moved = [value.copy() for value in inputs]
    own = {name: value.copy() for name, value in params.items()}
    array = moved[which] if isinstance(which, int) else own[which]
    array[index] += step * 2.0**-16 * max(1.0, abs(float(array[index])))
    with np.errstate(all="ignore"):
        return np.sum(dy * kind.formula(make_numpy_namespace(), own, *moved, **extra))
