"""The Array API subset over double-double: a namespace goes out whose functions autograd can follow.

They take DoubleDouble, traced values of it (`wide_formula`), NumPy arrays and numbers. Floats are converted exactly;
functions that are exact on integers and booleans leave them to NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from autograd.extend import defvjp_argnum, notrace_primitive, primitive

from harness.array_api import SUBSET, Namespace, make_numpy_namespace
from harness.core import Array
from harness.judge import wide_functions
from harness.judge.double_double import DoubleDouble, WideDtype, add, divide, multiply, sqrt, subtract, widen
from harness.judge.wide_arrays import join, map_parts, reduce_max, reduce_sum, where
from harness.judge.wide_product import matmul


@cache
def make_wide_namespace() -> Namespace:
    """Return the functions of the subset; a formula runs on them as it stands."""
    numpy = vars(make_numpy_namespace())
    return Namespace(
        {
            name: _unless_integers(OPERATIONS[name], numpy[name]) if name in _LEAVE_INTEGERS else OPERATIONS[name]
            for name in SUBSET
        }
    )


def _unless_integers(wide: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        operands = arguments[0] if isinstance(arguments[0], list | tuple) else arguments
        return (wide if any(map(_is_float, operands)) else plain)(*arguments, **options)

    return call


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or getattr(getattr(value, "dtype", None), "kind", "") == "f"


def _widened(function: Callable[..., Any]) -> Any:
    """Return the primitive of a function whose arguments are all converted."""
    return primitive(lambda *operands: function(*map(widen, operands)))


def _arange(*bounds: Any, dtype: Any = None, **options: Any) -> Any:
    return widen(np.arange(*bounds, **options)) if isinstance(dtype, WideDtype) else np.arange(*bounds, dtype=dtype, **options)


def _larger(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    return where((x >= y) | np.isnan(x.hi), x, y)


def _smaller(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    return where((x <= y) | np.isnan(x.hi), x, y)


def _mean(x: Any, axis: Any = None, keepdims: bool = False) -> DoubleDouble:
    total = reduce_sum(widen(x), axis, keepdims)
    return divide(total, widen(widen(x).size // max(total.size, 1)))


def _join(function: Callable[..., Array]) -> Callable[..., Any]:
    """Return a function of a list and an axis that joins by a primitive of one argument an array."""
    joined = primitive(lambda axis, *arrays: join(function, arrays, axis))
    defvjp_argnum(joined, lambda place, y, given, options: lambda g: _part(function, g, place - 1, given[0], given[1:]))
    return lambda arrays, axis=0: joined(axis, *arrays)


def _part(function: Callable[..., Array], g: DoubleDouble, place: int, axis: int, arrays: Sequence[Any]) -> DoubleDouble:
    """Return the gradient of one of the arrays that were joined."""
    if function is np.stack:
        return map_parts(lambda part: np.take(part, place, axis=axis), g)
    ends = np.cumsum([widen(x).shape[axis] for x in arrays])[:-1]
    return map_parts(lambda part: np.split(part, ends, axis=axis)[place], g)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _widened(add),
    "sub": _widened(subtract),
    "mul": _widened(multiply),
    "truediv": _widened(divide),
    "negative": primitive(operator.neg),
    "take": primitive(operator.getitem),
    "abs": _widened(abs),
    "arange": _arange,
    "concat": _join(np.concatenate),
    "cos": _widened(wide_functions.cos),
    "erf": _widened(wide_functions.erf),
    "exp": _widened(wide_functions.exp),
    "expand_dims": primitive(lambda x, axis=0: map_parts(lambda part: np.expand_dims(part, axis), widen(x))),
    "expm1": _widened(wide_functions.expm1),
    "log": _widened(wide_functions.log),
    "log1p": _widened(wide_functions.log1p),
    "matmul": _widened(matmul),
    "max": primitive(lambda x, axis=None, keepdims=False: reduce_max(widen(x), axis, keepdims)),
    "maximum": _widened(_larger),
    "mean": primitive(_mean),
    "min": primitive(lambda x, axis=None, keepdims=False: -reduce_max(-widen(x), axis, keepdims)),
    "minimum": _widened(_smaller),
    "ones_like": notrace_primitive(lambda x: DoubleDouble(np.ones(widen(x).shape))),
    "permute_dims": primitive(lambda x, axes=None: map_parts(lambda part: np.transpose(part, axes), widen(x))),
    "pow": primitive(lambda x, y: wide_functions.power(widen(x), y)),
    "reshape": primitive(lambda x, shape: map_parts(lambda part: np.reshape(part, shape), widen(x))),
    "sign": notrace_primitive(lambda x: DoubleDouble(np.sign(widen(x).hi))),
    "sin": _widened(wide_functions.sin),
    "sqrt": _widened(sqrt),
    "square": _widened(lambda x: multiply(x, x)),
    "stack": _join(np.stack),
    "sum": primitive(lambda x, axis=None, keepdims=False: reduce_sum(widen(x), axis, keepdims)),
    "tanh": _widened(wide_functions.tanh),
    "where": primitive(where),
    "zeros_like": notrace_primitive(lambda x: DoubleDouble(np.zeros(widen(x).shape))),
}
_LEAVE_INTEGERS = frozenset(
    "abs concat expand_dims matmul max maximum min minimum ones_like permute_dims pow reshape sign square stack sum "
    "where zeros_like".split()
)


def set_operator(kind: type, name: str) -> None:
    """Make the operator of this name, from either side, the operation."""
    setattr(kind, f"__{name}__", lambda x, y: OPERATIONS[name](x, y))
    setattr(kind, f"__r{name}__", lambda x, y: OPERATIONS[name](y, x))


# The array type cannot know them itself: power and product are built on it.
set_operator(DoubleDouble, "pow")
set_operator(DoubleDouble, "matmul")
