"""Placing: a specification comes in, the class that `harness run` puts into networks like a layer of its own goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import Array, BadInput
from harness.custom.adopted import adopt
from harness.floats import is_float
from harness.isolation import quiet
from harness.strangers import RAISED, tell
from reference_layers.layer import Place

if TYPE_CHECKING:
    from harness.custom.spec import LayerSpec

COUNTS: Mapping[Place, int] = {"map": 1, "project": 1, "merge": 2, "loss": 2}
SIZES = ((3, 4, 5), (2, 7, 3))  # batch, features in and features out of what is tried before a layer is placed


def place_layer(spec: LayerSpec) -> Any:
    """Return the class. Raises BadInput where the specification has no formula, or does not fit its place."""
    for field, is_wrong in (("formula", spec.formula is None), ("gradient", spec.gradient is not None)):
        if is_wrong:
            words = "a layer in networks has one" if field == "formula" else "a layer in networks has the formula's derivative"
            raise BadInput(f"{field}: {getattr(spec, field)!r:.80} of {spec.name}; {words}")
    inputs = _draw(spec, np.random.default_rng(0), *SIZES[0][:2])
    constants = frozenset(i for i, value in enumerate(inputs) if i in spec.constants or not is_float(value))
    kind = _try(spec, lambda: adopt(spec, len(inputs), constants))
    least = 0 if spec.place != "alone" or _takes_batch(spec, kind, 0) else 1

    class Placed(kind):  # type: ignore[misc, valid-type]  # reason: the class is only known when this runs
        place: ClassVar[Place] = spec.place
        scales: ClassVar[bool] = spec.is_drawn

        @staticmethod
        def initial_params(rng: np.random.Generator, n_in: int, n_out: int) -> dict[str, Array]:
            return spec.draw_params(rng, n_in, n_out)

        @staticmethod
        def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
            return _draw(spec, rng, max(batch, least), width)

    Placed.__name__ = Placed.__qualname__ = spec.name
    Placed.__doc__ = getattr(spec.layer, "__doc__", None) or f"{spec.name}, a layer of another distribution."
    if spec.place != "alone":
        _require_place(spec, Placed)
    return Placed


def _draw(spec: LayerSpec, rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
    """Return inputs: of any width where the layer has a place among others; alone, of its own, with another batch."""
    if spec.place != "alone" and spec.is_drawn:
        return tuple(rng.standard_normal((batch, width)) for _ in spec.inputs)  # type: ignore[union-attr]  # reason: drawn inputs are a list
    if not spec.is_drawn:
        return spec.draw_inputs(rng, batch, width)
    shapes = [tuple(shape) for shape in spec.inputs]  # type: ignore[union-attr]  # reason: as above
    shared = len({shape[:1] for shape in shapes}) == 1 and bool(shapes[0])
    return tuple(rng.standard_normal((batch, *shape[1:]) if shared else shape) for shape in shapes)


def _try(spec: LayerSpec, work: Any) -> Any:
    """Return what the work gives. Raises BadInput with what the stranger's code raised."""
    try:
        with quiet():
            return work()
    except BadInput:
        raise
    except RAISED as error:
        raise BadInput(f"layer: {spec.name} cannot be placed: {tell(error)}") from None


def _takes_batch(spec: LayerSpec, kind: Any, batch: int) -> bool:
    """Whether the formula gives something for a batch of this size."""
    rng = np.random.default_rng(0)
    try:
        with quiet():
            kind.formula(make_numpy_namespace(), spec.draw_params(rng), *_draw(spec, rng, batch, 0))
    except RAISED:
        return False
    return True


def _require_place(spec: LayerSpec, kind: Any) -> None:
    """Raise BadInput where the layer does not make of any batch and width what its place asks for."""
    count = len(kind.differentiable)
    if count != COUNTS[spec.place]:
        raise BadInput(f"place: {spec.place!r} of {spec.name} with {count} inputs; accepted are {COUNTS[spec.place]} of them")
    for batch, n_in, n_out in SIZES:
        params, inputs = _draw_all(spec, kind, batch, n_in, n_in if spec.place in ("map", "merge") else n_out)
        found = _try(spec, lambda p=params, x=inputs: np.shape(kind.formula(make_numpy_namespace(), p, *x)))
        wanted = {"loss": (), "project": (batch, n_out)}.get(spec.place, (batch, n_in))
        if found != wanted:
            shapes = [list(value.shape) for value in inputs]
            text = f"place: {spec.place!r} of {spec.name}, whose formula makes {list(found)} of {shapes}; accepted is"
            raise BadInput(f"{text} {list(wanted)} there")


def _draw_all(spec: LayerSpec, kind: Any, batch: int, n_in: int, n_out: int) -> tuple[dict[str, Array], tuple[Array, ...]]:
    rng = np.random.default_rng(0)
    params = kind.initial_params(rng, n_in, n_out)
    if not spec.draws_params and any(value.size > 1 for value in params.values()):
        raise BadInput(
            f"params: those of {spec.name} have sizes of their own; accepted for the place {spec.place!r} is a function that "
            "draws them, params(generator, features in, features out)"
        )
    return params, kind.sample_inputs(rng, batch, n_in)
