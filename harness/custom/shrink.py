"""Shrinking: a trial that a layer fails comes in, the smallest trial found that it fails for the same reason goes out.

First the axes get as short as formula and layer allow, then the numbers get readable. Whether a smaller trial still fails,
and for the same reason, the judge of the first trial says each time; what is smaller, Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from harness.core import Array, BadInput
from harness.custom.scene import find_vjp, run_once
from harness.custom.spec import LayerSpec
from harness.custom.trials import Trial, Variation, make_trial, shape_of_output
from harness.floats import is_float
from harness.isolation import quiet
from harness.minimise import Choices, minimise

CALLS = 30
MOST_AXES, MOST_NUMBERS = 8, 64
SIMPLE = (1.0, 0.0, 2.0, -1.0, 0.5, -2.0, 3.0, -0.5, 10.0, -10.0)
SIMPLE_SIZES = (1.0, 2.0, 0.5, 3.0)
NEAR, BEND = 2.0**-20, 2.0**-10

Axis = tuple[int | str, int]
Axes = tuple[Axis, ...]


@dataclass(frozen=True)
class Reason:
    """Why a trial fails: the check, node, quantity and verdict, who is wrong, and what was raised: its kind and place."""

    check: str
    node: str = ""
    quantity: str = ""
    verdict: str = "contract"
    culprit: str = ""
    words: str = ""


@dataclass(frozen=True)
class Found:
    """What the judge says of a reason: in words, and how many times what rounding can do the value is off, where it tells."""

    message: str
    in_bounds: float = float("nan")


Judge = Callable[[Trial, str], Mapping[Reason, Found]]


@dataclass(frozen=True, eq=False)
class Parts:
    """What a trial is made of: its arrays, floats in float64, its dtype and its storage."""

    params: Mapping[str, Array]
    inputs: tuple[Array, ...]
    dy: Array
    dtype: str
    storage: str = "C"

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return sum(value.size for value in (*self.params.values(), *self.inputs, self.dy))


def take_apart(trial: Trial) -> Parts:
    """Return what the trial is made of."""
    problem = trial.problem
    params = {name: _widen(value) for name, value in problem.params[trial.node].items()}
    inputs = tuple(_widen(problem.inputs[name]) for name in problem.case.network.output.inputs)
    return Parts(params, inputs, _widen(problem.dy), problem.case.dtype, problem.case.storage)


def put_together(spec: LayerSpec, parts: Parts, like: Trial) -> Trial:
    """Return the trial of these parts; its seed and number are those of the trial that it came from."""
    seed, index = like.problem.case.seed, int(like.problem.case.origin.rpartition("t")[2])
    return make_trial(spec, parts.params, parts.inputs, parts.dy, parts.dtype, seed, index, Variation(storage=parts.storage))


def shrink(spec: LayerSpec, trial: Trial, reason: Reason, judge: Judge) -> Trial:
    """Return the smallest trial found that fails for the same reason; the same trial and reason give the same one.

    `judge` returns the reasons for which a trial fails a check; it is asked at most some hundred times. Inputs that the user
    made himself keep their numbers and lose rows of the batch alone, for what else they must be nobody knows.
    """
    hunt = _Hunt(spec, trial, reason, judge)
    parts = take_apart(trial)
    for step in (_make_plain, _put_worst_first, _shorten, _round_numbers):
        parts = step(hunt, parts)
    return put_together(spec, parts, trial)


@dataclass(frozen=True, eq=False)
class _Hunt:
    """What is looked for: trials like the first that fail for the same reason."""

    spec: LayerSpec
    trial: Trial
    reason: Reason
    judge: Judge

    @cached_property
    def begins_smooth(self) -> bool:
        """Whether the first trial is at no kink."""
        return is_smooth(self.trial)

    @cached_property
    def shows_at_once(self) -> bool:
        """Whether a fresh layer errs in its first pass: what is left behind by others shows to the judge alone."""
        return not looks_right(self.trial, self.reason)

    def fails(self, parts: Parts | None) -> bool:
        """Whether the trial of these parts fails for the same reason, and at no kink unless the first one does.

        One with an empty output shows nothing, and NumPy 2.4's einsum of empty complex longdouble arrays corrupts the memory.
        """
        if parts is None or (parts.dy.size == 0 and self.trial.problem.dy.size):
            return False
        try:
            trial = put_together(self.spec, parts, self.trial)
            return (
                not (self.shows_at_once and looks_right(trial, self.reason))
                and self.reason in self.judge(trial, self.reason.check)
                and (is_smooth(trial) or not self.begins_smooth)
            )
        except (Exception, SystemExit):  # reason: formula and layer are strangers' code, which smaller arrays may break
            return False


def looks_right(trial: Trial, reason: Reason) -> bool:
    """Whether a fresh layer's gradient is right to some ulps of its largest entry: then the judge need not be asked.

    Of what is wrong otherwise than by its numbers, nothing is said.
    """
    if reason.verdict != "mismatch" or reason.quantity in ("", "y", "all") or trial.problem.case.dtype != "float64":
        return False
    with quiet():
        got, truth = run_once(trial).get(reason.quantity), find_truth(trial, reason.quantity)
    if got is None or np.shape(got) != truth.shape:
        return False
    return bool(np.abs(got - truth).max(initial=0.0) <= 2.0**-50 * np.abs(truth).max(initial=0.0))


def find_truth(trial: Trial, quantity: str) -> Array:
    """Return the true output or gradient in float64, by the formula that it is declared to be of."""
    parts = take_apart(trial)
    kind = trial.kind if quantity == "y" else trial.declared
    y, gradients = find_vjp(kind, parts.params, parts.inputs, parts.dy)
    return np.asarray(y) if quantity == "y" else gradients[quantity]


def list_gradients(trial: Trial) -> list[str]:
    """Return the names of the gradients, those of inputs first."""
    parts = take_apart(trial)
    return list(find_vjp(trial.declared, parts.params, parts.inputs, parts.dy)[1])


def is_smooth(trial: Trial) -> bool:
    """Whether the true gradients hardly change over a tiny way in either direction: at a kink any of several is right.

    Where they cannot be found there is nothing that tells a kink, and true is returned.
    """
    parts = take_apart(trial)
    try:
        with quiet():
            return all(_is_even(trial, parts, seed) for seed in range(2))
    except (Exception, SystemExit):  # reason: a stranger's formula, or his forward pass where he gave none
        return True


def _is_even(trial: Trial, parts: Parts, seed: int) -> bool:
    one, other = (find_vjp(trial.declared, *_move(parts, seed, step), parts.dy)[1] for step in (-NEAR, NEAR))
    return all(_are_near(one[name], other[name]) for name in one)


def _move(parts: Parts, seed: int, step: float) -> tuple[dict[str, Array], tuple[Array, ...]]:
    """Return parameters and inputs a tiny way off, in a direction that the seed gives."""
    rng = np.random.default_rng(seed)

    def move(value: Array) -> Array:
        return value + step * rng.choice([-1.0, 1.0], value.shape) * rng.uniform(0.5, 1, value.shape)

    shifted = {name: move(value) for name, value in parts.params.items()}
    return shifted, tuple(move(value) if is_float(value) else value for value in parts.inputs)


def _are_near(a: Array, b: Array) -> bool:
    return bool((np.abs(a - b) <= BEND * np.maximum(1, np.abs(a) + np.abs(b))).all())


def _make_plain(hunt: _Hunt, parts: Parts) -> Parts:
    """Try float64, and rows first in memory."""
    for change in ({"dtype": "float64", "storage": "C"}, {"storage": "C"}, {"dtype": "float64"}):
        plain = replace(parts, **change)  # type: ignore[arg-type]  # reason: both are texts
        if plain != parts and hunt.fails(plain):
            return plain
    return parts


def _put_worst_first(hunt: _Hunt, parts: Parts) -> Parts:
    """Move the entry that is furthest off to the front, so that what is cut off are others."""
    name = hunt.reason.quantity
    try:
        with quiet():
            truth = find_truth(put_together(hunt.spec, parts, hunt.trial), name)
            got = run_once(put_together(hunt.spec, parts, hunt.trial))[name]
        worst = np.unravel_index(int(np.nanargmax(np.abs(got - truth))), truth.shape)
    except (Exception, SystemExit):  # reason: there may be no such gradient, or one of another shape
        return parts
    owner = _find_owner(hunt.trial, name)
    moved = parts
    for axes in find_axes(hunt.spec, parts):
        at = next((int(worst[axis]) for own, axis in axes if own == owner), 0)
        moved = _take(hunt.spec, moved, axes, [at, *(i for i in range(_size(parts, axes)) if i != at)]) or moved
    return moved if hunt.fails(moved) else parts


def _find_owner(trial: Trial, quantity: str) -> int | str:
    """Return the place of the input, or the name of the parameter, whose gradient the quantity is."""
    if quantity[1:] in trial.problem.params[trial.node]:
        return quantity[1:]
    return int(quantity[2:]) if quantity[2:] else trial.kind.differentiable.index(True)


def find_axes(spec: LayerSpec, parts: Parts) -> list[Axes]:
    """Return the axes of inputs and parameters that can be shortened, those together that only can together.

    Whether they can, the formula tells: it is tried on arrays that are longer by one along them, since an axis of one entry
    fits everything.
    """
    sizes: dict[Axis, int] = {(i, axis): size for i, value in enumerate(parts.inputs) for axis, size in enumerate(value.shape)}
    if not spec.is_drawn:
        sizes = {axis: size for axis, size in sizes.items() if axis[1] == 0}
    sizes |= {(name, axis): size for name, value in parts.params.items() for axis, size in enumerate(value.shape)}
    return [
        axes
        for size in sorted(set(sizes.values()) - {0, 1}, reverse=True)
        for axes in _link(spec, parts, [axis for axis, own in sizes.items() if own == size])
    ]


def _link(spec: LayerSpec, parts: Parts, rest: list[Axis]) -> Iterator[Axes]:
    """Yield the smallest groups of axes that can change alone."""
    count = 1
    while count <= min(len(rest), MOST_AXES):
        group = next((axes for axes in combinations(rest, count) if _can_grow(spec, parts, axes)), None)
        if group is None:
            count += 1
            continue
        yield group
        rest = [axis for axis in rest if axis not in group]


def _can_grow(spec: LayerSpec, parts: Parts, axes: Axes) -> bool:
    try:
        grown = _index(parts, axes, [*range(_size(parts, axes)), 0])
        return len(shape_of_output(spec, grown.params, grown.inputs)) == parts.dy.ndim
    except BadInput:
        return False


def _size(parts: Parts, axes: Axes) -> int:
    owner, axis = axes[0]
    value = parts.inputs[owner] if isinstance(owner, int) else parts.params[owner]
    return int(value.shape[axis])


def _index(parts: Parts, axes: Axes, indices: Sequence[int]) -> Parts:
    """Return the parts with these indices along the axes; the cotangent is as before."""
    params, inputs = dict(parts.params), list(parts.inputs)
    for owner, axis in axes:
        if isinstance(owner, int):
            inputs[owner] = np.take(inputs[owner], indices, axis)
        else:
            params[owner] = np.take(params[owner], indices, axis)
    return replace(parts, params=params, inputs=tuple(inputs))


def _take(spec: LayerSpec, parts: Parts, axes: Axes, indices: Sequence[int]) -> Parts | None:
    """Return the parts with these indices along the axes, and the cotangent cut to the output; None where that fails."""
    taken = _index(parts, axes, indices)
    try:
        shape = shape_of_output(spec, taken.params, taken.inputs)
    except BadInput:
        return None
    if len(shape) != parts.dy.ndim or any(new > old for new, old in zip(shape, parts.dy.shape, strict=True)):
        return None
    return replace(taken, dy=parts.dy[tuple(map(slice, shape))])


def _shorten(hunt: _Hunt, parts: Parts) -> Parts:
    """Shorten the axes: choice 0 leaves one entry."""
    groups = find_axes(hunt.spec, parts)

    def build(choices: Choices) -> Parts | None:
        cut: Parts | None = parts
        for axes, choice in zip(groups, choices, strict=True):
            cut = cut and _take(hunt.spec, cut, axes, range(choice + 1))
        return cut

    start = tuple(_size(parts, axes) - 1 for axes in groups)
    return build(minimise(start, lambda choices: hunt.fails(build(choices)), CALLS)) or parts if groups else parts


def _round_numbers(hunt: _Hunt, parts: Parts) -> Parts:
    """Make the numbers readable: choice 0 is the simplest, the last the number as it is."""
    lists = [*parts.params.values(), *parts.inputs, parts.dy]
    own = [SIMPLE_SIZES] * len(parts.params) + [SIMPLE if hunt.spec.is_drawn else ()] * len(parts.inputs) + [SIMPLE]
    if parts.count > MOST_NUMBERS:
        return _round_together(hunt, parts)
    options = [list_options(float(x), simple) for value, simple in zip(lists, own, strict=True) for x in _list_floats(value)]

    def build(choices: Choices) -> Parts:
        chosen = iter(option[choice] for option, choice in zip(options, choices, strict=True))
        return _fill(parts, chosen)

    start = tuple(len(option) - 1 for option in options)
    return build(minimise(start, lambda choices: hunt.fails(build(choices)), CALLS))


def _round_together(hunt: _Hunt, parts: Parts) -> Parts:
    """Round all numbers at once to as few digits as can be, where there are too many for one by one."""
    if not hunt.spec.is_drawn:
        return parts
    values = [*parts.params.values(), *parts.inputs, parts.dy]
    numbers = [float(x) for value in values for x in _list_floats(value)]
    rounded = (_fill(parts, iter([float(f"{x:.{digits}e}") for x in numbers])) for digits in (0, 1, 2))
    return next((some for some in rounded if hunt.fails(some)), parts)


def list_options(number: float, simple: Sequence[float]) -> list[float]:
    """Return what a number may become, the simplest first and itself last; of sizes, what has its sign.

    >>> list_options(-1.2345, (1.0, 2.0))
    [-1.0, -2.0, -1.2, -1.2345]
    """
    if not simple or not np.isfinite(number):
        return [number]
    if min(simple) > 0:
        simple = [float(np.sign(number) * size) for size in simple] if number else []
    return list(dict.fromkeys([*simple, *(float(f"{number:.{digits}e}") for digits in (0, 1)), number]))


def _list_floats(value: Array) -> Any:
    return value.ravel() if is_float(value) else ()


def _fill(parts: Parts, numbers: Iterator[float]) -> Parts:
    """Return the parts with other floats, in the order of parameters, inputs and cotangent; integers stay."""

    def fill(value: Array) -> Array:
        if not is_float(value):
            return value
        return np.array([next(numbers) for _ in range(value.size)], value.dtype).reshape(value.shape)

    params = {name: fill(value) for name, value in parts.params.items()}
    inputs = tuple(fill(value) for value in parts.inputs)
    return replace(parts, params=params, inputs=inputs, dy=fill(parts.dy))


def _widen(value: Array) -> Array:
    return np.array(value, np.float64 if is_float(value) else value.dtype)
