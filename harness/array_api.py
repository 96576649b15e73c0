"""The Array API subset of formulas: a framework's module comes in, a namespace of just that subset plus `erf` goes out.

A formula is written once, `formula(xp, params, *inputs)`, in operators, indexing, `.shape`, `.ndim`, `.T`, the functions of
SUBSET and those of `harness.composed`, which are made of them; they mean what the Array API standard (2024.12) says.
Anything else is `unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from harness.composed import COMPOSED, CONSTANTS

SUBSET = (
    "abs arange concat cos erf exp expand_dims expm1 log log1p matmul max maximum mean min minimum ones_like "
    "permute_dims pow reshape sign sin sqrt square stack sum tanh where zeros_like"
).split()

OFFERED = sorted({*SUBSET, *COMPOSED, *CONSTANTS})

ROUGH = 4.0  # with the judge's threshold of 16, some 37 ulps: seven in each of many terms of one sum


class Unsupported(Exception):
    """A formula uses something that the harness does not offer; the text names it and what is offered."""


class Namespace:
    """The functions of SUBSET for one framework, and those that are made of them; any other name raises Unsupported.

    >>> import numpy
    >>> make_numpy_namespace().exp(numpy.float32(0.0))
    np.float32(1.0)
    >>> make_numpy_namespace().einsum
    Traceback (most recent call last):
    harness.array_api.Unsupported: xp.einsum is outside the supported subset; accepted are abs, add, arange, ...
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self.__dict__.update({name: functions[name] for name in SUBSET})

    def __getattr__(self, name: str) -> Any:
        if name in COMPOSED:
            return partial(COMPOSED[name], self)
        if name in CONSTANTS:
            return CONSTANTS[name]
        raise Unsupported(f"xp.{name} is outside the supported subset; accepted are {', '.join(OFFERED)}")


def take_from(module: Any, **replacements: Any) -> Namespace:
    """Return the namespace of the module's functions, with replacements where it lacks one or differs from the standard."""
    found = {name: replacements.get(name) or getattr(module, name) for name in SUBSET}
    return Namespace(found)


@cache
def make_numpy_namespace() -> Namespace:
    """Return NumPy's own functions, which keep float32, float64 and longdouble."""
    return take_from(np, erf=_erf)


@cache
def make_complex_namespace() -> Namespace:
    """Return NumPy's functions without those that are not analytic, for the complex step.

    Comparisons of complex numbers go by the real part first, so that branches are those of the real program.
    """
    namespace = make_numpy_namespace()
    return Namespace({**vars(namespace), **{name: _refuse(name) for name in ("abs", "sign", "erf")}})


@cache
def make_autograd_namespace() -> Namespace:
    """Return HIPS autograd's functions; they differentiate whatever NumPy computes, longdouble too."""
    import autograd.numpy as anp
    from autograd.extend import defvjp, primitive

    erf = primitive(_erf)
    defvjp(erf, lambda ans, x: lambda g: g * anp.exp(-(x**2)) * (2 / np.sqrt(_pi(x.dtype))))
    names = {"permute_dims": anp.transpose, "concat": anp.concatenate, "pow": anp.power}
    return take_from(anp, erf=erf, where=_make_where(anp), **names)


def _make_where(anp: Any) -> Callable[..., Any]:
    """Return autograd's where with gradients summed back to the shape of what was broadcast: its own keep the output's."""
    from autograd.extend import defvjp, primitive
    from autograd.numpy.numpy_vjps import unbroadcast_f

    where = primitive(np.where)
    defvjp(
        where,
        None,
        lambda ans, c, x, y: unbroadcast_f(x, lambda g: anp.where(c, g, anp.zeros(g.shape))),
        lambda ans, c, x, y: unbroadcast_f(y, lambda g: anp.where(c, anp.zeros(g.shape), g)),
    )
    made: Callable[..., Any] = where
    return made


@cache
def make_rounding_namespace() -> Namespace:
    """Return autograd's functions with the rules of torch and JAX where those round otherwise, for runs that show their noise.

    They take tanh' as 1 - y^2, which cancels where y is near 1; autograd divides by cosh(x)^2, which does not. And JAX gives
    tanh to 7 ulps there, which rounding at random moves by one.
    """
    from autograd.extend import defvjp, primitive

    tanh = primitive(_give_rough_tanh)
    defvjp(tanh, lambda ans, x: lambda g: g * (1 - ans * ans))
    return Namespace({**vars(make_autograd_namespace()), "tanh": tanh})


def _give_rough_tanh(x: Any) -> Any:
    """Return tanh; of arrays that round at random with several times the error of one rounding, of plain ones as it is."""
    y = np.tanh(x)
    plain = np.tanh(np.asarray(x))
    return plain + ROUGH * (y - plain)


def _erf(x: Any) -> Any:
    """Return erf of every entry in the entry's own precision: SciPy has no longdouble, mpmath has any."""
    from scipy import special

    if np.asarray(x).dtype != np.longdouble or np.dtype(np.longdouble) == np.float64:
        return special.erf(x)
    import mpmath

    def exact(value: np.longdouble) -> np.longdouble:
        high = float(value)
        with mpmath.workprec(100):
            return np.longdouble(mpmath.nstr(mpmath.erf(mpmath.mpf(high) + mpmath.mpf(float(value - np.longdouble(high)))), 25))

    return np.vectorize(exact, otypes=[np.longdouble])(x)


def _pi(dtype: Any) -> Any:
    return np.dtype(dtype).type("3.14159265358979323846264338327950288")


def _refuse(name: str) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise Unsupported(f"xp.{name} is not analytic: the complex step cannot differentiate it")

    return refused
