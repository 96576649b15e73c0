"""Kinks: nothing comes in, the operations with kinks go out, each with its places and how each framework spells it.

The frameworks are named by dotted paths and imported by whoever runs them. Gradients and intervals stand nowhere here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any

Call = Callable[[Any, Any], Any]
MODULES = ("torch", "jax.numpy", "autograd.numpy")


@dataclass(frozen=True)
class Place:
    """A point at which an operation has a kink, and the direction along which its gradient is looked at.

    >>> Place("to a, where a = b", at=(1.0, 1.0), along=(1.0, 0.0)).along
    (1.0, 0.0)
    """

    name: str
    at: tuple[float, ...]
    along: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class Function:
    """A framework's function: its dotted path, a `call` that is handed what the path names and x, and its name for readers."""

    path: str
    call: Call
    label: str = ""

    @property
    def framework(self) -> str:
        """The framework to which the path belongs."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return self.label or self.path


@dataclass(frozen=True)
class Operation:
    """An operation with its kinks: `forward(numpy, x)` computes it, `functions` are the frameworks' own."""

    name: str
    places: tuple[Place, ...]
    forward: Call
    functions: tuple[Function, ...]


def _at(*points: float, of: str = "x") -> tuple[Place, ...]:
    return tuple(Place(f"{of} = {point:g}", (point,)) for point in points)


def _tied(one: str, other: str, both: str, *rest: float) -> tuple[Place, ...]:
    """Return a tie of two entries, seen from the one, from the other, and from both together, where no choice is left."""
    still = (0.0,) * len(rest)
    directions = ((one, (1.0, 0.0)), (other, (0.0, 1.0)), (both, (1.0, 1.0)))
    return tuple(Place(name, (1.0, 1.0, *rest), (*along, *still)) for name, along in directions)


def _name(call: Call, *paths: str) -> tuple[Function, ...]:
    return tuple(Function(path, call) for path in paths)


def _everywhere(call: Call, name: str) -> tuple[Function, ...]:
    """Return the function of this name in every framework's NumPy-like module."""
    return _name(call, *(f"{module}.{name}" for module in MODULES))


def _composed(name: str, places: tuple[Place, ...], forward: Call) -> Operation:
    """Return an operation that is written in the modules' own functions, in the same words for all."""
    functions = tuple(Function(module, forward, f"{module}: {name}") for module in MODULES)
    return Operation(name, places, forward, functions)


def _plain(f: Any, x: Any) -> Any:
    return f(x)


def _of_two(f: Any, x: Any) -> Any:
    return f(x[0], x[1])


def _against_zero(f: Any, x: Any) -> Any:
    return f(x, 0.0 * x)  # a zero in every framework's own kind of array, and no part of the gradient


def _bounded(f: Any, x: Any) -> Any:
    return f(x, -1.0, 1.0)


def _leaky(f: Any, x: Any) -> Any:
    return f(x, 0.01)


def _over_axis(f: Any, x: Any) -> Any:
    return _values(f(x, 0))


def _first_sorted(f: Any, x: Any) -> Any:
    return _values(f(x))[0]


def _values(found: Any) -> Any:
    """Return the values alone; torch's max, sort and median return the indices too."""
    return found[0] if isinstance(found, tuple) else found


PAIR = ("to a, where a = b", "to b, where a = b", "to both together, where a = b")
ENTRIES = ("to the first of two equal entries", "to the second of two equal entries", "to both equal entries together")
ZEROS = (
    Place("to the first entry of (0, 0)", (0.0, 0.0), (1.0, 0.0)),
    Place("to the second entry of (0, 0)", (0.0, 0.0), (0.0, 1.0)),
)

OPERATIONS = (
    Operation(
        "relu",
        _at(0.0, -0.0, nan),
        lambda np, x: np.maximum(x, 0.0),
        _name(_plain, "torch.nn.functional.relu", "jax.nn.relu"),
    ),
    Operation(
        "relu6",
        _at(0.0, 6.0),
        lambda np, x: np.clip(x, 0.0, 6.0),
        _name(_plain, "torch.nn.functional.relu6", "jax.nn.relu6"),
    ),
    Operation(
        "leaky_relu",
        _at(0.0),
        lambda np, x: np.where(x > 0, x, 0.01 * x),
        _name(_leaky, "torch.nn.functional.leaky_relu", "jax.nn.leaky_relu"),
    ),
    Operation(
        "hardtanh",
        _at(-1.0, 1.0),
        lambda np, x: np.clip(x, -1.0, 1.0),
        _name(_plain, "torch.nn.functional.hardtanh", "jax.nn.hard_tanh"),
    ),
    Operation(
        "clamp",
        (Place("x = the lower bound", (-1.0,)), Place("x = the upper bound", (1.0,))),
        lambda np, x: np.clip(x, -1.0, 1.0),
        _name(_bounded, "torch.clamp", "jax.numpy.clip", "autograd.numpy.clip"),
    ),
    Operation("abs", _at(0.0, -0.0), lambda np, x: np.abs(x), _everywhere(_plain, "abs")),
    Operation("maximum", _tied(*PAIR), lambda np, x: np.maximum(x[0], x[1]), _everywhere(_of_two, "maximum")),
    Operation("minimum", _tied(*PAIR), lambda np, x: np.minimum(x[0], x[1]), _everywhere(_of_two, "minimum")),
    Operation(
        "maximum(x, 0)",
        _at(0.0),
        lambda np, x: np.maximum(x, 0.0),
        _everywhere(_against_zero, "maximum"),
    ),
    Operation(
        "max over a dim",
        _tied(*ENTRIES, 0.0),
        lambda np, x: np.max(x, 0),
        _name(_over_axis, "torch.max", "torch.amax", "jax.numpy.max", "autograd.numpy.max"),
    ),
    Operation(
        "max-pool",
        _tied(*ENTRIES),
        lambda np, x: np.max(x, 0),
        (
            Function("torch.nn.functional.max_pool1d", lambda f, x: f(x[None], 2)),
            Function("jax.lax", lambda lax, x: lax.reduce_window(x, -inf, lax.max, (2,), (2,), "VALID"), "jax.lax.reduce_window"),
        ),
    ),
    Operation(
        "sort, smallest entry",
        _tied(*ENTRIES, 2.0),
        lambda np, x: np.sort(x)[0],
        _everywhere(_first_sorted, "sort"),
    ),
    Operation(
        "median of three",
        _tied(*ENTRIES, 2.0),
        lambda np, x: np.median(x),
        (
            *_name(_plain, "torch.median", "jax.numpy.median", "autograd.numpy.median"),
            Function("torch.median", _over_axis, "torch.median over a dim"),
        ),
    ),
    Operation(
        "norm",
        ZEROS,
        lambda np, x: np.linalg.norm(x),
        _name(_plain, "torch.linalg.vector_norm", "jax.numpy.linalg.norm", "autograd.numpy.linalg.norm"),
    ),
    _composed("sqrt(sum(x * x))", ZEROS, lambda xp, x: xp.sqrt(xp.sum(x * x))),
    Operation("sqrt", _at(0.0), lambda np, x: np.sqrt(x), _everywhere(_plain, "sqrt")),
    Operation("sign", _at(0.0), lambda np, x: np.sign(x), _everywhere(_plain, "sign")),
    Operation("floor", _at(1.0), lambda np, x: np.floor(x), _everywhere(_plain, "floor")),
    Operation("round", _at(0.5), lambda np, x: np.round(x), _everywhere(_plain, "round")),
    _composed("where(x > 0, x, 0)", _at(0.0), lambda xp, x: xp.where(x > 0, x, xp.zeros_like(x))),
    _composed("where(x >= 0, x, 0)", _at(0.0), lambda xp, x: xp.where(x >= 0, x, xp.zeros_like(x))),
    _composed("where(x > 0, sqrt(x), 0)", _at(-1.0, 0.0), lambda xp, x: xp.where(x > 0, xp.sqrt(x), xp.zeros_like(x))),
    _composed(
        "where(x > 0, sqrt(where(x > 0, x, 1)), 0)",
        _at(-1.0, 0.0),
        lambda xp, x: xp.where(x > 0, xp.sqrt(xp.where(x > 0, x, xp.ones_like(x))), xp.zeros_like(x)),
    ),
    _composed("where(x == 0, 1, sin(x) / x)", _at(0.0), lambda xp, x: xp.where(x == 0, xp.ones_like(x), xp.sin(x) / x)),
)
