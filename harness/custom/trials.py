"""Trials: a specification, a dtype and a seed come in, problems on which its layer is run and judged go out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.cases import store
from harness.core import Array, BadInput, Case, NetworkSpec, NodeSpec, Problem
from harness.custom.adopted import adopt
from harness.custom.spec import LayerSpec
from harness.floats import is_float
from harness.isolation import quiet
from harness.strangers import RAISED, tell


@dataclass(frozen=True)
class Variation:
    """How a trial differs from the first: the factor of its inputs, their storage, and their first axis."""

    scale: float = 1.0
    storage: str = "C"
    batch: int | None = None


SEVERAL = (
    "formula: it returns {} outputs; accepted is one array: a formula that joins them (flattened, one behind the other), and the "
    "layer in harness.styles.adjust(layer, join=True)"
)
VARIATIONS = (
    Variation(),
    Variation(storage="fortran"),
    Variation(storage="strided"),
    Variation(scale=8.0),
    Variation(scale=0.125),
    Variation(batch=1),
    Variation(batch=2),
)


@dataclass(frozen=True, order=True)
class TrialId:
    """What draws a trial of a specification again: the seed, the number of the trial, and the dtype."""

    seed: int
    index: int
    dtype: str


@dataclass(frozen=True, eq=False)
class Trial:
    """A problem of one node, and the class of the layer that is judged on it.

    `declared` is the class with the formula that its gradients are of: another one than `kind` only where that is declared.
    `has_formula` says whether there is one of the forward pass.
    """

    problem: Problem
    kind: Any
    declared: Any
    has_formula: bool = True

    @property
    def node(self) -> str:
        """The name of the one node."""
        return self.problem.case.network.output.name


def draw_trials(spec: LayerSpec, dtype: str, count: int, seed: int) -> Iterator[Trial]:
    """Yield `count` trials; where inputs are given by their shapes, sizes, scales and storage take turns after the first."""
    for index in range(count):
        yield draw_numbered(spec, TrialId(seed, index, dtype))


def draw_again(spec: LayerSpec, dtype: str, again: Iterable[TrialId], count: int, seed: int) -> Iterator[Trial]:
    """Yield the trials of `list_again`."""
    for one in list_again(dtype, again, count, seed):
        yield draw_numbered(spec, one)


def list_again(dtype: str, again: Iterable[TrialId], count: int, seed: int) -> list[TrialId]:
    """Return the trials of earlier runs in this dtype, without those that `draw_trials` yields with the same count and seed."""
    return [one for one in sorted(set(again)) if one.dtype == dtype and not (one.seed == seed and one.index < count)]


def read_trial_id(case: str, dtype: str) -> TrialId | None:
    """Return which trial a case is, nothing where its id is that of no trial.

    >>> read_trial_id("Swish-s0t3-f32-ddbe06e7", "float32")
    TrialId(seed=0, index=3, dtype='float32')
    """
    found = re.search(r"-s(\d+)t(\d+)-\w+-\w+$", case)
    return TrialId(int(found[1]), int(found[2]), dtype) if found else None


def draw_numbered(spec: LayerSpec, trial: TrialId) -> Trial:
    """Return a trial; of inputs that are not given by their shapes only the storage varies from one to the next."""
    variation = VARIATIONS[trial.index % len(VARIATIONS)]
    chosen = variation if spec.is_drawn else replace(variation, scale=1.0, batch=None)
    return draw_trial(spec, trial.dtype, trial.seed, trial.index, chosen)


def draw_trial(spec: LayerSpec, dtype: str, seed: int, index: int, variation: Variation = VARIATIONS[0]) -> Trial:
    """Return one trial. Raises BadInput where the formula gives nothing for these inputs."""
    rng = np.random.default_rng([seed, index])
    params, inputs = spec.draw_params(rng), _vary(spec, spec.draw_inputs(rng), variation)
    if len(_find_constants(spec, inputs)) == len(inputs) and not params:
        raise BadInput(f"inputs: all of {spec.name}'s are constants and it has no parameters; accepted are inputs of floats")
    dy = _draw_cotangent(rng, _shape_of_cotangent(spec, params, inputs))
    return make_trial(spec, params, inputs, dy, dtype, seed, index, variation)


def make_trial(
    spec: LayerSpec, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, dtype: str, seed: int, index: int,
    variation: Variation = VARIATIONS[0],
) -> Trial:  # fmt: skip
    """Return the trial of these arrays, which are stored in the dtype and in the storage of the variation."""
    constants = _find_constants(spec, inputs)
    kind = adopt(spec, len(inputs), constants)
    case = _describe(spec, inputs, dy, dtype, seed, index, variation)
    names = case.network.output.inputs
    declared = adopt(spec, len(inputs), constants, declared=True) if spec.gradient else kind
    return Trial(
        Problem(
            case=case,
            params={spec.name: {name: store(value, replace(case, storage="C")) for name, value in params.items()}},
            inputs={name: store(value, case) for name, value in zip(names, inputs, strict=True)},
            constants=frozenset(names[i] for i in constants),
            dy=store(dy, case if dy.ndim else replace(case, storage="C")),
        ),
        kind,
        declared,
        spec.formula is not None,
    )


def _find_constants(spec: LayerSpec, inputs: tuple[Array, ...]) -> frozenset[int]:
    """Return the places of the inputs that have no gradient."""
    return frozenset(i for i, value in enumerate(inputs) if i in spec.constants or not is_float(value))


def _vary(spec: LayerSpec, inputs: tuple[Array, ...], variation: Variation) -> tuple[Array, ...]:
    """Return the inputs scaled, and cut or repeated along the first axis where they all share one."""
    scaled = tuple(value * variation.scale if is_float(value) else value for value in inputs)
    sizes = {value.shape[:1] for value in scaled}
    if variation.batch is None or len(sizes) != 1 or sizes == {()}:
        return scaled
    return tuple(value[: variation.batch] for value in scaled)


def shape_of_output(spec: LayerSpec, params: Mapping[str, Array], inputs: tuple[Array, ...]) -> tuple[int, ...]:
    """Return the shape of the output, by the formula, else by the layer's own forward pass.

    Raises BadInput, with what is raised, where there is no output.
    """
    formula, what = spec.formula or spec.gradient, "formula"
    try:
        with quiet():
            if formula is not None:
                y = formula(make_numpy_namespace(), params, *inputs)
                if isinstance(y, tuple | list):
                    raise BadInput(SEVERAL.format(len(y)))
                return np.shape(y)
            what, kind = "layer", adopt(spec, len(inputs), _find_constants(spec, inputs))
            y = kind(**{name: value.copy() for name, value in params.items()}).forward(*(value.copy() for value in inputs))
            return np.shape(np.asarray(y, np.float64))
    except BadInput:
        raise
    except RAISED as error:  # reason: it is a stranger's code; what it raises is the message
        shapes = [list(value.shape) for value in inputs]
        raise BadInput(f"{what}: it fails on inputs of the shapes {shapes}: {tell(error)}") from None


def _shape_of_cotangent(spec: LayerSpec, params: Mapping[str, Array], inputs: tuple[Array, ...]) -> tuple[int, ...]:
    """Return the shape of the output; any where the layer's own forward pass gives none: the trial will say so."""
    try:
        return shape_of_output(spec, params, inputs)
    except BadInput:
        if spec.is_unaided:
            return inputs[0].shape
        raise


def _draw_cotangent(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return random signs and sizes from 0.5 to 2: a cotangent of ones would let a wrong softmax pass."""
    return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2.0, shape))


def _describe(
    spec: LayerSpec, inputs: tuple[Array, ...], dy: Array, dtype: str, seed: int, index: int, variation: Variation
) -> Case:
    """Return the case: a graph of one node."""
    names = tuple(f"x{i}" for i in range(len(inputs))) if len(inputs) > 1 else ("x",)
    widths = {name: value.shape[-1] if value.ndim else 0 for name, value in zip(names, inputs, strict=True)}
    node = NodeSpec(spec.name, spec.name, names, dy.shape[-1] if dy.ndim else 0)
    batch = inputs[0].shape[0] if inputs[0].ndim else 0
    network = NetworkSpec(widths, (node,), batch)
    origin = f"{spec.name}-s{seed}t{index}"
    return Case(network, dtype, seed, scale=variation.scale, storage=variation.storage, origin=origin)
