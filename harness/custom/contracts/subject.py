"""The layer on the bench: a trial comes in, its arrays as the layer computes with them, and passes over them, go out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from harness.core import Array, Outcome, Problem, freeze
from harness.custom.trials import Trial
from harness.floats import find_format, is_float

Inputs = tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class Pass:
    """Copies of what one forward and backward pass returned."""

    y: Any
    dx: tuple[Any, ...]
    grads: Mapping[str, Any]

    def name(self) -> dict[str, Any]:
        """Return the quantities by name: y, dx0, dx1 ..., dW ...."""
        return {"y": self.y, **self.name_gradients()}

    def name_gradients(self) -> dict[str, Any]:
        """Return the gradients by name."""
        return {f"dx{i}": part for i, part in enumerate(self.dx)} | {f"d{name}": value for name, value in self.grads.items()}


@dataclass(frozen=True, eq=False)
class Subject:
    """A layer with the arrays of a trial, in the dtype in which the layer computes (float32 for the narrow ones).

    `frameworks` run the trial's formula on a problem of the same sizes, by their names.
    """

    trial: Trial
    frameworks: Mapping[str, Callable[[Problem], Outcome]] = field(default_factory=dict)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the floats."""
        return find_format(self.trial.problem.case.dtype).compute

    @cached_property
    def inputs(self) -> Inputs:
        """The inputs in their order, read-only."""
        problem = self.trial.problem
        return tuple(self._store(problem.inputs[name]) for name in problem.case.network.output.inputs)

    @cached_property
    def params(self) -> dict[str, Array]:
        """The parameters by name, read-only."""
        return {name: self._store(value) for name, value in self.trial.problem.params[self.trial.node].items()}

    @cached_property
    def dy(self) -> Array:
        """The cotangent, read-only."""
        return self._store(self.trial.problem.dy)

    def _store(self, value: Array) -> Array:
        return freeze(value.astype(self.dtype, copy=False) if is_float(value) else value)

    @property
    def places(self) -> tuple[int, ...]:
        """The places of the inputs that are differentiated."""
        return tuple(i for i, value in enumerate(self.inputs) if self.trial.kind.differentiable[i] and is_float(value))

    @cached_property
    def others(self) -> tuple[Inputs, Array]:
        """Other inputs of the same sizes and kinds, and another cotangent."""
        inputs = tuple(_turn(value) for value in self.inputs)
        return tuple(0.5 * x if i in self.places else x for i, x in enumerate(inputs)), -self.dy

    def make(self) -> Any:
        """Return a fresh layer, with the trial's parameters."""
        return self.trial.kind(**self.params)

    @cached_property
    def alone(self) -> Pass:
        """What a fresh layer makes of the arrays: what every other way to the same must give."""
        return self.run()

    def run(self, inputs: Inputs | None = None, dy: Array | None = None) -> Pass:
        """Return what a fresh layer makes of the arrays, the trial's own where none are given."""
        return run_pass(self.make(), self.inputs if inputs is None else inputs, self.dy if dy is None else dy)

    def nudge(self, inputs: Inputs, dy: Array, still: bool = False) -> Iterator[Pass]:
        """Yield passes over the same arrays moved by a few units of rounding: what parts them is rounding alone.

        At a kink the inputs must be `still`: then the cotangent moves alone.
        """
        rng, unit = np.random.default_rng(0), 4 * float(np.finfo(self.dtype).eps)
        for _ in range(4):
            moved = tuple(_move(x, rng, unit) if i in self.places and not still else x for i, x in enumerate(inputs))
            yield self.run(moved, _move(dy, rng, unit))

    def draw_cotangent(self, shape: tuple[int, ...]) -> Array:
        """Return a cotangent of another shape: random signs, and sizes from 0.5 to 2."""
        rng = np.random.default_rng(0)
        return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2.0, shape), self.dtype)

    def count_rows(self) -> int | None:
        """Return the size of the first axis where all inputs share one, which then is taken for the batch."""
        sizes = {value.shape[:1] for value in self.inputs}
        return int(self.inputs[0].shape[0]) if len(sizes) == 1 and sizes != {()} else None


def run_pass(layer: Any, inputs: Inputs, dy: Array) -> Pass:
    """Return what a forward and a backward pass give; the layer gets arrays to which it may write."""
    return go_back(layer, np.array(layer.forward(*inputs)), dy)


def go_back(layer: Any, y: Any, dy: Array, *cache: Any) -> Pass:
    """Return what a backward pass gives, behind a forward pass that gave y."""
    dx = read_gradients(layer.backward(dy, *cache))
    return Pass(y, dx, {name: np.array(value) for name, value in (getattr(layer, "grads", None) or {}).items()})


def read_gradients(returned: Any) -> tuple[Any, ...]:
    """Return copies of the gradients that backward returned, None where it returned none."""
    parts = returned if isinstance(returned, tuple) else (returned,)
    return tuple(None if part is None else np.array(part) for part in parts)


def _turn(value: Array) -> Array:
    return np.array(np.flip(value, 0)) if value.ndim else value


def _move(value: Array, rng: np.random.Generator, unit: float) -> Array:
    return np.asarray(value * (1 + unit * rng.uniform(-1, 1, value.shape)), value.dtype)
