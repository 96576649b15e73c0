"""Two precisions: a layer and its arrays come in, how far its results in the dtype are from those one precision up goes out.

The same code runs in both, at the inputs and at others a few ulps apart. Where a function is flat no small step tells what
its code does: there it is asked again at calmer inputs, of at most 1, 1/8 and 1/64. Where it saturates, 1 + e for instance
rounds alike for all e nearby, or in both precisions: what is always the same may be rounding there, and no difference at all
may not be. Both are held against the largest gradient, here or at the calmer inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.core import Array
from harness.floats import FloatFormat, is_float
from harness.judge.layer_run import (
    WIDER,
    Experiment,
    Unrunnable,
    Values,
    disturb,
    find_blindness,
    make_cast,
    run_layer,
    run_precisely,
)
from harness.judge.oracle import HIGHER

RUNS = 16
CONSTANT, STEADY = 8.0, 4.0
CALM = (0, 3, 6)
FORGIVEN = 2.0**8, 2.0**11  # roundings; up to 582 are the same in all runs of attention on scores of hundreds (measured)
WITH_DY = 1.0  # as sigma, with its threshold, 16 eps of it: 1 - t^2, times dy, for a t that JAX gives to 7 ulps near 1 (measured)


@dataclass(frozen=True, eq=False)
class Witness:
    """K differences of the same code in two precisions, by quantity, or none and the reason.

    `whole` is false where the differences are only good for an order of magnitude.
    """

    differences: Mapping[str, Array] = field(default_factory=dict)
    whole: bool = False
    reason: str = ""


def find_witness(experiment: Experiment, target: FloatFormat, seed: int) -> Witness:
    """Return the differences between the dtype and the one above, or for float64 an order of magnitude from those of float32."""
    higher = HIGHER[target.name]
    rng = np.random.default_rng([seed, 1])
    try:
        return Witness(_find_differences(experiment, target.compute, higher, rng), whole=True)
    except Unrunnable as failure:
        reason = f"the code does not compute in {higher}: {failure}"
    if target.name != "float64":
        return Witness(reason=reason)
    single = np.dtype(np.float32)
    try:
        found = _find_differences(experiment.change(make_cast(single)), single, target.dtype, rng, check=False)
    except Unrunnable as failure:
        return Witness(reason=f"{reason}; nor in float32: {failure}")
    return Witness({name: apart * 2.0**-29 for name, apart in found.items()}, reason=reason)


def _find_differences(
    experiment: Experiment, low: Any, high: Any, rng: np.random.Generator, check: bool = True
) -> dict[str, Array]:
    """Return K differences between runs in both dtypes. Raises Unrunnable where the code does not compute in the higher one.

    Code that seems not to, at inputs at which it may as well be flat, is asked at calmer ones.
    """
    if not np.finfo(high).eps <= np.finfo(low).eps * 2.0**-8:
        raise Unrunnable(f"this machine's {high} is no more precise than {low}")
    found = _differ(experiment, low, high, rng, check)
    blind = _find_blind(experiment, found, low, high, rng) if check else ""
    if blind and all(_is_blind(calm, low, high, rng) for calm in _calm(experiment)):
        raise Unrunnable(
            f"{blind} did not follow changes that {low} cannot hold: something inside is no finer than it, or it is flat here"
        )
    return found


def _differ(experiment: Experiment, low: Any, high: Any, rng: np.random.Generator, check: bool = True) -> dict[str, Array]:
    """Return K differences between runs in both dtypes, the first at the inputs themselves, the others a few ulps away."""
    rows: dict[str, list[Array]] = {}
    for k in range(RUNS):
        moved = disturb(experiment, rng, WIDER if k % 2 else 1) if k else experiment
        fine = run_precisely(moved, high)
        coarse = run_layer(moved, make_cast(low)) if check else run_precisely(moved, low)
        for name, value in fine.items():
            with np.errstate(all="ignore"):
                rows.setdefault(name, []).append((coarse[name].astype(high) - value).astype(np.float64))
    return {name: np.array(values) for name, values in rows.items()}


def _find_blind(experiment: Experiment, found: Mapping[str, Array], low: Any, high: Any, rng: np.random.Generator) -> str:
    """Return which results do not follow changes that only the high dtype holds, as far as these differences can tell."""
    rounded = {name: np.sqrt(mean_square(apart)) for name, apart in found.items()}
    return find_blindness(experiment, high, low, rng, rounded)


def _is_blind(experiment: Experiment, low: Any, high: Any, rng: np.random.Generator) -> bool:
    """Whether something does not follow changes here, or cannot: what raises or gives no number follows nothing."""
    try:
        found = _differ(experiment, low, high, rng)
        return not _has_numbers(found) or bool(_find_blind(experiment, found, low, high, rng))
    except Unrunnable:
        return True


def _has_numbers(found: Mapping[str, Array]) -> bool:
    return all(np.isfinite(value).any() for value in found.values() if value.size)


def _calm(experiment: Experiment) -> Iterator[Experiment]:
    """Yield the experiment with each input scaled down, step by step, until little saturates."""
    for level in CALM:
        given = enumerate(experiment.inputs)
        inputs = tuple(value if i in experiment.constants else _scale_down(value, level) for i, value in given)
        yield replace(experiment, inputs=inputs)


def _scale_down(value: Array, level: int) -> Array:
    """Return the value times a power of two, so that its entries are at most 2^-level."""
    _, exponent = np.frexp(_find_size(value))
    return np.asarray(np.ldexp(value, -max(int(exponent) + level, 0)), value.dtype)


def find_bias(experiment: Experiment, witness: Witness, value: Values, target: FloatFormat, seed: int) -> str:
    """Return in words which results part from those of the higher precision always in the same way, as no rounding does.

    A gradient that does so by little, and not at calmer inputs, is one of a function that saturates.
    """
    biased = _list_biased(witness.differences, value, target)
    if not biased:
        return ""
    if "y" not in biased and _is_little(experiment, witness, value, target) and _is_steady(experiment, target, seed):
        return ""
    found = ", ".join(biased.values())
    return f"{found} differs between {target.name} and the precision above always in the same way: no rounding does"


def _list_biased(differences: Mapping[str, Array], value: Values, target: FloatFormat) -> dict[str, str]:
    """Return which results part always in the same way, and in words by how much.

    At inputs a few ulps apart roundings are as good as independent, where the function is not flat. What does not change
    with them, and is more than the rounding of a constant makes, comes of code that is another one in each dtype: a step or
    an epsilon taken from finfo.
    """
    found = {}
    for name, apart in differences.items():
        finite = np.isfinite(apart).all(0)
        steady, spread = (np.where(finite, part, 0.0) for part in (apart.mean(0), apart.std(0)))
        size = np.linalg.norm(np.where(np.isfinite(value[name]), value[name], 0).astype(np.float64))
        bias = float(np.linalg.norm(steady))
        if bias > CONSTANT * target.u * size and bias > STEADY * float(np.linalg.norm(spread)):
            found[name] = f"{name} (by {bias / size:.2g} of it)" if size else name
    return found


def _is_little(experiment: Experiment, witness: Witness, value: Values, target: FloatFormat) -> bool:
    """Whether what is always the same may be one rounding of what cancels; how large that is the largest gradient tells, too.

    What the arrays make of a rounding of dy is believed between the two FORGIVEN multiples of one of the largest gradient:
    numbers in the code may make it larger, and arrays that have no part in it do not.
    """
    reach = find_reach(experiment, target.u)
    largest = _find_largest(experiment, value, target)
    least, most = FORGIVEN
    limits = {name: min(max(reach, least * target.u * size), most * target.u * size) for name, size in largest.items()}
    apart = {name: np.where(np.isfinite(part), part, 0.0).mean(0) for name, part in witness.differences.items() if name != "y"}
    return all(np.abs(part).max(initial=0.0) <= limits[name] for name, part in apart.items())


def _is_steady(experiment: Experiment, target: FloatFormat, seed: int) -> bool:
    """Whether at some calmer inputs nothing parts always in the same way: there the code is one and the same in each dtype."""
    rng = np.random.default_rng([seed, 3])
    for calm in _calm(experiment):
        try:
            value, found = run_layer(calm, make_cast(target.compute)), _differ(calm, target.compute, HIGHER[target.name], rng)
        except Unrunnable:
            continue
        if _has_numbers(found) and not _list_biased(found, value, target):
            return True
    return False


def find_floor(experiment: Experiment, value: Values, target: FloatFormat, eps: float) -> dict[str, float]:
    """Return what rounding to eps leaves of each gradient where all cancels, as it may have in both precisions alike.

    That is eps of the numbers that cancel, which are as large as dy times arrays of the layer, but a rounding of the dtype of the
    largest gradient at most: an array that has no part in it, of a mask for instance, may be of any size.
    """
    reach, names = find_reach(experiment, eps), [name for name in value if name != "y"]
    if all(reach <= target.u * _find_size(value[name]) for name in names):
        return {"y": 0.0} | dict.fromkeys(names, reach)
    largest = _find_largest(experiment, value, target)
    return {"y": 0.0} | {name: min(reach, target.u * largest[name]) for name in names}


def _find_largest(experiment: Experiment, value: Values, target: FloatFormat) -> dict[str, float]:
    """Return the size of the largest entry of each result, here or at calmer inputs."""
    runs = [value]
    for calm in _calm(experiment):
        with suppress(Unrunnable):
            runs.append(run_layer(calm, make_cast(target.compute)))
    return {name: max(_find_size(run[name]) for run in runs) for name in value}


def _find_size(value: Array) -> float:
    return float(np.abs(value[np.isfinite(value)]).max(initial=0.0))


def find_reach(experiment: Experiment, eps: float) -> float:
    """Return what rounding to eps makes of dy's largest entry, times the largest of each array that it may be multiplied by."""
    arrays = [value for value in (*experiment.inputs, *experiment.params.values()) if is_float(value)]
    with np.errstate(over="ignore"):
        largest = float(np.prod([max(1.0, _find_size(value)) for value in arrays]))
    return WITH_DY * eps * _find_size(experiment.dy) * largest


def mean_square(apart: Array) -> Array:
    """Return the mean square of the finite differences; 0 where there is none, for then the code overflows in the dtype."""
    finite = np.isfinite(apart)
    out: Array = np.sum(np.square(np.where(finite, apart, 0.0)), axis=0) / np.maximum(finite.sum(0), 1)
    return out
