"""Specifications: a layer of anybody's, its formula and what it is given come in, one checked description of them goes out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from harness.core import Array, BadInput
from harness.strangers import RAISED, find, show, tell
from reference_layers.layer import Place

Shape = tuple[int, ...]
SEED = 0
BATCH, WIDTH = 6, 5  # of what is drawn for a layer by itself, by functions that draw for networks of any size


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """A hand-written layer with what is needed to judge it.

    `layer` is a class or factory that takes no arguments and makes a fresh layer, or a layer, which is copied for each
    trial. A layer has `forward(*inputs)` and `backward(dy)`, which returns dx or a tuple with one entry for each input
    (None where there is no gradient), and, where it has parameters, the dicts `params` and `grads`. `formula(xp, params,
    *inputs)` is the forward pass once more, in the Array API subset of `harness.array_api`; without it the gradients are
    held against the layer's own forward pass, which nothing then judges. `inputs` are shapes, arrays, or a function of a
    `numpy.random.Generator` that returns arrays. `params` replaces the layer's own parameters: arrays by name, or a function
    of a generator. `constants` are the places of inputs that have no gradient; integer inputs have none anyway. `gradient`
    is for a backward pass that is no derivative of the forward pass on purpose (straight-through, reversed, scaled): a
    formula whose derivative it is instead. `modes` says how the layer is switched, where no methods `train()` and `eval()`,
    flag `training` or word `mode` does it: `{"train": function, "eval": function}`, each called with the stranger's object.
    `second_order` says that the backward pass of a torch or JAX function is meant to be differentiated itself: then it is a
    failure, not a finding, where that gives another second derivative. `place` is where `harness run` puts the layer: alone,
    or in random networks as map (one input, same width), merge (two inputs), project (another width) or loss (a scalar,
    last); there, inputs are arrays of any batch and width, which `inputs` draws as a function of (generator, batch, width),
    and parameters those that `params` draws as a function of (generator, features in, features out). Raises BadInput, naming
    the field, on anything else.
    """

    layer: Any
    formula: Callable[..., Any] | None = None
    inputs: Sequence[Shape | Array] | Callable[[np.random.Generator], Sequence[Array]] = ()
    params: Mapping[str, Array] | Callable[[np.random.Generator], Mapping[str, Array]] | None = None
    name: str = ""
    constants: tuple[int, ...] = ()
    gradient: Callable[..., Any] | None = None
    modes: Mapping[str, Callable[[Any], Any]] | None = None
    second_order: bool = False
    place: Place = "alone"
    _is_factory: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.formula is not None and not callable(self.formula):
            raise BadInput(f"formula: {self.formula!r:.80}; accepted is a function formula(xp, params, *inputs), or None")
        if self.gradient is not None and not callable(self.gradient):
            raise BadInput(f"gradient: {self.gradient!r:.80}; accepted is a function gradient(xp, params, *inputs), or None")
        if self.modes is not None and not _are_modes(self.modes):
            raise BadInput(f"modes: {self.modes!r:.80}; accepted are {{'train': function, 'eval': function}} of a layer, or None")
        if not isinstance(self.second_order, bool):
            raise BadInput(f"second_order: {self.second_order!r:.80}; accepted are True and False")
        if not callable(self.inputs) and not (isinstance(self.inputs, Sequence) and len(self.inputs)):
            raise BadInput(
                f"inputs: {self.inputs!r:.80}; accepted are a list with a shape or an array for each input, or a function of a "
                "numpy.random.Generator that returns arrays"
            )
        if self.place not in get_args(Place):
            raise BadInput(f"place: {self.place!r}; accepted are {', '.join(get_args(Place))}")
        object.__setattr__(self, "_is_factory", _is_factory(self.layer))
        object.__setattr__(self, "name", _make_name(self.name or _find_name(self.layer)))

    def make(self) -> Any:
        """Return a fresh layer. Raises NoLayer when there is none, or it lacks one of the two passes."""
        made = self.layer() if self._is_factory else self._copy()
        for method in ("forward", "backward"):
            if not callable(find(made, method)):
                raise NoLayer(f"layer: {show(made)} has no method {method}; accepted is an object with forward and backward")
        return made

    def meet(self) -> None:
        """Make a layer and look at it. Raises NoLayer where it is none, or keeps its parameters in anything but a dict."""
        made = self.make()
        if self.params is None:
            read_names("params", find(made, "params"))

    def _copy(self) -> Any:
        try:
            return deepcopy(self.layer)
        except RAISED as error:  # reason: what a stranger's object holds, a lock or a file, may refuse to be copied
            factory = f"lambda: {type(self.layer).__name__}(...)"
            text = f"layer: {show(self.layer)} cannot be copied for each trial ({tell(error)}); accepted is a factory: {factory}"
            raise NoLayer(text) from None

    def as_layer(self) -> Any:
        """Return the class that takes this layer's part in random networks: what discovery asks of an entry point.

        Raises BadInput where the layer has no formula, or does not fit its `place`.
        """
        from harness.custom.placed import place_layer

        return place_layer(self)

    def draw_params(self, rng: np.random.Generator, n_in: int = WIDTH, n_out: int = 0) -> dict[str, Array]:
        """Return the parameters in float64: those given, or those of a fresh layer. Raises BadInput on what is no array.

        `n_in` and `n_out` count the features, for a function that draws parameters of any size.
        """
        given = (
            self._ask("params", rng, n_in, n_out or n_in + (self.place not in ("map", "merge")))
            if callable(self.params)
            else self.params
        )
        found = read_names("params", find(self.make(), "params") if given is None else given)
        return {name: _read_array(f"params[{name!r}]", value) for name, value in found.items()}

    def draw_inputs(self, rng: np.random.Generator, batch: int = BATCH, width: int = WIDTH) -> tuple[Array, ...]:
        """Return the inputs: floats in float64, normal numbers where a shape is given, integers as they are."""
        found: Any = (
            self._ask("inputs", rng, batch, width) if callable(self.inputs) else [_draw(rng, entry) for entry in self.inputs]
        )
        if isinstance(found, np.ndarray):
            found = (found,)
        if not isinstance(found, Sequence):
            raise BadInput(f"inputs: the function returned {show(found)}; accepted is a list with an array for each input")
        return tuple(_read_array(f"inputs[{i}]", value) for i, value in enumerate(found))

    @property
    def is_unaided(self) -> bool:
        """Whether nothing but the layer's own forward pass tells what its gradients must be."""
        return self.formula is None and self.gradient is None

    @property
    def draws_params(self) -> bool:
        """Whether parameters are drawn for any number of features."""
        return callable(self.params) and takes_sizes(self.params)

    def _ask(self, name: str, rng: np.random.Generator, *sizes: int) -> Any:
        """Return what the function in a field draws; `sizes` go to one that takes them. Raises BadInput where it raises."""
        function = getattr(self, name)
        try:
            return function(rng, *sizes) if takes_sizes(function) else function(rng)
        except RAISED as error:
            raise BadInput(f"{name}: the function raises {tell(error)}; accepted is one that returns arrays") from None

    @property
    def is_drawn(self) -> bool:
        """Whether all inputs are given by their shapes, so that their number, size and scale may be varied."""
        return not callable(self.inputs) and all(_is_shape(entry) for entry in self.inputs)


class NoLayer(BadInput):
    """What was given as a layer makes no object with forward and backward; the text says what it makes."""


def read_names(field: str, value: Any) -> dict[str, Any]:
    """Return what a stranger holds as arrays by name; nothing for None. Raises NoLayer where it is no mapping of names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        text = f"{field}: {show(value)}; accepted is a dict of arrays by name (harness.styles takes lists and attributes)"
        raise NoLayer(text)
    return dict(value)


def takes_sizes(function: Any) -> bool:
    """Whether a function that draws needs two sizes behind the generator; defaults are the function's own affair."""
    try:
        wanted = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some callables written in C do not say
        return False
    return sum(one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in wanted) == 3


def _are_modes(modes: Any) -> bool:
    return isinstance(modes, Mapping) and set(modes) == {"train", "eval"} and all(map(callable, modes.values()))


def _is_factory(layer: Any) -> bool:
    if inspect.isclass(layer):
        _require_no_arguments(layer)
        return True
    if find(layer, "forward") is not None or not callable(layer):
        return False
    _require_no_arguments(layer)
    return True


def _require_no_arguments(factory: Any) -> None:
    """Raise BadInput where a call without arguments must fail."""
    try:
        wanted = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables written in C do not say
        return
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [one.name for one in wanted if one.default is one.empty and one.kind in plain]
    if needed:
        name = getattr(factory, "__name__", repr(factory))
        text = f"layer: {name} needs {', '.join(needed)}; accepted is a factory without arguments: lambda: {name}(...)"
        raise BadInput(text)


def _draw(rng: np.random.Generator, entry: Any) -> Any:
    if not _is_shape(entry):
        return entry
    return rng.standard_normal(tuple(entry))


def _is_shape(entry: Any) -> bool:
    whole = isinstance(entry, list | tuple) and all(isinstance(size, int | np.integer) for size in entry)
    if whole and any(size < 0 for size in entry):
        raise BadInput(f"inputs: {entry!r}; accepted are shapes of sizes 0 and above, and arrays")
    return whole


def _read_array(field: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except RAISED as error:
        raise BadInput(f"{field}: {show(value)} makes no array ({tell(error)}); accepted are arrays of numbers") from None
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{field}: {show(value)} holds {array.dtype}; accepted are arrays of floats, integers or booleans")
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _find_name(layer: Any) -> str:
    name = getattr(layer, "__name__", "")
    return name if name and name != "<lambda>" else type(layer).__name__ if hasattr(layer, "forward") else "layer"


def _make_name(text: str) -> str:
    """Return a name that can stand for a node of a graph: letters, digits and _.

    >>> _make_name("my.layer")
    'my_layer'
    """
    return re.sub(r"\W", "_", text) or "layer"
