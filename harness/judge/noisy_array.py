"""Noisy arrays: a float64 array and a precision come in, an array on which unchanged NumPy code rounds at random goes out.

The code of a layer meets it as an ndarray; whatever it computes with ufuncs, sums and products comes out moved as the
precision's own rounding could move it. Noise escapes where NumPy drops subclasses (`np.asarray`, `np.array`, `as_strided`,
`np.linalg`, `float(x)`): the results then come back as plain arrays, or with less noise than the code has, and
`harness.judge.estimate` looks for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.core import Array
from harness.judge.noisy_functions import (
    CONTRACTIONS,
    OPAQUE,
    REARRANGING,
    accumulate,
    add_at,
    call_ufunc,
    contract,
    contract_einsum,
    reduce,
    reduce_at,
)
from harness.judge.value_noise import Rounder, enter

METHODS: dict[str, Callable[..., Any]] = {
    "__call__": call_ufunc,
    "reduce": reduce,
    "accumulate": accumulate,
    "reduceat": reduce_at,
    "outer": lambda rounder, ufunc, a, b, **kwargs: call_ufunc(rounder, ufunc, (_spread(a, np.ndim(b)), b), **kwargs),
}


class NoisyArray(np.ndarray[Any, Any]):
    """A float64 ndarray whose operations round as its rounder does; indices, masks and comparisons are plain."""

    rounder: Rounder | None = None

    def __array_finalize__(self, obj: Any) -> None:
        self.rounder = getattr(obj, "rounder", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", ())
        rounder = _find_rounder((*inputs, *out))
        if rounder is None:
            return getattr(ufunc, method)(*map(_bare, inputs), **kwargs)
        if method == "at":
            values = [_bring(rounder, value) for value in inputs[2:]]
            return add_at(rounder, ufunc, _bare(inputs[0]), _bare(inputs[1]), *values)
        bare, where = [_bring(rounder, value) for value in inputs], True
        settings = {key: _bare(value) for key, value in _keep(rounder, kwargs).items()}
        if method == "__call__":
            where, bare = settings.pop("where", True), [tuple(bare)]
        return _deliver(rounder, METHODS[method](rounder, ufunc, *bare, **settings), out, where)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rounder = _find_rounder((args, kwargs))
        if rounder is None or not _is_own(function):
            if getattr(function, "__module__", "").startswith(OPAQUE):
                return function(*_bare(args), **_bare(kwargs))
            return super().__array_function__(function, types, args, kwargs)
        out = kwargs.get("out")
        kwargs = {key: value for key, value in kwargs.items() if key != "out"}
        if function is np.linalg.norm:
            result = _norm(*args, **kwargs)
        elif function is np.trace:
            result = args[0].trace(*args[1:], **kwargs)
        else:
            bare = (_bring(rounder, args), _bring(rounder, kwargs))
            result = _call_bare(rounder, function, *bare)
        return result if out is None else _deliver(rounder, result, (out,), True)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(_bare(key))
        return found if isinstance(found, np.ndarray) else _wrap(self.rounder, found)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_bare(key), value if self.rounder is None else _bring(self.rounder, value))

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Return another array of the noisy numbers where floats are asked for: the precision is the rounder's business."""
        if np.dtype(dtype).kind != "f" or self.rounder is None:
            return np.asarray(self).astype(dtype, *args, **kwargs)
        self.rounder.casts.add(np.dtype(dtype).name)
        return super().astype(np.float64)

    def dot(self, b: Any, out: Any = None) -> Any:
        """Return np.dot, which sees the subclass, as the method written in C does not."""
        return np.dot(self, b) if out is None else np.dot(self, b, out=out)

    def trace(self, offset: Any = 0, axis1: Any = 0, axis2: Any = 1, dtype: Any = None, out: Any = None) -> Any:
        """Return the sum of a diagonal, which the method written in C would return as a plain number."""
        return np.add.reduce(self.diagonal(offset, axis1, axis2), axis=-1, out=out)


def make_noisy(rounder: Rounder, value: Any) -> NoisyArray:
    """Return a noisy copy of the array; the numbers that come in carry no noise.

    >>> x = make_noisy(Rounder(digits=24, least=2.0**-149, salt=1), np.array([0.5, 0.1]))
    >>> (np.asarray(x * 2) == [1.0, 0.2]).tolist(), (np.asarray(x * 3) == [1.5, 0.1 * 3]).tolist()
    ([True, True], [True, False])
    """
    out: NoisyArray = np.array(value, np.float64).view(NoisyArray)
    out.rounder = rounder
    return out


def _define_in_place(name: str) -> None:
    """Define +=: on an array it works in place; what is a number in plain NumPy, and here has no axes, is made anew."""
    plain, in_place = getattr(np.ndarray, f"__{name}__"), getattr(np.ndarray, f"__i{name}__")

    def assign(self: NoisyArray, other: Any) -> Any:
        return plain(self, other) if self.ndim == 0 else in_place(self, other)

    setattr(NoisyArray, f"__i{name}__", assign)


for operator in ("add", "sub", "mul", "truediv", "pow", "matmul"):
    _define_in_place(operator)


def _is_own(function: Any) -> bool:
    return function in CONTRACTIONS or function in REARRANGING or function in (np.einsum, np.trace, np.linalg.norm)


def _call_bare(rounder: Rounder, function: Any, args: Any, kwargs: Any) -> Any:
    """Return what a function that sums products, or only moves numbers about, makes of bare arguments."""
    if function is np.einsum:
        return _wrap(rounder, contract_einsum(rounder, *args, **kwargs))
    if function in REARRANGING:
        return _wrap(rounder, function(*args, **kwargs))
    a, b, *rest = args
    return _wrap(rounder, contract(rounder, lambda *factors: function(*factors, *rest, **kwargs), a, b))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the root of the sum of squares; other norms come back plain."""
    if ord is None or (ord == 2 and (isinstance(axis, int) or np.ndim(x) == 1)):
        return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))
    return np.linalg.norm(np.asarray(x), ord, axis, keepdims)


def _find_rounder(value: Any) -> Rounder | None:
    """Return the rounder of the first noisy array among the arguments."""
    if isinstance(value, NoisyArray):
        return value.rounder
    if isinstance(value, dict):
        value = tuple(value.values())
    parts = value if isinstance(value, (list, tuple)) else ()
    return next(filter(None, map(_find_rounder, parts)), None)


def _bare(value: Any) -> Any:
    """Return the arguments with plain views in place of noisy arrays."""
    if isinstance(value, NoisyArray):
        return value.view(np.ndarray)
    if isinstance(value, dict):
        return {key: _bare(part) for key, part in value.items()}
    return type(value)(map(_bare, value)) if type(value) in (list, tuple) else value


def _bring(rounder: Rounder, value: Any) -> Any:
    """Return the arguments with plain views in place of noisy arrays, and with floats and plain arrays rounded."""
    if isinstance(value, NoisyArray):
        return value.view(np.ndarray)
    if isinstance(value, dict):
        return {key: _bring(rounder, part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_bring(rounder, part) for part in value)
    return enter(rounder, value) if isinstance(value, (float, np.floating, np.ndarray)) else value


def _wrap(rounder: Rounder | None, result: Any) -> Any:
    """Return float64 results as noisy arrays over the same memory, everything else as it is."""
    if isinstance(result, (list, tuple)):
        return type(result)(_wrap(rounder, part) for part in result)
    if not isinstance(result, (np.ndarray, np.float64)) or result.dtype != np.float64 or rounder is None:
        return result
    out: NoisyArray = np.asarray(result).view(NoisyArray)
    out.rounder = rounder
    return out


def _deliver(rounder: Rounder, result: Any, out: tuple[Any, ...], where: Any) -> Any:
    """Return the results, in the arrays that were given for them where there are any."""
    results = result if isinstance(result, tuple) else (result,)
    targets = (*out, *[None] * (len(results) - len(out)))
    done = [_wrap(rounder, value) if to is None else _fill(to, value, where) for value, to in zip(results, targets, strict=True)]
    return tuple(done) if isinstance(result, tuple) else done[0]


def _fill(target: Any, value: Any, where: Any) -> Any:
    np.copyto(_bare(target), _bare(value), casting="unsafe", where=where)
    return target


def _keep(rounder: Rounder, settings: dict[str, Any]) -> dict[str, Any]:
    """Return a ufunc's settings without those that would change the dtype in which it computes."""
    dtype = settings.get("dtype")
    if dtype is not None and np.dtype(dtype).kind == "f":
        rounder.casts.add(np.dtype(dtype).name)
    dropped = ("dtype", "casting", "order", "subok", "signature", "sig")
    kept = {key: value for key, value in settings.items() if key not in dropped}
    return kept if dtype is None or np.dtype(dtype).kind == "f" else {**kept, "dtype": dtype}


def _spread(a: Any, axes: int) -> Array:
    return np.reshape(a, np.shape(a) + (1,) * axes)
