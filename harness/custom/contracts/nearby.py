"""Gradients near a point: a point and the formula come in, what the gradient may be at the point goes out.

At a kink every number of the Clarke interval is right: the hull of the gradients at points near it where there is one. It
is sampled on both sides of every entry, so that layers and formulas need not name their branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from harness.core import Array
from harness.custom.contracts.comparing import CLOSE, ROUNDINGS, find_noise
from harness.custom.contracts.contract import NotApplicable
from harness.custom.contracts.subject import Inputs, Subject
from harness.custom.contracts.truth import differentiate

NEAR, NEARER = 2.0**-20, 2.0**-26
STEADY = 1e-2
MORE, PROBED = 6, 4
WANDERED, CLIMBED = 16, 1024
Gradients = Mapping[int, Array]


@dataclass(eq=False)
class Neighbourhood:
    """The gradients of the formula at points near one, by the place of the input.

    `samples` grows where it must; `noise`, what rounding does to the layer's own gradients, is found only then.
    """

    subject: Subject
    inputs: Inputs
    samples: list[Gradients] = field(default_factory=list)
    noise: dict[str, float] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def sample(self, pairs: int) -> None:
        """Look at pairs of opposite points. Raises NotApplicable where the formula gives no finite numbers there."""
        for _ in range(pairs):
            lines = self._draw_all()
            self.samples += [self._differentiate(lines, sign * NEAR) for sign in (1, -1)]

    def sample_in_order(self) -> None:
        """Look at the two points at which entries rise and fall by their order: layers take the first of equals, or the last.

        Where these points are kinks themselves nothing is seen there.
        """
        shapes = [self.inputs[i].shape for i in self.subject.places]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        falling = np.split(-np.sort(-self.rng.uniform(0.5, 1.0, ends[-1])), ends[:-1])
        lines = {i: part.reshape(shape) for i, part, shape in zip(self.subject.places, falling, shapes, strict=True)}
        with suppress(NotApplicable):
            self.samples += [self._differentiate(lines, sign * NEAR) for sign in (1, -1)]

    def _draw_all(self) -> dict[int, Array]:
        return {i: self._draw(self.inputs[i].shape) for i in self.subject.places}

    def _draw_some(self, lines: Gradients) -> dict[int, Array]:
        """Return the directions with a share of the entries drawn anew, few or many."""
        most = int(np.log2(max(2, sum(line.size for line in lines.values()))))
        share = 2.0 ** -self.rng.integers(1, most + 1)
        return {i: np.where(self.rng.random(line.shape) < share, self._draw(line.shape), line) for i, line in lines.items()}

    def _draw(self, shape: tuple[int, ...]) -> Array:
        return np.asarray(self.rng.choice([-1.0, 1.0], shape) * self.rng.uniform(0.5, 1.0, shape))

    def _differentiate(self, lines: Gradients, step: float) -> Gradients:
        moved = tuple(np.float64(step) * lines[i] + x if i in lines else x for i, x in enumerate(self.inputs))
        dx = differentiate(self.subject, moved, self.subject.dy).dx
        found = {i: np.asarray(dx[i], np.float64) for i in lines}
        if not all(np.isfinite(value).all() for value in found.values()):
            raise NotApplicable("the formula's gradient is not finite near this point")
        return found

    def find_ends(self, place: int) -> tuple[Array, Array]:
        """Return the least and the largest of each entry that was met."""
        met = np.stack([sample[place] for sample in self.samples])
        return met.min(axis=0), met.max(axis=0)

    def find_scale(self, place: int) -> float:
        """Return the size of the largest entry that was met, or of a small one elsewhere, beside which curvature is nothing."""
        elsewhere = self.subject.alone.dx[place] if place < len(self.subject.alone.dx) else None
        usual = 0.0 if elsewhere is None else float(np.abs(np.nan_to_num(elsewhere)).max(initial=0.0))
        return max(usual / 64, *(float(np.abs(sample[place]).max(initial=0.0)) for sample in self.samples))

    def shares_undefined(self, place: int, got: Array) -> bool:
        """Whether the gradient is undefined just where that of the formula, differentiated at the point itself, is too."""
        undefined = ~np.isfinite(got)
        if not undefined.any():
            return False
        own = differentiate(self.subject, self.inputs, self.subject.dy).dx[place]
        return own is not None and not np.isfinite(own[undefined]).any()

    def find_outside(self, place: int, got: Array) -> Array:
        """Return where an entry is outside of what was met by more than rounding."""
        low, high = self.find_ends(place)
        room = self._find_room(place)
        out: Array = ~((got >= low - room) & (got <= high + room))
        return out

    def _find_room(self, place: int) -> float:
        return CLOSE * self.find_scale(place) + ROUNDINGS * self.noise.get(f"dx{place}", 0.0)

    def probe(self, place: int, index: tuple[int, ...]) -> bool:
        """Look at both sides of one entry that moves further than the others; whether the gradient is steady there.

        Where it grows as the point comes nearer there is no interval of right gradients.
        """
        steady = True
        for sign in (1, -1):
            lines = {i: line / 8 for i, line in self._draw_all().items()}
            lines[place][index] = sign
            near, nearer = (self._differentiate(lines, step) for step in (NEAR, NEARER))
            self.samples.append(near)
            a, b = near[place][index], nearer[place][index]
            steady = steady and abs(a - b) <= STEADY * max(abs(a), abs(b))
        return bool(steady)

    def find_wrong_entry(self, place: int, got: Array) -> tuple[int, ...] | None:
        """Return an entry that no further looking finds right; None where there is none."""
        if not self.find_outside(place, got).any():
            return None
        for index in _list_indices(~np.isfinite(got)):
            return index
        self._look_closer()
        for index in list(_list_indices(self.find_outside(place, got)))[:PROBED]:
            if self.probe(place, index) and self.find_outside(place, got)[index]:
                self.climb(place, index, got)
                if self.find_outside(place, got)[index]:
                    return index
        return None

    def climb(self, place: int, index: tuple[int, ...], got: Array) -> None:
        """Look for a point at which one entry's gradient is what was given, or beyond it.

        Of the maxima that an entry may be it is some and not all, and few points have just those: from the best of some at
        which it is among the larger ones, others are moved as long as that brings its gradient nearer to what was given.
        """
        sign, room = (1 if got[index] < self.find_ends(place)[0][index] else -1), self._find_room(place)
        best, least, kept = dict[int, Array](), np.inf, self.samples[:]
        for step in range(WANDERED + CLIMBED):
            lines = self._draw_all() if step < WANDERED else self._draw_some(best)
            lines[place][index] = 0.75
            found = self._differentiate(lines, NEAR)
            short = sign * float(found[place][index] - got[index])
            if short <= least:
                best, least, self.samples = lines, short, [*kept, found]
            if least <= room:
                return

    def has_wrong_sum(self, place: int, got: Array) -> bool:
        """Whether entries that share a gradient, in whatever way, got another sum of it than there is to share.

        Where the sum over a row is the same at all points nearby, no choice is left for it.
        """
        axes = tuple(range(1, got.ndim))
        return any(
            self._is_wrong(lambda one, over=over: np.sum(one[place], axis=over), {place: got})  # type: ignore[misc]  # reason: mypy knows no type of a default
            for over in (axes, None)
        )

    def has_wrong_total(self, got: Gradients) -> bool:
        """Whether inputs of one shape that share a gradient got another sum of it than there is to share."""
        alike = len({value.shape for value in got.values()}) == 1 < len(got)
        return alike and self._is_wrong(lambda one: np.sum(list(one.values()), axis=0), got)

    def _is_wrong(self, add: Callable[[Gradients], Array], got: Gradients) -> bool:
        """Whether sums of the gradients are not those of all points nearby; more of these are looked at before that is said."""
        if self._agrees(add, got):
            return False
        self._look_closer()
        return not self._agrees(add, got)

    def _look_closer(self) -> None:
        """Look at more points, and at what rounding does to the layer's own gradient."""
        self.noise = find_noise(self.subject, self.inputs, self.subject.dy, still=True)
        self.sample_in_order()
        self.sample(MORE)

    def _agrees(self, add: Callable[[Gradients], Array], got: Gradients) -> bool:
        met = np.stack([add(sample) for sample in self.samples])
        sizes = np.stack([add({i: np.abs(value) for i, value in sample.items()}) for sample in self.samples]).max(axis=0)
        settled = np.ptp(met, axis=0) <= CLOSE * sizes
        noise = ROUNDINGS * sum(self.noise.get(f"dx{i}", 0.0) * value.size for i, value in got.items())
        return not np.any(settled & ~(np.abs(add(got) - met[0]) <= 4 * CLOSE * sizes + noise))


def _list_indices(where: Array) -> Iterator[tuple[int, ...]]:
    for index in np.argwhere(where):
        yield tuple(int(i) for i in index)
