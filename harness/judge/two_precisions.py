"""Two precisions: a layer and its arrays come in, how far its results in the dtype are from those one precision up goes out.

The same code runs in both, at the inputs and at others a few ulps apart. Where a function is flat no small step tells what
its code does: there it is asked once more at calmer inputs, of at most 1.
"""

from __future__ import annotations

from collections.abc import Mapping
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
WITH_DY = 1.0  # with the threshold, 16 eps of it: 1 - t^2, times dy, for a t that JAX gives to 7 ulps near 1 (measured)


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
    if check and _find_blind(experiment, found, low, high, rng):
        calm = _calm(experiment)
        blind = _find_blind(calm, _differ(calm, low, high, rng), low, high, rng)
        if blind:
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
    rounded = {name: np.sqrt(mean_square(apart)) for name, apart in found.items()}
    return find_blindness(experiment, high, low, rng, rounded)


def _calm(experiment: Experiment) -> Experiment:
    """Return the experiment with each input scaled down to entries of at most 1, where little saturates."""
    given = enumerate(experiment.inputs)
    return replace(experiment, inputs=tuple(value if i in experiment.constants else _scale_down(value) for i, value in given))


def _scale_down(value: Array) -> Array:
    """Return the value times a power of two, by which nothing is rounded."""
    _, exponent = np.frexp(np.abs(value[np.isfinite(value)]).max(initial=0.0))
    return np.asarray(np.ldexp(value, -max(int(exponent), 0)), value.dtype)


def find_bias(experiment: Experiment, witness: Witness, value: Values, target: FloatFormat, seed: int) -> str:
    """Return in words which results part from those of the higher precision always in the same way, as no rounding does.

    Where a function saturates, so that 1 + e rounds alike for all e nearby, rounding does: what one rounding in the dtype
    reaches, and what is not there at calmer inputs, is no bias.
    """
    biased = _list_biased(witness, value, target)
    if not biased or (_is_within_reach(experiment, witness, target) and not _is_biased_calmly(experiment, target, seed)):
        return ""
    return f"{', '.join(biased)} differs between {target.name} and the precision above always in the same way: no rounding does"


def _list_biased(witness: Witness, value: Values, target: FloatFormat) -> list[str]:
    """Return which results part always in the same way, and by how much.

    At inputs a few ulps apart roundings are as good as independent, where the function is not flat. What does not change
    with them, and is more than the rounding of a constant makes, comes of code that is another one in each dtype: a step or
    an epsilon taken from finfo.
    """
    found = []
    for name, apart in witness.differences.items():
        finite = np.isfinite(apart).all(0)
        steady, spread = (np.where(finite, part, 0.0) for part in (apart.mean(0), apart.std(0)))
        size = np.linalg.norm(np.where(np.isfinite(value[name]), value[name], 0).astype(np.float64))
        bias = float(np.linalg.norm(steady))
        if bias > CONSTANT * target.u * size and bias > STEADY * float(np.linalg.norm(spread)):
            found.append(f"{name} (by {bias / size:.2g} of it)" if size else name)
    return found


def _is_within_reach(experiment: Experiment, witness: Witness, target: FloatFormat) -> bool:
    """Whether one rounding in the dtype of what cancels, where a function saturates, explains what is always the same."""
    reach = find_reach(experiment, target.u)
    return all(
        np.abs(np.where(np.isfinite(apart), apart, 0.0).mean(0)).max(initial=0.0) <= reach
        for apart in witness.differences.values()
    )


def _is_biased_calmly(experiment: Experiment, target: FloatFormat, seed: int) -> bool:
    """Whether the results part always in the same way where nothing saturates too: then the code is another one."""
    calm, rng = _calm(experiment), np.random.default_rng([seed, 3])
    try:
        value = run_layer(calm, make_cast(target.compute))
        witness = Witness(_differ(calm, target.compute, HIGHER[target.name], rng))
    except Unrunnable:
        return True
    return bool(_list_biased(witness, value, target))


def find_reach(experiment: Experiment, eps: float) -> float:
    """Return what rounding to eps makes of dy's largest entry, times the largest of each array that it may be multiplied by.

    The difference that cancels where a function saturates is one of numbers of that size.
    """
    arrays = [value for value in (*experiment.inputs, *experiment.params.values()) if is_float(value)]
    largest = np.prod([max(1.0, float(np.abs(value[np.isfinite(value)]).max(initial=0.0))) for value in arrays])
    return WITH_DY * eps * float(np.abs(experiment.dy).max(initial=0.0) * largest)


def mean_square(apart: Array) -> Array:
    """Return the mean square of the finite differences; 0 where there is none, for then the code overflows in the dtype."""
    finite = np.isfinite(apart)
    out: Array = np.sum(np.square(np.where(finite, apart, 0.0)), axis=0) / np.maximum(finite.sum(0), 1)
    return out
