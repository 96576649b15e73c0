"""Wrapped layers: a stranger's object comes in, what every style shares of the interface that is judged goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Protocol

import numpy as np

from harness.core import BadInput

Make = Callable[[], Any]


class Layer(Protocol):
    """What is judged: two dicts of arrays and the two passes."""

    params: dict[str, Any]
    grads: dict[str, Any]

    def forward(self, *inputs: Any) -> Any:
        """Return y."""

    def backward(self, dy: Any) -> Any:
        """Return dx, or a tuple with one entry for each input."""


class Wrapped:
    """A stranger's object, `inner`, and the dicts `params` and `grads` beside it.

    `follows_dtype` says that every operation inside is known to be one of the dtype that comes in, as the frameworks' are.
    `keeps` names the attributes in which a forward pass leaves all that its backward pass reads, where that is so: whoever
    puts them back may go back through an earlier pass. `wraps_layer` says that `inner` is a layer with another such pass.
    """

    follows_dtype = False
    keeps: tuple[str, ...] | None = None
    wraps_layer = False

    def __init__(self, inner: Any, params: Mapping[str, Any]) -> None:
        self.inner = inner
        self.params = {name: np.asarray(value) for name, value in params.items()}
        self.grads: dict[str, Any] = {}

    def evaluate(self, *inputs: Any) -> Any:
        """Return y; a style that knows how to get it without recording what backward needs does so."""
        return self.forward(*inputs)  # type: ignore[attr-defined]  # reason: every style has one, with arguments of its own

    def differentiate_forward(self, dy: Any, *inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return dx and the parameters' gradients by automatic differentiation of the forward pass's own code.

        That is none of the backward pass under test; None where nothing can differentiate the code, or where backward is
        that already.
        """
        return None

    @property
    def is_autodiff(self) -> bool:
        """Whether backward is known to be a framework's own differentiation of forward, with nothing written by hand in it."""
        return False


def read(inner: Any, path: str, field: str) -> Any:
    """Return what is at a path of attributes, for instance `W` or `weight.data`. Raises BadInput where there is nothing."""
    try:
        return attrgetter(path)(inner)
    except AttributeError as error:
        raise BadInput(f"{field}: {path!r} is no attribute of {type(inner).__name__} ({error}); accepted is one it has") from None


def write(inner: Any, path: str, value: Any) -> None:
    """Put a value at a path of attributes."""
    *way, last = path.split(".")
    setattr(attrgetter(".".join(way))(inner) if way else inner, last, value)


def copy_array(value: Any) -> Any:
    """Return a copy of an array, so that the next pass cannot overwrite it; anything else as it is."""
    return value.copy() if isinstance(value, np.ndarray) else value


def name_factory(factory: Make, source: Any) -> Make:
    """Return the factory under the name of what it wraps, which is how reports call the layer."""
    name = getattr(source, "__name__", "")
    factory.__name__ = name if name and name != "<lambda>" else "layer"
    factory.wraps = source  # type: ignore[attr-defined]  # reason: a function takes attributes, which mypy does not know
    return factory


def spread(value: Any, like: Any) -> Any:
    """Return an array of one entry a row, or of one in all, so that it multiplies an array of more axes."""
    value = np.asarray(value)
    return value.reshape(value.shape + (1,) * (np.ndim(like) - value.ndim))
