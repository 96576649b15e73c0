"""Differentiation in double-double: a formula and its leaves come in, its value and its gradients for a cotangent go out.

HIPS autograd keeps the tape here as it does for NumPy's arrays; what it is told, through `autograd.extend`, is a value
type, its vector space, and for each function of the subset its derivative. Its derivatives for NumPy's functions would
not do: they make float64 zeros of a NumPy dtype, and add in place. At ties and kinks the subgradients are the same
as those: maximum and minimum share equally, so do max and min, abs has 0 at 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from autograd.extend import Box, VSpace, defvjp, notrace_primitive

from harness.backends.autograd_hips import make_pullback
from harness.core import Array
from harness.judge import wide_functions
from harness.judge.double_double import WIDE, DoubleDouble, WideDtype, add, widen
from harness.judge.wide_arrays import map_parts, reduce_sum, where
from harness.judge.wide_operations import OPERATIONS, make_wide_namespace, set_operator
from harness.judge.wide_product import matmul

Shape = tuple[int, ...]


def differentiate_wide(function: Callable[[Any], Any], leaves: Any, dy: Any) -> tuple[DoubleDouble, Any]:
    """Return the function's value at the leaves (a nest of tuples and dicts of DoubleDouble) and their gradients.

    `function` computes with `make_wide_namespace()`; dy, of the value's shape, is converted exactly. Errors are those
    of the operations (`double_double`, `wide_functions`, `wide_product`), carried through the formula as rounding is.

    >>> y, (dx,) = differentiate_wide(lambda leaves: 1 / leaves[0], (widen(np.array(3.0)),), 1.0)
    >>> (abs(dx * 9 + 1) < 1e-29).item(), float(y.lo)
    (True, 1.850371707708594e-17)
    """
    backward, y = make_pullback(function, leaves)
    value = widen(y)
    return value, backward(map_parts(lambda part: part.reshape(value.shape), widen(dy)))


def find_wide_truth(
    kind: Any, params: Mapping[str, Any], inputs: tuple[Any, ...], dy: Any, decisions: Array | None = None
) -> tuple[DoubleDouble, tuple[DoubleDouble | None, ...], dict[str, DoubleDouble]]:
    """Return output, dx by input (None where nothing is differentiated) and dparams of a layer's formula, in double-double.

    Takes float64, longdouble or DoubleDouble arrays, integers for labels, and the branches to replay where the
    formula has branches. Infinities and NaN come back as they are: whether they are the function's is for the caller.
    """
    lifted = tuple(lift_wide(value) for value in inputs)
    own = {name: lift_wide(value) for name, value in params.items()}
    variable = {i: value for i, value in enumerate(lifted) if kind.differentiable[i] and isinstance(value, DoubleDouble)}
    extra = {} if decisions is None else {"decisions": decisions}

    def forward(leaves: Any) -> Any:
        group, given = leaves
        return kind.formula(make_wide_namespace(), group, *[given.get(i, value) for i, value in enumerate(lifted)], **extra)

    y, (dparams, dx) = differentiate_wide(forward, (own, variable), dy)
    return y, tuple(dx.get(i) for i in range(len(inputs))), dparams


def lift_wide(value: Any) -> Any:
    """Return floats in double-double, exactly; integers and booleans as they are."""
    return widen(value) if value.dtype.kind == "f" else value


class WideSpace(VSpace):  # type: ignore[misc]  # reason: autograd ships no types
    """The vectors of one shape in double-double."""

    def __init__(self, value: DoubleDouble) -> None:
        self.shape = value.shape

    def zeros(self) -> DoubleDouble:
        """Return the gradient of what nothing depends on."""
        return DoubleDouble(np.zeros(self.shape))

    def _mut_add(self, x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
        return add(x, y)


class WideBox(Box):  # type: ignore[misc]  # reason: autograd ships no types
    """A double-double that autograd follows: operators go through the functions below."""

    __slots__ = ()
    __array_ufunc__ = None
    __hash__ = Box.__hash__
    shape = property(lambda self: self._value.shape)
    ndim = property(lambda self: self._value.ndim)
    size = property(lambda self: self._value.size)
    dtype = property(lambda self: WIDE)
    T = property(lambda self: OPERATIONS["permute_dims"](self))

    def __len__(self) -> int:
        return len(self._value)

    def astype(self, dtype: Any) -> Any:
        """Return itself for WIDE; anything narrower would lose the digits unseen."""
        if not isinstance(dtype, WideDtype):
            raise TypeError(f"a formula changes double-double to {dtype}")
        return self

    def __getitem__(self, index: Any) -> Any:
        return OPERATIONS["take"](self, index)

    def __neg__(self) -> Any:
        return OPERATIONS["negative"](self)

    def __abs__(self) -> Any:
        return OPERATIONS["abs"](self)


def sum_to(x: DoubleDouble, shape: Shape) -> DoubleDouble:
    """Return the gradient of an array that was broadcast to the shape of x: summed over what was repeated."""
    if x.ndim > len(shape):
        x = reduce_sum(x, tuple(range(x.ndim - len(shape))))
    repeated = tuple(i for i, length in enumerate(shape) if length == 1 != x.shape[i])
    return reduce_sum(x, repeated, keepdims=True) if repeated else x


def spread(x: DoubleDouble, shape: Shape, axis: Any, keepdims: bool) -> DoubleDouble:
    """Return x, the result of a reduction of an array of this shape, repeated along what was reduced."""
    if not keepdims:
        axes = range(len(shape)) if axis is None else [one % len(shape) for one in np.atleast_1d(axis)]
        x = map_parts(lambda part: part.reshape([1 if i in axes else n for i, n in enumerate(shape)]), x)
    return map_parts(lambda part: np.broadcast_to(part, shape), x)


def scatter(g: DoubleDouble, shape: Shape, index: Any) -> DoubleDouble:
    """Return the gradient of x given that of x[index]: g at the entries that were taken, added up where taken twice."""
    places = np.arange(int(np.prod(shape))).reshape(shape)[index].ravel()
    out, left = DoubleDouble(np.zeros(int(np.prod(shape)))), map_parts(np.ravel, g)
    while len(places):
        at, first = np.unique(places, return_index=True)
        hi, lo = out.hi.copy(), out.lo.copy()
        total = add(out[at], left[first])
        hi[at], lo[at] = total.hi, total.lo
        rest = np.setdiff1d(np.arange(len(places)), first)
        out, left, places = DoubleDouble(hi, lo), left[rest], places[rest]
    return map_parts(lambda part: part.reshape(shape), out)


# The gradient of a function of one entry: g, its value and its argument come in.
_SLOPES: Mapping[str, Callable[[DoubleDouble, DoubleDouble, DoubleDouble], Any]] = {
    "negative": lambda g, y, x: -g,
    "abs": lambda g, y, x: g * np.sign(x.hi),
    "cos": lambda g, y, x: -g * wide_functions.sin(x),
    "erf": lambda g, y, x: g * wide_functions.erf_slope(x),
    "exp": lambda g, y, x: g * y,
    "expm1": lambda g, y, x: g * wide_functions.exp(x),
    "log": lambda g, y, x: g / x,
    "log1p": lambda g, y, x: g / (1 + x),
    "sin": lambda g, y, x: g * wide_functions.cos(x),
    "sqrt": lambda g, y, x: g / (2 * y),
    "square": lambda g, y, x: g * 2 * x,
    "tanh": lambda g, y, x: g * wide_functions.sech_squared(x),
}

# Of a function of two: g, its value and both arguments come in, two gradients of the value's shape go out.
_PAIRS: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda g, z, x, y: g, lambda g, z, x, y: g),
    "sub": (lambda g, z, x, y: g, lambda g, z, x, y: -g),
    "mul": (lambda g, z, x, y: g * y, lambda g, z, x, y: g * x),
    "truediv": (lambda g, z, x, y: g / y, lambda g, z, x, y: -g * z / y),
    "maximum": (lambda g, z, x, y: _share(g, z, x, y), lambda g, z, x, y: _share(g, z, y, x)),
    "minimum": (lambda g, z, x, y: _share(g, z, x, y), lambda g, z, x, y: _share(g, z, y, x)),
    "pow": (
        lambda g, z, x, y: g * y * wide_functions.power(x, where(y == 0, 1.0, y - 1)),
        lambda g, z, x, y: g * z * wide_functions.log(where(x == 0, 1.0, x)),
    ),
}


def _share(g: DoubleDouble, chosen: DoubleDouble, mine: DoubleDouble, other: DoubleDouble) -> DoubleDouble:
    """Return the gradient of the one of two that was chosen; equals share."""
    out: DoubleDouble = g * ((mine == chosen) / (1.0 + (mine == other)))
    return out


def _share_among(g: DoubleDouble, chosen: DoubleDouble, x: DoubleDouble, axis: Any, keepdims: bool) -> DoubleDouble:
    """Return the gradient of an extreme number: to where it is found, shared among equals."""
    found = x == spread(chosen, x.shape, axis, keepdims)
    out: DoubleDouble = spread(g, x.shape, axis, keepdims) * found / np.sum(found, axis=axis, keepdims=True)
    return out


def _to_left(g: DoubleDouble, x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return the gradient of x in x @ y: g y^T, with vectors as matrices of one row or column."""
    rows, columns = _as_matrix(x, y)
    product = matmul(_as_product(g, x, y), map_parts(lambda part: np.swapaxes(part, -1, -2), columns))
    return map_parts(lambda part: part.reshape(x.shape), sum_to(product, rows.shape))


def _to_right(g: DoubleDouble, x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return the gradient of y in x @ y: x^T g."""
    rows, columns = _as_matrix(x, y)
    product = matmul(map_parts(lambda part: np.swapaxes(part, -1, -2), rows), _as_product(g, x, y))
    return map_parts(lambda part: part.reshape(y.shape), sum_to(product, columns.shape))


def _as_matrix(x: DoubleDouble, y: DoubleDouble) -> tuple[DoubleDouble, DoubleDouble]:
    return x[None, :] if x.ndim == 1 else x, y[:, None] if y.ndim == 1 else y


def _as_product(g: DoubleDouble, x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """Return the gradient of the product in the shape that it has between matrices."""
    if y.ndim == 1:
        g = g[..., None]
    return g[..., None, :] if x.ndim == 1 else g


def _fit(gradient: Callable[..., Any], place: int) -> Callable[..., Any]:
    """Return the derivative by one of two arguments in the form that autograd asks for, summed to its shape."""

    def make(z: DoubleDouble, *operands: Any) -> Callable[[DoubleDouble], DoubleDouble]:
        wide = [widen(operand) for operand in operands]
        return lambda g: sum_to(gradient(g, z, *wide), wide[place].shape)

    return make


def _follow(slope: Callable[..., Any]) -> Callable[..., Any]:
    return lambda y, x: lambda g: slope(g, y, x)


def _tell_derivatives() -> None:
    """Tell autograd the derivative of every function, and what the operators of a traced value are."""
    WideBox.register(DoubleDouble)
    WideSpace.register(DoubleDouble)
    for name, slope in _SLOPES.items():
        defvjp(OPERATIONS[name], _follow(slope))
    for name, gradients in _PAIRS.items():
        defvjp(OPERATIONS[name], *[_fit(gradient, place) for place, gradient in enumerate(gradients)])
    defvjp(OPERATIONS["matmul"], _fit(lambda g, z, x, y: _to_left(g, x, y), 0), _fit(lambda g, z, x, y: _to_right(g, x, y), 1))
    defvjp(
        OPERATIONS["where"],
        None,
        lambda z, c, x, y: lambda g: sum_to(where(c, g, 0.0), widen(x).shape),
        lambda z, c, x, y: lambda g: sum_to(where(c, 0.0, g), widen(y).shape),
    )
    defvjp(OPERATIONS["take"], lambda y, x, index: lambda g: scatter(g, x.shape, index))
    for name in ("expand_dims", "reshape"):
        defvjp(OPERATIONS[name], lambda y, x, *_, **options: lambda g: map_parts(lambda part: part.reshape(x.shape), g))
    defvjp(OPERATIONS["permute_dims"], lambda y, x, axes=None: lambda g: map_parts(lambda part: _put_back(part, axes), g))
    _tell_reductions()
    _tell_operators()


def _put_back(part: Array, axes: Any) -> Array:
    return np.transpose(part, None if axes is None else np.argsort(axes))


def _tell_reductions() -> None:
    defvjp(OPERATIONS["sum"], lambda y, x, axis=None, keepdims=False: lambda g: spread(g, x.shape, axis, keepdims))
    defvjp(
        OPERATIONS["mean"],
        lambda y, x, axis=None, keepdims=False: lambda g: spread(g, x.shape, axis, keepdims) / (x.size / max(y.size, 1)),
    )
    for name in ("max", "min"):
        defvjp(OPERATIONS[name], lambda y, x, axis=None, keepdims=False: lambda g: _share_among(g, y, x, axis, keepdims))


def _tell_operators() -> None:
    for name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
        set_operator(WideBox, name)
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(WideBox, f"__{name}__", notrace_primitive(getattr(operator, name)))


_tell_derivatives()
