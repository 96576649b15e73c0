"""Runs of one layer: a stranger's class and its arrays come in, its output and gradients or why there are none go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.core import Array
from harness.floats import find_format, find_spacing, is_float
from harness.isolation import quiet
from harness.strangers import RAISED, tell

ULPS, WIDER = 3, 2**10
DRAWS = 3
COARSE = 2.0**-14
BLIND = 0.2
SLACK = 32
Values = dict[str, Any]


class Unrunnable(Exception):
    """The layer gave nothing that could be used; the text says what it did instead."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """A layer with all it is given: `kind(**params)`, the inputs, which of them are constants, and the cotangent.

    `stored` names the dtype in which the numbers are stored, where it is narrower than their own.
    """

    kind: Callable[..., Any]
    params: Mapping[str, Array]
    inputs: tuple[Array, ...]
    constants: frozenset[int]
    dy: Array
    stored: str = ""

    def change(self, convert: Callable[[Array], Any]) -> Experiment:
        """Return the experiment with every differentiable array converted."""
        inputs = tuple(value if i in self.constants else convert(value) for i, value in enumerate(self.inputs))
        params = {name: convert(value) if is_float(value) else value for name, value in self.params.items()}
        return replace(self, params=params, inputs=inputs, dy=convert(self.dy))


def run_layer(experiment: Experiment, convert: Callable[[Array], Any]) -> Values:
    """Return the output and the gradients of one forward and one backward pass, by quantity: y, dx (or dx0, dx1 ..), dW ..

    `convert` makes of each float array the fresh one that the layer is given. Raises Unrunnable when the layer raises, or
    returns anything but an array of the right shape for each quantity.
    """
    try:
        with quiet():
            return _name(experiment, *_run(experiment, convert))
    except Unrunnable:
        raise
    except RAISED as error:  # reason: it is a stranger's code; what it raises is what there is to report
        raise Unrunnable(tell(error)) from None


def _run(experiment: Experiment, convert: Callable[[Array], Any]) -> tuple[Any, Any, Any]:
    def give(value: Array) -> Any:
        return convert(value) if is_float(value) else value.copy()

    layer = experiment.kind(**{name: give(value) for name, value in experiment.params.items()})
    y = np.array(layer.forward(*(give(value) for value in experiment.inputs)), subok=True)
    dx = layer.backward(give(experiment.dy))
    return y, dx, layer.grads


def _name(experiment: Experiment, y: Any, dx: Any, grads: Any) -> Values:
    """Return every quantity by its name; each must have the shape of what it belongs to."""
    if isinstance(dx, list):
        raise Unrunnable("backward returned a list; accepted is an array or a tuple of them")
    parts = dx if isinstance(dx, tuple) else (dx,)
    wanted = [i for i in range(len(experiment.inputs)) if i not in experiment.constants]
    names = ["dx"] if len(wanted) == 1 else [f"dx{i}" for i in wanted]
    found = {"y": (y, experiment.dy.shape)}
    for name, i in zip(names, wanted, strict=True):
        found[name] = (parts[i] if i < len(parts) else None, experiment.inputs[i].shape)
    for key, value in experiment.params.items():
        if is_float(value):
            found[f"d{key}"] = (grads.get(key), value.shape)
    return {name: _check(name, value, shape) for name, (value, shape) in found.items()}


def _check(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    if value is None:
        raise Unrunnable(f"no {name} came back")
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.shape != shape:
        raise Unrunnable(f"{name} came back in the shape {list(array.shape)}; it must be {list(shape)}")
    if array.dtype.kind != "f":
        raise Unrunnable(f"{name} came back as {array.dtype}, which holds no floats")
    return np.array(array, subok=True)


def make_cast(dtype: Any) -> Callable[[Array], Array]:
    """Return a function that makes a fresh array of the dtype."""
    return lambda value: np.array(value, dtype)


def disturb(experiment: Experiment, rng: np.random.Generator, wider: int = 1) -> Experiment:
    """Return the experiment with every number but 0 moved by up to ULPS units in its last place, as it is stored.

    `wider` multiplies the steps where numbers are stored as they are computed: a flat function hands on no small step.
    """

    def move(value: Array) -> Array:
        stored = find_format(experiment.stored or value.dtype.name)
        most = ULPS * (1 if experiment.stored else wider)
        steps, size = rng.integers(-most, most + 1, value.shape), np.abs(value.astype(np.float64))
        with np.errstate(all="ignore"):
            moved = (value + steps * find_spacing(size, stored.name)).astype(stored.dtype).astype(value.dtype)
        return np.where(np.isfinite(moved) & (value != 0), moved, value)

    return experiment.change(move)


def run_precisely(experiment: Experiment, dtype: Any) -> Values:
    """Return the run in the dtype. Raises Unrunnable when a result comes back in another."""
    values = run_layer(experiment, make_cast(dtype))
    for name, value in values.items():
        if value.dtype != dtype:
            raise Unrunnable(
                f"{name} came back as {value.dtype} from inputs in {np.dtype(dtype)}: a dtype is written into the code"
            )
    return values


def find_blindness(experiment: Experiment, dtype: Any, low: Any, rng: np.random.Generator, rounded: Mapping[str, Array]) -> str:
    """Return which results do not follow changes that only the dtype can hold, so that something inside is not computed in it.

    The inputs are moved along a random direction, by COARSE and by far less than the low dtype's roundoff: where all is
    computed in the high dtype, both give the same slope, but for what the high dtype's own rounding makes of so small a
    step: as much less than `rounded`, the low dtype's, as it is finer. Of some draws the best counts, since a step may
    cross a kink.
    """
    # A low roundoff is met once in 2^4 (longdouble) or 2^8 steps, and the high roundoff is 2^-7 or 2^-21 of a step.
    fine = float(np.sqrt(float(np.finfo(low).eps) * float(np.finfo(dtype).eps))) * 2.0**5 if dtype == np.longdouble else 2.0**-32
    blurred = SLACK * float(np.finfo(dtype).eps / np.finfo(low).eps) / fine
    least: dict[str, float] = {}
    base = run_precisely(experiment, dtype)
    for _ in range(DRAWS):
        seed = int(rng.integers(2**32))
        fine_run, coarse_run = (run_precisely(_step(experiment, dtype, seed, step), dtype) for step in (fine, COARSE))
        for name, value in base.items():
            slopes = (fine_run[name] - value) / fine, (coarse_run[name] - value) / COARSE
            apart = _compare(*slopes, blurred * rounded[name])
            least[name] = min(least.get(name, np.inf), apart)
    return ", ".join(name for name, apart in least.items() if apart > BLIND)


def _step(experiment: Experiment, dtype: Any, seed: int, step: float) -> Experiment:
    rng = np.random.default_rng(seed)
    return experiment.change(lambda value: value.astype(dtype) * (1 + np.asarray(step, dtype) * rng.uniform(-1, 1, value.shape)))


def _compare(fine: Array, coarse: Array, blur: Array) -> float:
    """Return the relative difference that nine in ten slopes stay below, those within their blur agreeing."""
    usable = np.isfinite(fine) & np.isfinite(coarse)
    fine, coarse, blur = fine[usable], coarse[usable], blur[usable]
    if not fine.size:
        return 0.0
    scale = np.abs(coarse) + np.median(np.abs(coarse))
    with np.errstate(all="ignore"):
        apart = np.where(np.abs(fine - coarse) <= blur, 0.0, np.abs(fine - coarse) / scale)
    return float(np.quantile(apart, 0.9))
