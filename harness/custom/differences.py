"""Differences: a forward pass as a function of its arrays and a direction come in, its slope there with a doubt goes out.

Nothing is known of the function but the numbers it returns. Two ways lead to a slope:

- The complex step: f'(x) = Im f(x + ih) / h, with the very code run on complex arrays. It subtracts nothing, and is
  silently wrong where the code takes |z|, compares, or casts; whoever uses it has it confirmed by the other way.
- Central differences with Richardson's extrapolation, in longdouble where the code gives longdouble back. Their doubt is
  how far neighbours in the tableau differ, and the noise of the function over the step. That noise is measured (after
  More and Wild, 2011: fourth differences over tiny steps leave nothing of a smooth function), so that a cast inside counts
  for what it does. Where the slopes to both sides part and stay parted, there is a kink between them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.backends.numerical import FIRST_STEP, LEVELS, SHRINK, STEP, TINY, TRIES, Direction, choose, extrapolate, find_reach
from harness.core import Array
from harness.isolation import quiet
from harness.strangers import RAISED, tell

# The second complex step is no power of two times the first, so that it rounds otherwise, and goes to the other side.
OTHER_STEP = -STEP * 1.2345
# Noise: the step over which it is measured, along how many directions, how many points on each; what the fourth
# differences of independent noise of deviation 1 have as mean square; and how much further than that rounding may go.
NOISE_STEP, NOISE_DRAWS, NOISE_POINTS, FOURTH, FAR = 2.0**-20, 2, 8, 70.0, 8.0
# A step a quarter as long closes the gap between the slopes to both sides to so much of it, where there is no kink; how
# far apart two complex steps are at a tie; and a doubt, relative to the slope, below which no shorter step is tried.
SHRINKS, PARTED, ENOUGH = 0.4, 1e-4, 1e-14
SURE = 2.0
UNIT = 2.0**-52  # of slopes, which are kept in float64


class NoSlope(Exception):
    """The function gave nothing that could be differentiated; the text says what it did instead."""


@dataclass(frozen=True)
class Slope:
    """A slope along one direction and how far it may be off; at a kink, the slopes to both sides and how far those may be."""

    value: float
    doubt: float
    low: float = float("nan")
    high: float = float("nan")
    slack: float = 0.0

    @property
    def is_kink(self) -> bool:
        """Whether the slopes to both sides differ."""
        return self.low < self.high


@dataclass(frozen=True, eq=False)
class Forward:
    """A forward pass as a function of its float arrays: `call(arrays by name)` returns y; `leaves` are those to start from."""

    call: Callable[[Mapping[str, Array]], Any]
    leaves: Mapping[str, Array]

    def at(self, dtype: Any, direction: Direction | None = None, step: Any = 0.0) -> Array:
        """Return y at the leaves, moved by the step along the direction, all in the dtype. Raises NoSlope where there is none."""
        moved = {name: leaf.astype(dtype) for name, leaf in self.leaves.items()}
        for name, part in (direction or {}).items():
            moved[name] += np.asarray(step, dtype) * part.astype(dtype)  # in place: the layout must stay, masks may hang on it
        try:
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                y = np.array(self.call(moved))
        except RAISED as error:  # reason: it is a stranger's code; what it raises is what there is to report
            raise NoSlope(tell(error)) from error
        if y.dtype.kind not in "fc":
            raise NoSlope(f"forward returned {y.dtype}; accepted are floats")
        return y


@dataclass(frozen=True, eq=False)
class Level:
    """One step: its length, and how far the output moves ahead of the leaves and behind them."""

    step: float
    ahead: Array
    behind: Array


@dataclass(frozen=True, eq=False)
class RealProbe:
    """Central differences of a function in one real dtype: its output there, and the noise of every entry of it."""

    forward: Forward
    dtype: np.dtype[Any]
    base: Array
    noise: Array

    def walk(self, direction: Direction) -> Iterator[Level]:
        """Yield ever shorter steps along the direction, from the first that does not lead out of where the function is finite."""
        step, begun = FIRST_STEP * find_reach(self.forward.leaves, direction), False
        for _ in range(TRIES):
            ahead = self.forward.at(self.dtype, direction, step) - self.base
            behind = self.base - self.forward.at(self.dtype, direction, -step)
            finite = bool(np.isfinite(ahead).all() and np.isfinite(behind).all())
            if begun and not finite:
                return
            if finite:
                begun = True
                yield Level(step, ahead, behind)
            step /= SHRINK

    def weigh(self, levels: Iterable[Level], dy: Array) -> Slope:
        """Return the slope of sum(dy * y) from as many levels as it takes.

        Where what moved to both sides stands still at shorter steps, the function is a staircase, and its slope is unknown: a
        cast to half precision, or a rounding, has slopes that are 0 or infinite, which nobody means.
        """
        best, rows, seen = (np.nan, np.inf), list[list[float]](), list[_Sides]()
        moving, firm, stuck = (np.zeros(self.base.shape, bool) for _ in range(3))
        for level in levels:
            moving |= (level.ahead != 0) | (level.behind != 0)
            firm |= (np.abs(level.ahead) > self.noise) & (np.abs(level.behind) > self.noise)
            stuck = firm & (level.ahead == 0) & (level.behind == 0)
            sides = self._read(level, dy, moving)
            seen.append(sides)
            rows.append(extrapolate(rows[-1] if rows else [], (sides.ahead + sides.behind) / 2))
            latest = choose(rows[-2:], sides.noise)
            if not _close(seen):
                continue
            worse = latest[1] >= best[1]
            best = best if worse else latest
            if len(rows) >= LEVELS and (worse or best[1] <= ENOUGH * abs(best[0])):
                break
        return Slope(np.nan, np.inf) if stuck.any() else self._conclude(best, seen)

    def _read(self, level: Level, dy: Array, moving: Array) -> _Sides:
        """Return the slopes to both sides; the noise is that of the entries that move at all."""
        ahead, behind = (float(np.sum(dy * moved)) / level.step for moved in (level.ahead, level.behind))
        size = float(np.sum(np.abs(dy) * (np.abs(level.ahead) + np.abs(level.behind)))) / level.step
        noise = float(np.sum(np.abs(dy) * self.noise * moving)) / level.step
        return _Sides(ahead, behind, noise + UNIT * size)

    def _conclude(self, best: tuple[float, float], seen: list[_Sides]) -> Slope:
        value, apart = best
        if np.isfinite(apart):
            return Slope(value, SURE * apart + UNIT * abs(value) + TINY)
        if len(seen) < 2:
            return Slope(np.nan, np.inf)
        before, last = seen[-2:]
        low, high = sorted((last.ahead, last.behind))
        slack = abs(last.ahead - before.ahead) + abs(last.behind - before.behind) + FAR * last.noise
        return Slope(np.nan, np.inf, low, high, slack)


@dataclass(frozen=True)
class _Sides:
    """The slopes to both sides at one step, and how far noise may move them."""

    ahead: float
    behind: float
    noise: float

    @property
    def gap(self) -> float:
        """How far the two are apart."""
        return self.ahead - self.behind


def _close(seen: list[_Sides]) -> bool:
    """Whether the slopes to both sides come together as a smooth function's do, or their gap is lost in noise.

    That of a smooth function is a quarter as wide at a quarter of the step. A kink that the step crosses holds it open, and
    lets estimates agree with one another that are all wrong; where the step has just become too short to cross it, one of
    two ratios tells.
    """
    gaps = [abs(one.gap) for one in seen[-3:]]
    shrinks = len(gaps) == 3 and gaps[1] <= SHRINKS * gaps[0] and gaps[2] <= SHRINKS * gaps[1]
    return shrinks or (len(seen) > 1 and all(abs(one.gap) <= FAR * one.noise for one in seen[-2:]))


@dataclass(frozen=True, eq=False)
class ComplexProbe:
    """The complex step in one dtype."""

    forward: Forward
    dtype: np.dtype[Any]

    def step(self, direction: Direction) -> tuple[Array, Array]:
        """Return the slope of every output along the direction, by a step to either side; these round otherwise."""
        one, other = (self.forward.at(self.dtype, direction, 1j * step).imag / step for step in (STEP, OTHER_STEP))
        return one, other


def weigh_complex(pair: tuple[Array, Array], dy: Array) -> tuple[float, float] | None:
    """Return the slope of sum(dy * y) and how far rounding was seen to move it; None at a tie, which the step's side decides."""
    one, other = pair
    slope, again = float(np.sum(dy * one)), float(np.sum(dy * other))
    size = float(np.sum(np.abs(dy) * (np.abs(one) + np.abs(other))))
    if not np.isfinite(slope + again) or abs(slope - again) > PARTED * size:
        return None
    return slope, abs(slope - again)


def open_real(forward: Forward) -> RealProbe:
    """Return the real probe of the function: in longdouble where that is what it gives back, else in float64.

    Raises NoSlope where the function fails on the leaves themselves, or gives no finite numbers.
    """
    plain = forward.at(np.dtype(np.float64))
    if not np.isfinite(plain).all():
        raise NoSlope("forward returned numbers that are not finite")
    dtype, wide = np.dtype(np.float64), np.dtype(np.longdouble)
    try:
        base = forward.at(wide)
        if wide != dtype and base.dtype == wide and _are_close(base, plain):
            return RealProbe(forward, wide, base, observe_noise(forward, wide, base))
    except NoSlope:  # much code cannot be run in longdouble: float64 is what it is for
        pass
    return RealProbe(forward, dtype, plain.astype(dtype), observe_noise(forward, dtype, plain))


def open_complex(forward: Forward, real: RealProbe) -> ComplexProbe:
    """Return the complex probe, in the widest dtype that the function gives back.

    Raises NoSlope where it takes no complex numbers, or makes something else of them.
    """
    dtypes: list[np.dtype[Any]] = [np.dtype(np.clongdouble), np.dtype(np.complex128)]
    for dtype in dtypes if dtypes[0] != dtypes[1] else dtypes[1:]:
        y = forward.at(dtype)
        if y.dtype.kind != "c":
            raise NoSlope(f"forward makes {y.dtype} of complex numbers")
        if y.dtype == dtype and y.shape == real.base.shape and _are_close(y.real, real.base) and not y.imag.any():
            return ComplexProbe(forward, dtype)
    raise NoSlope("forward gives other numbers in complex arithmetic")


def observe_noise(forward: Forward, dtype: np.dtype[Any], base: Array) -> Array:
    """Return how far rounding may move each entry of the output, in float64.

    Few points say little of one entry, so that the others' relative noise counts where it is larger.
    """
    found = np.max([_find_fourth(forward, dtype, seed) for seed in range(NOISE_DRAWS)], axis=0)
    size = np.abs(base).astype(np.float64)
    relative = found[size > 0] / size[size > 0]
    typical = float(np.quantile(relative, 0.5, method="lower")) if relative.size else 0.0
    out: Array = FAR * np.maximum(found, max(typical, float(np.finfo(dtype).eps) / 4) * size)
    return out


def _find_fourth(forward: Forward, dtype: np.dtype[Any], seed: int) -> Array:
    """Return the deviation of noise that fourth differences along a random line show, for each entry of the output.

    The line is followed to both sides, of which one at least leads away from any kink: the smaller deviation counts.
    """
    rng = np.random.default_rng([seed, 2011])
    line = {name: rng.uniform(-1, 1, leaf.shape) * _find_size(leaf) for name, leaf in forward.leaves.items()}
    found = []
    for side in (NOISE_STEP, -NOISE_STEP):
        points = np.array([forward.at(dtype, line, side * k) for k in range(NOISE_POINTS)])
        fourth = np.diff(points, 4, axis=0).astype(np.float64)
        found.append(np.sqrt(np.mean(np.square(np.where(np.isfinite(fourth), fourth, 0.0)), axis=0) / FOURTH))
    out: Array = np.minimum(*found)
    return out


def _find_size(leaf: Array) -> Array:
    typical = float(np.sqrt(np.mean(np.square(leaf)))) if leaf.size else 0.0
    return np.maximum(np.abs(leaf), typical or 1.0)


def _are_close(a: Array, b: Array) -> bool:
    """Whether two outputs are the same function's: roundings are far smaller than what another function gives."""
    if a.shape != b.shape or not np.isfinite(a).all():
        return False
    apart, size = np.abs(a - b).astype(np.float64), float(np.abs(b).max(initial=0.0))
    return bool((apart <= 1e-5 * np.maximum(np.abs(b).astype(np.float64), 1e-3 * size)).all())
