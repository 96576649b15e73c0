"""Noise of any layer: a class with the two passes, its arrays and a dtype come in, what rounding may do to each result goes out.

A layer that states no bound of its own is run K times, unchanged, on arrays that round at random (`noisy_array`). What
its code takes out of those arrays rounds no more, and a noise that is too small accuses the innocent. So the estimate is
held against a witness: the same code in the dtype and one precision up, at K inputs a few ulps apart. Where the witness
differs by more than the noise explains, it is the witness's differences that count, and where the code does not run one
precision up the noise is unknown. Above float64 torch and JAX have no precision: for a layer that is known to compute in
the dtype it is given (`follows_dtype`) the differences between float32 and float64 count there, in proportion, and beside
them how far K inputs a few ulps apart move the results.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from harness.core import DTYPES, Array, BadInput
from harness.floats import FloatFormat, find_format, is_float
from harness.judge.layer_run import Experiment, Unrunnable, Values, disturb, make_cast, run_layer
from harness.judge.noisy_array import NoisyArray, make_noisy
from harness.judge.oracle import HIGHER
from harness.judge.precision import find_eps
from harness.judge.two_precisions import RUNS, Witness, find_bias, find_floor, find_reach, find_witness, mean_square
from harness.judge.value_noise import Rounder

WEIGHT = 8
THRESHOLD = 16.0
SUSPECT = 8.0
FLOOR = 1e-145
SIMULATED = 30
How = Literal["hashed", "difference", "scaled", "unknown"]


@dataclass(frozen=True, eq=False)
class NoiseEstimate:
    """What rounding may do to each result: an error above `threshold` times `sigma` is none of its doing.

    `sigma` holds a float64 array for each quantity (y, dx or dx0, dx1 .., dW ..), empty when `how` is unknown; `how` is
    hashed (K runs with random rounding), difference (K runs beside runs one precision up), scaled (of float64 alone: from
    the differences between float32 and it) or unknown; `reason` says why it was not hashed;
    `casts` says which dtypes were seen that the inputs do not have; `is_biased` that the code is another one in each dtype.
    """

    sigma: Mapping[str, Array]
    how: How
    reason: str = ""
    threshold: float = THRESHOLD
    casts: tuple[str, ...] = ()
    is_biased: bool = False


def find_noise(
    kind: Callable[..., Any], params: Mapping[str, Array], inputs: Collection[Array], dy: Array, dtype: str, *,
    constants: Collection[int] = (), seed: int = 0,
) -> NoiseEstimate:  # fmt: skip
    """Return the standard deviation that rounding in the dtype gives the output and each gradient of a layer.

    The layer is made by `kind(**params)` for every run; `inputs` and `dy` are what its passes are given, in any float dtype;
    `constants` are the inputs that have no gradient, integers among them anyway. Layers of a network in bfloat16 or float16
    compute in float32, and their results are rounded once more where they are stored. Raises BadInput for another dtype.

    >>> class Double:
    ...     def __init__(self):
    ...         self.grads = {}
    ...
    ...     def forward(self, x):
    ...         return 2 * x
    ...
    ...     def backward(self, dy):
    ...         return dy * 0.3
    >>> noise = find_noise(Double, {}, [np.ones(2)], np.full(2, 0.7), "float32")
    >>> noise.how, bool(noise.sigma["y"].max() < 1e-15), bool((noise.sigma["dx"] > 1e-9).all())
    ('hashed', True, True)
    """
    if dtype not in DTYPES:
        raise BadInput(f"dtype: {dtype!r}; accepted are {', '.join(DTYPES)}")
    kind_of_float = find_format(dtype)
    experiment = _prepare(kind, params, tuple(inputs), dy, kind_of_float, constants)
    try:
        value = _run_twice(experiment, kind_of_float)
    except Unrunnable as failure:
        return NoiseEstimate({}, "unknown", f"the layer does not run: {failure}")
    compute = find_format(kind_of_float.compute.name)
    found = _choose(experiment, compute, value, seed)
    casts = (*_list_casts(value, compute), *found.casts)
    return replace(found, sigma=_add_edges(found.sigma, value, kind_of_float), casts=casts)


def _prepare(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, target: FloatFormat, constants: Collection[int]
) -> Experiment:
    """Return the experiment with every float array in the dtype in which the layer computes."""

    def bring(value: Any) -> Array:
        array = np.asarray(value)
        return array.astype(target.dtype).astype(target.compute) if is_float(array) else array

    given = tuple(map(bring, inputs))
    fixed = frozenset(constants) | {i for i, value in enumerate(given) if not is_float(value)}
    stored = target.name if target.is_narrow else ""
    return Experiment(kind, {name: bring(value) for name, value in params.items()}, given, fixed, bring(dy), stored)


def _run_twice(experiment: Experiment, target: FloatFormat) -> Values:
    """Return the plain run in the dtype. Raises Unrunnable when a second one differs: then more than rounding is at work."""
    one, other = (run_layer(experiment, make_cast(target.compute)) for _ in range(2))
    changed = [name for name in one if not np.array_equal(one[name], other[name], equal_nan=True)]
    if changed:
        raise Unrunnable(f"two runs on the same arrays gave different {', '.join(changed)}: the layer is random or keeps a state")
    return one


def _choose(experiment: Experiment, target: FloatFormat, value: Values, seed: int) -> NoiseEstimate:
    """Return the hashed estimate where nothing escaped it, else that of the witness, else none."""
    sigma, casts, escape = _find_hashed(experiment, target, value, seed)
    seen = tuple(f"{name} inside" for name in sorted(casts - {target.name, "float64"}))
    if sigma and not escape and any(find_format(name).u > target.u for name in casts):
        return NoiseEstimate(sigma, "hashed", f"no rounding of {target.name} explains the cast inside", casts=seen)
    witness = find_witness(experiment, target, seed)
    if not escape and witness.differences:
        escape = _find_escape(sigma, witness)
        if not escape:
            return NoiseEstimate(sigma, "hashed", casts=seen)
    if not escape and not witness.differences and target.name in casts - {"float64"}:
        # A witness is blind where the dtype itself is written into the code, which noisy arrays have followed through.
        return NoiseEstimate(sigma, "hashed", f"{target.name} is written into the code", casts=seen)
    if not witness.whole:
        reason = "; ".join(filter(None, (escape, witness.reason)))
        scaled = bool(escape and witness.differences) and getattr(experiment.kind, "follows_dtype", False)
        sigma = _scale(experiment, witness, value, seed) if scaled else {}
        return NoiseEstimate(sigma, "scaled" if scaled else "unknown", reason, casts=seen)
    biased = find_bias(experiment, witness, value, target, seed)
    if biased:
        return NoiseEstimate({}, "unknown", biased, casts=seen, is_biased=True)
    return NoiseEstimate(_measure(experiment, witness, value, target), "difference", escape, casts=seen)


def _find_hashed(experiment: Experiment, target: FloatFormat, value: Values, seed: int) -> tuple[dict[str, Array], set[str], str]:
    """Return the spread of the noisy runs, the casts seen, and what escaped: code that fails on them, or plain results."""
    simulated = SIMULATED if target.name == "float64" else target.digits
    shrink = 2.0 ** (simulated - target.digits)
    least = target.least / shrink if target.least / shrink > 1e-300 else 0.0
    casts: set[str] = set()
    runs: list[Values] = []
    for salt in np.random.SeedSequence(seed).generate_state(RUNS, np.uint64):
        rounder = Rounder(simulated, least, int(salt), constants=target.name != "float64", casts=casts)
        try:
            runs.append(run_layer(experiment, lambda array, rounder=rounder: make_noisy(rounder, array)))  # type: ignore[misc]
        except Unrunnable as failure:
            return {}, casts, f"the code fails on noisy arrays: {failure}"
    plain = [name for name in value if not isinstance(runs[0][name], NoisyArray)]
    if plain:
        return {}, casts, f"{', '.join(plain)} came back plain: rounding noise escapes the code"
    squares = {name: _variance([np.asarray(run[name]) for run in runs]) * shrink**2 for name in value}
    own_noise = float(np.finfo(np.float64).eps) * shrink
    return {name: _smooth(squares[name], value[name], own_noise) for name in value}, casts, ""


def _measure(experiment: Experiment, witness: Witness, value: Values, target: FloatFormat) -> dict[str, Array]:
    """Return sigma from the differences, no less than what the higher precision's own rounding may have hidden in both."""
    least = find_eps(HIGHER[target.name])
    floors = find_floor(experiment, value, target, least)
    squares = {name: mean_square(apart) for name, apart in witness.differences.items()}
    return {name: np.maximum(_smooth(squares[name], value[name], least), floors[name]) for name in value}


def _scale(experiment: Experiment, witness: Witness, value: Values, seed: int) -> dict[str, Array]:
    """Return sigma in float64, from the differences between float32 and it and from what inputs a few ulps apart do.

    Code that computes in float64 whatever it is given would show no more in float32 than one rounding, and has no estimate.
    Where float32 saturates it shows too little, of a difference with dy for instance that cancels: no gradient is said to be
    rounded less than `find_reach`. Raises Unrunnable where the layer fails on inputs a few ulps apart.
    """
    rng = np.random.default_rng([seed, 2])
    rows: dict[str, list[Array]] = {}
    for _ in range(RUNS):
        for name, moved in run_layer(disturb(experiment, rng, 1), make_cast(np.dtype(np.float64))).items():
            with np.errstate(all="ignore"):
                rows.setdefault(name, []).append(moved - value[name])
    least = find_eps("float64")
    floor = find_reach(experiment, least)
    return {
        name: np.maximum(
            _smooth(mean_square(apart) + mean_square(np.array(rows[name])), value[name], least), floor if name != "y" else 0.0
        )
        for name, apart in witness.differences.items()
    }


def _find_escape(sigma: Mapping[str, Array], witness: Witness) -> str:
    """Return in words which results differ between the precisions by more than the noise explains."""
    far = {}
    for name, apart in witness.differences.items():
        ratio = np.abs(np.where(np.isfinite(apart), apart, 0.0)) / sigma[name]
        # Only for an order of magnitude, what one branch taken otherwise in float32 does is no evidence.
        far[name] = float(ratio.max(initial=0.0) if witness.whole or not ratio.size else np.quantile(ratio, 0.9))
    found = [f"{name} ({worst:.3g} sigma)" for name, worst in far.items() if worst > SUSPECT]
    return f"rounding moves {', '.join(found)} further than the noise: part of it escapes the code" if found else ""


def _variance(runs: list[Array]) -> Array:
    """Return the variance over the runs; infinite where some run was not finite, and 0 where none was."""
    stack = np.array(runs)
    finite = np.isfinite(stack)
    with np.errstate(all="ignore"):
        return np.where(finite.all(0), np.var(np.where(finite, stack, 0.0), axis=0, ddof=1), np.where(finite.any(0), np.inf, 0.0))


def _smooth(square: Array, value: Array, least: float) -> Array:
    """Return sigma: K runs say little of one entry, so that the others' relative noise counts too, where it is larger.

    With s^2 the mean square of K runs and m^2 the median of s^2 / y^2 over the tensor, sigma^2 is the larger of s^2 and
    (K s^2 + 8 m^2 y^2) / (K + 8). Nor is it below `least` of the largest number of the tensor: what cancels in the precision
    in which the noise was found leaves no trace there, softmax's y (dy - sum y dy) where y is 1 for instance.
    """
    shape = np.square(np.where(np.isfinite(value), value, 0.0).astype(np.float64))
    usable = (shape > 0) & (square > 0) & np.isfinite(square)
    share = float(np.median(square[usable] / shape[usable])) if usable.any() else 0.0
    mixed = (RUNS * square + WEIGHT * share * shape) / (RUNS + WEIGHT)
    floor = max(FLOOR, least * float(np.sqrt(shape.max(initial=0.0))))
    out: Array = np.maximum(np.sqrt(np.maximum(square, mixed)), floor)
    return out


def _list_casts(value: Values, target: FloatFormat) -> tuple[str, ...]:
    """Return which results of the plain run came back in another dtype than the inputs'."""
    return tuple(f"{name} came back as {array.dtype}" for name, array in value.items() if array.dtype != target.dtype)


def _add_edges(sigma: Mapping[str, Array], value: Values, target: FloatFormat) -> dict[str, Array]:
    """Return sigma so that the threshold leaves room for the one rounding that stores each result in a narrow dtype.

    That rounding is no more than u |y| or half a subnormal, and needs no more room than that.
    """
    if not target.is_narrow:
        return dict(sigma)
    return {
        name: noise + (target.u * np.abs(value[name].astype(np.float64)) + target.least / 2) / THRESHOLD
        for name, noise in sigma.items()
    }
