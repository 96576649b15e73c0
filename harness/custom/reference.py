"""References: a layer without a formula and what it is given come in, the slopes of its own forward pass go out, with a doubt.

For a forward pass that a framework can differentiate operation by operation that is the reference; else the complex step
is; and where either is not confirmed by differences of the same forward pass, those differences are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.backends.numerical import PER_ELEMENT, SAFETY, Direction, collect
from harness.core import Array
from harness.custom.differences import (
    ComplexProbe,
    Forward,
    Level,
    NoSlope,
    RealProbe,
    Slope,
    open_complex,
    open_real,
    weigh_complex,
)
from harness.floats import is_float
from harness.isolation import quiet
from harness.judge.local import same_bits
from harness.judge.memory import fingerprint

AUTODIFF = "the autodiff of its forward pass's own code"
COMPLEX = "the complex step of its own forward pass"
DIFFERENCES = "Richardson's differences of its own forward pass"
CONFIRMING, POWER = 2, 1e-6
LEAST, WHOLE, KEPT = 8, 4000, 8
OTHER_DY = 1.2345
CHEAP, FEWEST = 2e-3, 32  # the seconds of a forward pass above which fewer entries are looked at, and the fewest
FINER = 4.0  # times what is seen of a complex step in longdouble, where a rounding is 2^-11 of float64's


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one gradient: its entries, how far each may be off (infinite where it was not looked at), and how.

    At a kink any value from `low` to `high`, give or take `slack`, is right; these are NaN elsewhere. `confirmed` is how
    far differences along random directions agree with it, relative to it. `lines` holds slopes along random directions
    that reach every entry, where only some of them were looked at.
    """

    value: Array
    doubt: Array
    low: Array
    high: Array
    slack: Array
    how: str
    confirmed: float = 0.0
    lines: tuple[tuple[Array, Slope], ...] = ()

    @property
    def looked(self) -> Array:
        """Where the doubt is a number: the entries that can be judged, kinks not among them."""
        return np.isfinite(self.doubt)

    @property
    def kinks(self) -> Array:
        """Where the slopes to both sides differ."""
        return np.isfinite(self.low)

    @property
    def precision(self) -> float:
        """How far it may be off, as a share of it."""
        size = float(np.linalg.norm(self.value[self.looked]))
        return float(np.linalg.norm(self.doubt[self.looked])) / size if size else 0.0


@dataclass(eq=False)
class Ground:
    """One layer class with parameters and inputs: its forward pass as a function, its seconds, and what was seen of it so far."""

    kind: Any
    params: Mapping[str, Array]
    inputs: tuple[Array, ...]
    forward: Forward
    real: RealProbe
    analytic: ComplexProbe | None
    cost: float = 0.0
    columns: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The quantities that have a gradient."""
        return tuple(self.forward.leaves)

    def limit(self, way: str) -> int:
        """Return how many entries are looked at one by one: fewer where a forward pass takes long, by powers of two."""
        slow = max(1.0, self.cost / CHEAP)
        return max(FEWEST, int(PER_ELEMENT[way] / 2 ** math.ceil(math.log2(slow))))

    def differ(self, name: str, index: int, dy: Array) -> Slope:
        """Return the slope by one entry, by differences; the forward passes that it took serve other cotangents too."""
        key = (name, index, "real")
        if key not in self.columns:
            self.columns[key] = Replayed(self.real.walk(self._point(name, index)))
        return self.real.weigh(self.columns[key], dy)

    def step(self, name: str, index: int, dy: Array) -> tuple[float, float] | None:
        """Return the slope by one entry, by the complex step, and how far rounding was seen to move it; None at a kink."""
        if self.analytic is None:
            return None
        key = (name, index, "complex")
        if key not in self.columns:
            self.columns[key] = self.analytic.step(self._point(name, index))
        return weigh_complex(self.columns[key], dy)

    def _point(self, name: str, index: int) -> Direction:
        part = np.zeros(self.forward.leaves[name].shape)
        part.flat[index] = 1.0
        return {name: part}


class Replayed:
    """Levels that are made when first asked for, and kept."""

    def __init__(self, made: Iterator[Level]) -> None:
        self.made, self.kept = made, list[Level]()

    def __iter__(self) -> Iterator[Level]:
        yield from list(self.kept)
        for level in self.made:
            self.kept.append(level)
            yield level


@dataclass(frozen=True, eq=False)
class Reference:
    """The output and every gradient of a layer's own forward pass, as far as they are known; `note` says what else to know."""

    y: Array
    known: Mapping[str, Known]
    note: str = ""


def find_reference(kind: Any, params: Mapping[str, Array], inputs: Sequence[Array], dy: Array) -> Reference:
    """Return the gradients of sum(dy * forward(inputs)), in float64, by the best of what differences confirm.

    Raises NoSlope where the forward pass gives nothing that can be differentiated: it raises, is random, or is not finite.
    """
    ground = open_ground(kind, params, inputs)
    if ground.real.base.shape != dy.shape:
        raise NoSlope(f"forward returned the shape {list(ground.real.base.shape)}; it was {list(dy.shape)} before")
    total = sum(leaf.size for leaf in ground.forward.leaves.values())
    with quiet():
        offered, note = _differentiate_code(ground, dy)
        known = {name: _know(ground, name, dy, offered.get(name), total) for name in ground.names}
    return Reference(ground.real.base.astype(np.float64), known, note)


def find_gradients(kind: Any, params: Mapping[str, Array], inputs: Sequence[Array], dy: Array) -> tuple[Array, dict[str, Array]]:
    """Return the output and the gradients by quantity, every entry of them; at a kink the middle of both sides.

    Raises NoSlope where there is none, or where there are too many entries.
    """
    ground = open_ground(kind, params, inputs)
    if sum(leaf.size for leaf in ground.forward.leaves.values()) > WHOLE:
        raise NoSlope(f"there are more than {WHOLE} entries")
    with quiet():
        offered, _ = _differentiate_code(ground, dy)
        every = {name: _know(ground, name, dy, offered.get(name), 0) for name in ground.names}
    found = {name: np.where(one.kinks, (one.low + one.high) / 2, one.value) for name, one in every.items()}
    return ground.real.base.astype(np.float64), found


_GROUNDS: dict[Any, Ground] = {}


def open_ground(kind: Any, params: Mapping[str, Array], inputs: Sequence[Array]) -> Ground:
    """Return the layer's forward pass as a function; the same one for the same arrays. Raises NoSlope where it is none."""
    wide = tuple(_widen(value) for value in inputs)
    own = {name: _widen(value) for name, value in params.items()}
    key = kind, fingerprint({**{f"input {i}": value for i, value in enumerate(wide)}, **own})
    if key not in _GROUNDS:
        if len(_GROUNDS) >= KEPT:
            _GROUNDS.pop(next(iter(_GROUNDS)))
        with quiet():
            _GROUNDS[key] = _open(kind, own, wide)
    return _GROUNDS[key]


def _open(kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...]) -> Ground:
    forward = make_forward(kind, params, inputs)
    _require_function(forward)
    real = open_real(forward)
    try:
        analytic = open_complex(forward, real)
    except NoSlope:  # much code takes no complex numbers: differences are what is left
        analytic = None
    start = time.perf_counter()
    forward.at(np.dtype(np.float64))
    return Ground(kind, params, inputs, forward, real, analytic, time.perf_counter() - start)


def _widen(value: Array) -> Array:
    return value.astype(np.float64) if is_float(value) else value


def make_forward(kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...]) -> Forward:
    """Return the forward pass as a function of all arrays that have a gradient; a fresh layer is made for every call.

    Layers keep what they like of a pass, and change it: what one pass left must not be in the next.
    """
    variable = [i for i, varies in enumerate(kind.differentiable) if varies]
    places = {"dx" if len(variable) == 1 else f"dx{i}": i for i in variable}
    weights = {f"d{name}": name for name, value in params.items() if is_float(value)}
    leaves = {name: inputs[i] for name, i in places.items()} | {name: params[key] for name, key in weights.items()}

    def call(moved: Mapping[str, Array]) -> Any:
        group = {key: np.array(moved.get(f"d{key}", value)) for key, value in params.items()}
        given = list(map(np.array, inputs))
        for name, i in places.items():
            given[i] = np.array(moved[name])
        return kind(**group).evaluate(*given)

    return Forward(call, leaves)


def _require_function(forward: Forward) -> None:
    """Raise NoSlope where the same arrays do not give the same output, be it with other arrays in between."""
    plain = np.dtype(np.float64)
    first = forward.at(plain)
    forward.at(plain, {name: np.ones(leaf.shape) for name, leaf in forward.leaves.items()}, 0.125)
    if not same_bits(first, forward.at(plain)):
        raise NoSlope(
            "two forward passes of fresh layers on the same arrays gave other numbers: the layer is random or keeps a state "
            "outside of it; seed it before every pass (harness.styles.adjust, before=...)"
        )


def _differentiate_code(ground: Ground, dy: Array) -> tuple[dict[str, tuple[Array, Array]], str]:
    """Return what a framework's autodiff makes of the forward pass's own code, with a doubt, by quantity, and what to note."""
    layer = getattr(ground.kind(**ground.params), "layer", None)
    find = getattr(layer, "differentiate_forward", None)
    if find is None:
        return {}, ""
    try:
        with quiet():
            one = _name_code(ground, find(dy, *map(np.array, ground.inputs)))
            if one is None:
                return {}, _note_autodiff(ground)
            other = _name_code(ground, find(dy * OTHER_DY, *map(_nudge, ground.inputs)))
    except (Exception, SystemExit):  # reason: code that no framework can differentiate is what differences are for
        return {}, ""
    assert other is not None
    return {name: _doubt_code(value, other[name] / OTHER_DY) for name, value in one.items() if name in ground.names}, ""


def _name_code(ground: Ground, found: tuple[tuple[Any, ...], dict[str, Any]] | None) -> dict[str, Array] | None:
    if found is None:
        return None
    dx, grads = found
    variable = [i for i, varies in enumerate(ground.kind.differentiable) if varies]
    named = {("dx" if len(variable) == 1 else f"dx{i}"): dx[i] for i in variable} | {f"d{k}": v for k, v in grads.items()}
    return {name: np.asarray(value, np.float64) for name, value in named.items() if value is not None}


def _nudge(value: Array) -> Array:
    """Return numbers one unit in the last place away, as another rounding would have given them."""
    return (
        np.nextafter(value, np.where(np.arange(value.size).reshape(value.shape) % 2, np.inf, -np.inf))
        if is_float(value)
        else value
    )


def _doubt_code(value: Array, again: Array) -> tuple[Array, Array]:
    pairs = [(float(a), abs(float(a) - float(b))) for a, b in zip(value.ravel(), again.ravel(), strict=True)]
    return collect(pairs, value)


def _note_autodiff(ground: Ground) -> str:
    """Return what there is to say where the layer's backward pass is a framework's own differentiation of its forward pass."""
    layer = ground.kind(**ground.params)
    layer.forward(*map(np.array, ground.inputs))
    plain = getattr(layer.layer, "is_autodiff", False)
    return "its backward pass is the framework's own autodiff, with nothing written by hand in it" if plain else ""


def _know(ground: Ground, name: str, dy: Array, offered: tuple[Array, Array] | None, total: int) -> Known:
    """Return the gradient by the first way that differences confirm, else by differences.

    Of `total` entries of all gradients, only some are looked at where these are many.
    """
    ways: list[Callable[[], Known | None]] = [
        lambda: _know_code(ground, name, offered),
        lambda: _know_step(ground, name, dy, total),
    ]
    for way in ways:
        known = way()
        if known is not None and (checked := _confirm(ground, name, known, dy)) is not None:
            return _mend_kinks(ground, name, checked, dy)
    return _know_differences(ground, name, dy, total)


def _know_code(ground: Ground, name: str, offered: tuple[Array, Array] | None) -> Known | None:
    if offered is None:
        return None
    nothing = np.full(offered[0].shape, np.nan)
    return Known(*offered, nothing, nothing.copy(), np.zeros(nothing.shape), AUTODIFF)


def _know_step(ground: Ground, name: str, dy: Array, total: int) -> Known | None:
    """Return the gradient by the complex step, its kinks with an infinite doubt; None where the step cannot be taken."""
    leaf = ground.forward.leaves[name]
    if ground.analytic is None:
        return None
    places = choose_places(leaf.size, total, ground.limit("complex"))
    try:
        found = {i: ground.step(name, i, dy) for i in places}
    except NoSlope:
        return None
    pairs = [found.get(i) or (np.nan, np.inf) for i in range(leaf.size)]
    value, doubt = collect(pairs, leaf, SAFETY if ground.analytic.dtype == np.complex128 else FINER)
    nothing = np.full(leaf.shape, np.nan)
    return Known(
        value, doubt, nothing, nothing.copy(), np.zeros(leaf.shape), COMPLEX, lines=_draw_lines(ground, name, dy, places)
    )


def _know_differences(ground: Ground, name: str, dy: Array, total: int) -> Known:
    leaf = ground.forward.leaves[name]
    places = choose_places(leaf.size, total, ground.limit("central"))
    nothing = np.full(leaf.shape, np.nan)
    known = Known(
        nothing.copy(), np.full(leaf.shape, np.inf), nothing.copy(), nothing.copy(), np.zeros(leaf.shape), DIFFERENCES,
        lines=_draw_lines(ground, name, dy, places),
    )  # fmt: skip
    for i in places:
        put_slope(known, i, ground.differ(name, i, dy))
    return known


def put_slope(known: Known, index: int, slope: Slope) -> None:
    """Write one entry's slope down; at a kink, where only an interval is known, its doubt is infinite."""
    known.value.flat[index], known.doubt.flat[index] = slope.value, slope.doubt
    known.low.flat[index], known.high.flat[index], known.slack.flat[index] = slope.low, slope.high, slope.slack


def choose_places(size: int, total: int, limit: int) -> Sequence[int]:
    """Return which entries of an array are looked at, of `total` entries altogether: all, or a share of the limit."""
    if total <= limit:
        return range(size)
    share = min(size, max(LEAST, limit * size // total))
    return sorted(np.random.default_rng(size).choice(size, share, replace=False).tolist())


def _draw_lines(ground: Ground, name: str, dy: Array, places: Sequence[int]) -> tuple[tuple[Array, Slope], ...]:
    """Return slopes along random directions through all entries, where some of them are not looked at."""
    leaf = ground.forward.leaves[name]
    if len(places) == leaf.size:
        return ()
    parts = list(draw_parts(leaf.shape, np.ones(leaf.shape, bool)))
    return tuple((part, ground.real.weigh(ground.real.walk({name: part}), dy)) for part in parts)


def draw_parts(shape: tuple[int, ...], among: Array) -> Iterator[Array]:
    """Yield random directions of signs and sizes from 0.5 to 1 that reach the given entries."""
    rng = np.random.default_rng(1982)
    for _ in range(CONFIRMING):
        yield rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape) * among


def _confirm(ground: Ground, name: str, known: Known, dy: Array) -> Known | None:
    """Return what is known with how far differences confirm it; None where they do not, or are too coarse to tell."""
    value, doubt = np.where(known.looked, known.value, 0.0), np.where(known.looked, known.doubt, 0.0)
    worst = 0.0
    for part in draw_parts(value.shape, known.looked):
        slope = ground.real.weigh(ground.real.walk({name: part}), dy)
        size, apart = float(np.sum(np.abs(part * value))), abs(slope.value - float(np.sum(part * value)))
        if not (slope.doubt <= POWER * size or (size == 0 and slope.value == 0)):
            return None
        if apart > 2 * slope.doubt + float(np.sum(np.abs(part) * doubt)):
            return None
        worst = max(worst, slope.doubt / size if size else 0.0)
    return replace(known, confirmed=worst)


def _mend_kinks(ground: Ground, name: str, known: Known, dy: Array) -> Known:
    """Look by differences at the entries at which the complex step met a tie."""
    met = np.flatnonzero(~known.looked) if known.how == COMPLEX else ()
    for i in met:
        if (name, int(i), "complex") in ground.columns:
            put_slope(known, int(i), ground.differ(name, int(i), dy))
    return known


def describe_references(references: Iterable[Reference], visible: Mapping[str, float]) -> str:
    """Return one line: what the reference was, how precise, and by dtype the smallest fault that it could have shown."""
    found = [known for one in references for known in one.known.values()]
    if not found:
        return "none: the layer's forward pass gives nothing that can be differentiated"
    ways = [how for how in (AUTODIFF, COMPLEX, DIFFERENCES) if any(known.how == how for known in found)]
    words = [f"{' and '.join(ways)}, good to {max(known.precision for known in found):.1g} of a gradient"]
    if confirmed := max(known.confirmed for known in found):
        words[0] += f" (confirmed by differences to {confirmed:.1g})"
    said = ", ".join(f"{size:.1g} in {dtype}" for dtype, size in visible.items() if np.isfinite(size))
    words += [f"a fault below {said} of it would not have been seen"] if said else []
    if kinks := sum(int(known.kinks.sum()) for known in found):
        words.append(f"{kinks} entries at kinks were held against the slopes to both sides")
    if any(known.lines for known in found):
        words.append("of large arrays some entries were looked at one by one, and all along random directions")
    return "; ".join([*words, *dict.fromkeys(one.note for one in references if one.note)])
