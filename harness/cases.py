"""Cases: a seed and settings come in, a plan of cases goes out; a case comes in, its problem (the arrays) goes out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import LABELS, STORAGES, Array, BadInput, Case, NetworkSpec, Problem, freeze
from harness.floats import find_format, is_float
from harness.networks import SeededChooser, draw_network, draw_single, resize

DRAWS = 20
OPEN_SHARE = 0.25
REDRAWS = 20


@dataclass(frozen=True)
class ShapeHazard:
    """A hazard of shapes or storage, beside those of values that layers declare.

    `declares` says what must then hold and is asserted: `empty` (input gradients have no numbers),
    `zero` (parameter gradients are exactly 0), `nan` (the mean loss is NaN).
    """

    name: str
    why: str
    batch: int | None = None
    width: int | None = None
    storage: str = "C"
    declares: tuple[str, ...] = ()


SHAPE_HAZARDS = {
    hazard.name: hazard
    for hazard in (
        ShapeHazard("batch-0", "an empty batch: sums are 0, means are NaN", batch=0, declares=("empty", "zero", "nan")),
        ShapeHazard("batch-1", "a batch of one hides sums over the batch and wrong divisors", batch=1),
        ShapeHazard("width-1", "a width of one hides transposes; a softmax of one class is constant", width=1),
        ShapeHazard("fortran", "columns first in memory: reshapes and raw buffers go wrong", storage="fortran"),
        ShapeHazard("strided", "every other element of a larger array: raw buffers go wrong", storage="strided"),
    )
}


def list_hazards(layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return every hazard by name: of shapes and storage, and those that the layers declare."""
    return {**SHAPE_HAZARDS, **{hazard.name: hazard for kind in layers.values() for hazard in kind.hazards}}


def plan_cases(
    count: int, seed: int, layers: Mapping[str, Any], *, dtypes: Sequence[str], hazards: Sequence[str], draws: int = DRAWS
) -> Iterator[list[Case]]:
    """Yield `count` cases in lists of at most `draws` that share a network, so that it is compiled once a dtype.

    Every graph is another one. Every seventh is a single layer; about every fourth has a hazard of shape, and about
    a third of the other draws have a hazard of storage or values.
    """
    seen: set[str] = set()
    for index in range(-(-count // draws)):
        network, shape = _draw_network(seed, index, layers, hazards, seen)
        seen.add(network.digest)
        yield [
            _draw_case(network, shape, seed, index, draw, layers, dtypes, hazards)
            for draw in range(min(draws, count - index * draws))
        ]


def find_case(origin: str, layers: Mapping[str, Any], dtypes: Sequence[str], draws: int = DRAWS) -> Case:
    """Return the case that a default plan gives an id such as `s1n42d7-f32-9fa31c0b`. Raises BadInput when it gives another."""
    match = re.fullmatch(r"s(\d+)n(\d+)d(\d+)-b?f\d\d-[0-9a-f]{8}", origin)
    if not match:
        accepted = "an id such as s1n42d7-f32-9fa31c0b, a file of JSON, or an id of the run folder"
        raise BadInput(f"case id {origin!r}; accepted is {accepted}")
    seed, index, draw = map(int, match.groups())
    plan = plan_cases((index + 1) * draws, seed, layers, dtypes=dtypes, hazards=list(list_hazards(layers)), draws=draws)
    case = next(islice(plan, index, None))[min(draw, draws - 1)]
    if case.id != origin:
        raise BadInput(f"case id {origin!r}: the default plan gives {case.id} there; replay it from its run folder or its JSON")
    return case


def _draw_network(
    seed: int, index: int, layers: Mapping[str, Any], hazards: Sequence[str], seen: set[str]
) -> tuple[NetworkSpec, tuple[str, ...]]:
    """Return a graph not seen before, and the hazards of its shape."""
    rng = np.random.default_rng([seed, index])
    for _ in range(1000):
        choose = SeededChooser(rng)
        single = index % 7 == 0
        network = draw_single(choose, layers[list(layers)[index // 7 % len(layers)]]) if single else draw_network(choose, layers)
        shapes = [name for name in hazards if name in SHAPE_HAZARDS and SHAPE_HAZARDS[name].storage == "C"]
        chosen: tuple[str, ...] = (choose.pick(shapes),) if shapes and index % 4 == 2 else ()
        for name in chosen:
            network = resize(network, layers, batch=SHAPE_HAZARDS[name].batch, width=SHAPE_HAZARDS[name].width)
        if network.digest not in seen:
            return network, chosen
    raise BadInput(f"--cases: the layers {sorted(layers)} give no more than {len(seen)} different graphs")


def _draw_case(
    network: NetworkSpec, shape: tuple[str, ...], seed: int, index: int, draw: int, layers: Mapping[str, Any],
    dtypes: Sequence[str], hazards: Sequence[str],
) -> Case:  # fmt: skip
    rng = np.random.default_rng([seed, index, draw])
    labels = LABELS[int(np.random.default_rng([seed, index]).integers(len(LABELS)))]
    dtype = dtypes[draw % len(dtypes)]
    planted = _draw_hazards(rng, network, layers, hazards, dtype) if rng.random() < 1 / 3 else ()
    storages = [SHAPE_HAZARDS[name].storage for name in planted if name in SHAPE_HAZARDS]
    return Case(
        network=network,
        dtype=dtype,
        seed=int(rng.integers(2**31)),
        scale=float(np.float32(10 ** (rng.uniform(-2, 2) * _share_of_scales(dtype)))),
        gain=float(np.float32(10 ** rng.uniform(-0.5, 0.5))),
        labels=labels,
        storage=storages[0] if storages else "C",
        hazards=(*shape, *planted),
        origin=f"s{seed}n{index}d{draw}",
    )


def _share_of_scales(dtype: str) -> float:
    """Return 1 for formats that hold the squares of inputs of any scale, 1/2 for float16, whose largest number is 65504."""
    return 1.0 if find_format(dtype).largest > 1e30 else 0.5


def _draw_hazards(
    rng: np.random.Generator, network: NetworkSpec, layers: Mapping[str, Any], hazards: Sequence[str], dtype: str
) -> tuple[str, ...]:
    """Return one hazard of storage or values that the network and the dtype can have, if there is one."""
    planted = [hazard for node in network.nodes if _feeds(network, node, layers) for hazard in layers[node.layer].hazards]
    present = {hazard.name for hazard in planted if hazard.reach**2 < find_format(dtype).largest * 16}
    fitting = [name for name in hazards if name in present or (name in SHAPE_HAZARDS and SHAPE_HAZARDS[name].storage != "C")]
    return (fitting[int(rng.integers(len(fitting)))],) if fitting else ()


def make_problem(case: Case, layers: Mapping[str, Any]) -> Problem:
    """Return the arrays of a case, read-only, in its dtype and storage; the same ones each time.

    Inputs and weights are random; each projection is scaled by what it makes of this batch, so that depth neither
    saturates nor starves the network, and redrawn while less than a quarter of the gates behind it are open. The
    cotangent has random signs and sizes from 0.5 to 2, never near 0 (times the batch in float16).
    Raises BadInput on an unknown layer.
    """
    rng = np.random.default_rng(case.seed)
    for node in case.network.nodes:
        if node.layer not in layers:
            raise BadInput(f"node {node.name!r}: unknown layer {node.layer!r}; accepted are {', '.join(sorted(layers))}")
    inputs = _draw_inputs(rng, case, layers)
    params: dict[str, dict[str, Array]] = {}
    with np.errstate(all="ignore"):
        output = _draw_params(rng, case, layers, inputs, params)
    dy = rng.choice([-1.0, 1.0], output.shape) * rng.uniform(0.5, 2.0, output.shape) * _loss_scale(case, layers)
    stored = {name: {key: store(value, case) for key, value in group.items()} for name, group in params.items()}
    constants = {node.inputs[i] for node in case.network.nodes for i in _constants(layers[node.layer])}
    return Problem(
        case=case,
        params=stored,
        inputs={name: store(value, case) for name, value in inputs.items()},
        constants=frozenset(constants & set(inputs)),
        dy=store(np.asarray(dy), replace(case, storage="C")),
    )


def _loss_scale(case: Case, layers: Mapping[str, Any]) -> float:
    """Return what float16 networks multiply a mean loss by, as mixed-precision training does: gradients would underflow."""
    is_mean = layers[case.network.output.layer].place == "loss"
    return float(2 ** max(case.network.batch - 1, 0).bit_length()) if is_mean and case.dtype == "float16" else 1.0


def _constants(kind: Any) -> list[int]:
    """Return which inputs of the layer are not differentiated."""
    return [i for i, varies in enumerate(kind.differentiable) if not varies]


def _draw_inputs(rng: np.random.Generator, case: Case, layers: Mapping[str, Any]) -> dict[str, Array]:
    """Return an array for each input of the network, from the samples of the layer that reads it first."""
    inputs: dict[str, Array] = {}
    for name, width in sorted(case.network.widths.items()):  # the order must not matter: JSON has another one
        reader = next(node for node in case.network.nodes if name in node.inputs)
        sample = np.asarray(layers[reader.layer].sample_inputs(rng, case.network.batch, width)[reader.inputs.index(name)])
        is_target = layers[reader.layer].place == "loss" and reader.inputs.index(name) > 0
        inputs[name] = _label(rng, sample, width, case.labels) if is_target else _scale(sample, case, layers[reader.layer])
    if case.storage not in STORAGES:
        raise BadInput(f"case.storage: {case.storage!r}; accepted are {', '.join(STORAGES)}")
    return inputs


def _scale(sample: Array, case: Case, kind: Any) -> Array:
    """Return floats scaled; as they are where the layer says that its inputs are of a scale of their own."""
    return sample * case.scale if is_float(sample) and getattr(kind, "scales", True) else sample


def _label(rng: np.random.Generator, sample: Array, width: int, labels: str) -> Array:
    """Return integer labels as they are, one-hot or as soft weights; other targets unchanged."""
    if sample.dtype.kind not in "iu" or labels == "integer":
        return sample
    return np.eye(width)[sample] if labels == "one_hot" else rng.dirichlet(np.ones(width), len(sample))


def _draw_params(
    rng: np.random.Generator, case: Case, layers: Mapping[str, Any], inputs: dict[str, Array], params: dict[str, dict[str, Array]]
) -> Array:
    """Fill `params` (and plant hazards in them and in `inputs`) from the first node on; return the output in float64."""
    xp, values = make_numpy_namespace(), dict(inputs)
    for node in case.network.nodes:
        kind = layers[node.layer]
        for hazard in (hazard for hazard in kind.hazards if hazard.name in case.hazards):
            source = node.inputs[0]
            if source in inputs:
                inputs[source] = values[source] = hazard.plant(rng, inputs[source])
        arguments = [_round(values[name], case.dtype) for name in node.inputs]
        for _ in range(REDRAWS):
            params[node.name] = _draw_node(rng, case, node, layers, arguments)
            values[node.name] = np.asarray(kind.formula(xp, params[node.name], *arguments))
            if _gates_open(case.network, node.name, layers, values[node.name]):
                break
    return values[case.network.output.name]


def _draw_node(
    rng: np.random.Generator, case: Case, node: Any, layers: Mapping[str, Any], arguments: list[Array]
) -> dict[str, Array]:
    """Return the parameters of one node: scaled by their effect on this batch, planted with the hazards of its readers."""
    kind, n_in = layers[node.layer], arguments[0].shape[-1] if arguments[0].ndim > 1 else node.width
    drawn: dict[str, Array] = kind.initial_params(rng, n_in, node.width)
    if kind.place == "project" and drawn:
        spread = np.std(kind.formula(make_numpy_namespace(), drawn, *arguments)) if arguments[0].size else 1.0
        factor = case.gain / spread if np.isfinite(spread) and spread > 1e-6 else case.gain
        drawn = {name: value * factor for name, value in drawn.items()}
    for reader in case.network.nodes:
        for hazard in layers[reader.layer].hazards:
            if drawn and hazard.name in case.hazards and reader.inputs[0] == node.name:
                drawn = _plant(rng, hazard, drawn)
    return {name: _round(value, case.dtype) for name, value in drawn.items()}


def _plant(rng: np.random.Generator, hazard: Any, params: dict[str, Array]) -> dict[str, Array]:
    """Return the parameters with the hazard in their columns, the same columns in all of them."""
    rows = {name: np.atleast_2d(value) for name, value in params.items()}
    ends = np.cumsum([len(value) for value in rows.values()])[:-1]
    planted = np.split(hazard.plant(rng, np.concatenate(list(rows.values()))), ends)
    return {name: part.reshape(params[name].shape) for name, part in zip(rows, planted, strict=True)}


def _feeds(network: NetworkSpec, node: Any, layers: Mapping[str, Any]) -> bool:
    """Whether a hazard can be planted in what the node reads: an input, or the columns of a projection's parameters."""
    source = next((other for other in network.nodes if other.name == node.inputs[0]), None)
    return source is None or layers[source.layer].place == "project"


def _gates_open(network: NetworkSpec, name: str, layers: Mapping[str, Any], value: Array) -> bool:
    """Whether at least a quarter of the gates that read the value are open; true where nothing with gates reads it."""
    readers = [layers[node.layer] for node in network.nodes if name in node.inputs and hasattr(layers[node.layer], "decisions")]
    lone = [kind for kind in readers if len(kind.differentiable) == 1]
    return not value.size or all(np.mean(kind.decisions(make_numpy_namespace(), {}, value)) >= OPEN_SHARE for kind in lone)


def _round(value: Array, dtype: str) -> Array:
    """Return floats as the dtype will store them, in float64; integers as they are."""
    return value.astype(find_format(dtype).dtype).astype(np.float64) if is_float(value) else value


def store(value: Array, case: Case) -> Array:
    """Return the array in the case's dtype and storage, read-only."""
    stored = value.astype(find_format(case.dtype).dtype) if is_float(value) else value.astype(np.int64)
    if case.storage == "fortran":
        stored = np.asfortranarray(stored)
    if case.storage == "strided" and stored.ndim:
        spaced = np.zeros([2 * size for size in stored.shape], stored.dtype)
        view = spaced[(slice(None, None, 2),) * stored.ndim]
        view[...] = stored
        stored = view
    return freeze(stored)
