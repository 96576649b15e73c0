"""The oracle: a layer's formula and the values it received come in, its true output and gradients in a higher precision go out.

float32 and narrower are judged in float64, float64 in 80-bit longdouble, or in double-double where a machine has none or
products are so large that BLAS is worth more than the processor's own 80 bits;
HIPS autograd differentiates the formula there, which is neither the layer under test nor a framework under judgment.
A number that is not finite is no truth until a second evaluation of another kind confirms it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.array_api import Namespace, make_autograd_namespace, make_numpy_namespace
from harness.backends.autograd_hips import differentiate
from harness.core import DTYPES, Array, BadInput
from harness.floats import find_format, is_float
from harness.judge.double_double import WideDtype
from harness.judge.memory import recall
from harness.judge.precision import Precision, choose_oracle, find_eps, raise_to, refine

HIGHER: dict[str, Precision] = {
    "bfloat16": np.dtype(np.float64),
    "float16": np.dtype(np.float64),
    "float32": np.dtype(np.float64),
    np.dtype(np.longdouble).name: np.dtype(np.longdouble),
    "float64": choose_oracle("float64"),  # last: some machines' longdouble is named float64
}
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
    if not _is_precise(dtype):
        raise BadInput(
            f"--dtypes {dtype}: this machine's longdouble is no more precise; accepted are "
            + ", ".join(filter(_is_precise, DTYPES))
        )


def _is_precise(dtype: str) -> bool:
    return find_eps(HIGHER[dtype]) <= find_format(dtype).u * 2.0**-7


def choose_precision(dtype: str, batch: int, params: Iterable[Array]) -> Precision:
    """Return the precision that judges the dtype where a batch of this size meets these parameters.

    >>> choose_precision("float32", 64, [np.ones((1024, 1024))])
    dtype('float64')
    """
    if dtype != "float64":
        return HIGHER[dtype]
    return choose_oracle(dtype, _count_multiplications(batch, params))


def choose_finer(precision: Precision, batch: int, params: Iterable[Array]) -> Precision | None:
    """Return the next precision above the oracle's own, in which an accusation is looked at again; None where there is none."""
    return refine(precision, _count_multiplications(batch, params))


def _count_multiplications(batch: int, params: Iterable[Array]) -> int:
    return batch * max((value.size for value in params if value.ndim > 1), default=0)


def lift(value: Any, precision: Precision) -> Any:
    """Return the array in the higher precision; integers and booleans stay as they are."""
    return raise_to(value, precision) if is_float(value) else value


def find_truth(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, precision: Precision,
    decisions: Array | None = None,
) -> NodeTruth:  # fmt: skip
    """Return the true output and vjp of the formula at these values, with the given branches where it has branches."""
    named = {"decisions": decisions, "dy": dy, **{f"input {i}": value for i, value in enumerate(inputs)}, **params}
    return recall(("truth", kind, precision.name), named, lambda: _find_truth(kind, params, inputs, dy, precision, decisions))


def _find_truth(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, precision: Precision,
    decisions: Array | None,
) -> NodeTruth:  # fmt: skip
    lifted = tuple(lift(value, precision) for value in inputs)
    own = {name: lift(value, precision) for name, value in params.items()}
    variable = {i: value for i, value in enumerate(lifted) if kind.differentiable[i] and is_float(value)}
    extra = {} if decisions is None else {"decisions": decisions}
    xp, run = _pick_differentiator(precision)

    def forward(leaves: Any) -> Any:
        group, given = leaves
        return kind.formula(xp, group, *[given.get(i, value) for i, value in enumerate(lifted)], **extra)

    with np.errstate(all="ignore"):
        y, (dparams, dx) = run(forward, (own, variable), lift(dy, precision))
    for value in (y, *dparams.values(), *dx.values()):
        if value.dtype != precision:
            raise OracleFault(f"the formula of {kind.name} computes in {value.dtype}, not in {precision}: it changes the dtype")
    truth = NodeTruth(y, tuple(dx.get(i) for i in range(len(inputs))), dparams)
    return truth if _is_finite(truth) else _doubt(kind, own, lifted, lift(dy, precision), truth, extra)


def pick_namespace(precision: Precision) -> Namespace:
    """Return the functions of formulas in the precision, without a differentiator's trace."""
    if not isinstance(precision, WideDtype):
        return make_numpy_namespace()
    from harness.judge.wide_operations import make_wide_namespace

    return make_wide_namespace()


def _pick_differentiator(precision: Precision) -> tuple[Namespace, Callable[..., Any]]:
    """Return the functions of formulas in the precision, and what differentiates over them."""
    if not isinstance(precision, WideDtype):
        return make_autograd_namespace(), differentiate
    from harness.judge.wide_formula import differentiate_wide

    return pick_namespace(precision), differentiate_wide


def _is_finite(truth: NodeTruth) -> bool:
    values = (truth.y, *truth.dparams.values(), *(value for value in truth.dx if value is not None))
    return all(map(_are_finite, values))


def _are_finite(value: Any) -> bool:
    """Whether all numbers are; where their sum is, no number can be infinite or NaN."""
    if value.dtype == np.float64 and np.isfinite(value.sum()):
        return True
    return bool(np.isfinite(value.astype(np.float64)).all())


def _doubt(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, truth: NodeTruth, extra: Any
) -> NodeTruth:
    """Return the truth with `unconfirmed` set to what a second evaluation does not confirm."""
    doubts = []
    params, inputs, dy = {key: narrow(value) for key, value in params.items()}, tuple(map(narrow, inputs)), narrow(dy)
    if not np.isfinite(narrow(truth.y)).all() and _is_function_finite(kind, params, inputs, extra):
        doubts.append("y")
    for i, value in enumerate(truth.dx):
        if value is not None and _has_finite_slope(kind, params, inputs, dy, i, value, extra):
            doubts.append("dx" if len(inputs) == 1 else f"dx{i}")
    for name, value in truth.dparams.items():
        if _has_finite_slope(kind, params, inputs, dy, name, value, extra):
            doubts.append(f"d{name}")
    return NodeTruth(truth.y, truth.dx, truth.dparams, ", ".join(doubts))


def narrow(value: Any) -> Any:
    """Return double-double in longdouble, wide enough for what only asks whether a number is finite; arrays as they are."""
    return value.to_longdouble() if isinstance(value.dtype, WideDtype) else value


def _is_function_finite(kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], extra: Any) -> bool:
    """Whether the formula is finite in longdouble, whose exponents reach 1e4932, or just beside these inputs."""
    wide = [lift(value, np.dtype(np.longdouble)) for value in inputs]
    if not all(np.isfinite(value).all() for value in wide) or not wide[0].size:
        return False
    own = {name: value.astype(np.longdouble) for name, value in params.items()}
    beside = [value * (1 + 2.0**-12) + 2.0**-30 if is_float(value) else value for value in wide]
    with np.errstate(all="ignore"):
        values = [kind.formula(make_numpy_namespace(), own, *arguments, **extra) for arguments in (wide, beside)]
    return any(bool(np.isfinite(value).all()) for value in values)


def _has_finite_slope(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, which: int | str, gradient: Array, extra: Any
) -> bool:
    """Whether differences of the formula are finite at an entry whose derivative is not: the function has a slope there."""
    for index in list(zip(*np.nonzero(~np.isfinite(narrow(gradient))), strict=True))[:PROBES]:
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
