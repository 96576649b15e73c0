"""Points at and beside kinks come in; that the hull of gradients around them is found must hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from harness.custom.contracts.nearby import Neighbourhood
from tests.custom.contracts.asking import draw


class Absolute:
    def forward(self, x: Any) -> Any:
        self.sign = np.sign(x)
        return np.abs(x)

    def backward(self, dy: Any) -> Any:
        return dy * self.sign


class Largest:
    def forward(self, x: Any) -> Any:
        self.where = x == x.max(axis=1, keepdims=True)
        return x.max(axis=1)

    def backward(self, dy: Any) -> Any:
        return dy[:, None] * self.where


def find(formula: Any, value: float, kind: Any = Largest) -> tuple[Neighbourhood, Any]:
    subject = draw(kind, formula, [(3, 4)])
    near = Neighbourhood(subject, (np.full((3, 4), value),))
    near.sample(1)
    return near, subject.dy


def test_both_sides_of_every_entry_are_met_at_once() -> None:
    near, dy = find(lambda xp, params, x: xp.abs(x), 0.0, Absolute)
    low, high = near.find_ends(0)
    np.testing.assert_allclose(low, -np.abs(dy))
    np.testing.assert_allclose(high, np.abs(dy))


def test_ties_are_met_by_looking_further_at_the_entry_in_question() -> None:
    near, dy = find(lambda xp, params, x: xp.max(x, axis=1), 1.0)
    for index in ((0, 3), (2, 1)):
        got = np.zeros((3, 4))
        got[np.arange(3), 0] = dy
        got[index[0], 0], got[index] = 0, dy[index[0]]
        assert near.find_wrong_entry(0, got) is None
        assert not near.has_wrong_sum(0, got)


def test_an_entry_beyond_and_a_sum_beyond_are_found() -> None:
    near, dy = find(lambda xp, params, x: xp.max(x, axis=1), 1.0)
    each = np.repeat(dy[:, None], 4, axis=1)
    assert near.find_wrong_entry(0, each) is None
    assert near.has_wrong_sum(0, each)
    each[1, 2] *= 1.01
    assert near.find_wrong_entry(0, each) == (1, 2)


def test_where_slopes_grow_without_limit_nothing_is_wrong() -> None:
    near, _ = find(lambda xp, params, x: xp.sqrt(xp.abs(x)), 0.0, Absolute)
    assert near.find_wrong_entry(0, np.full((3, 4), 1e9)) is None


class Overlapping:
    """The maxima of four windows of 3 x 3, which share the entry in the middle; all of a window's goes to its first."""

    corners = ((0, 0), (0, 2), (2, 0), (2, 2))

    def forward(self, x: Any) -> Any:
        self.x = x
        return np.stack([x[:, r : r + 3, c : c + 3].max(axis=(1, 2)) for r, c in self.corners], axis=1)

    def backward(self, dy: Any) -> Any:
        dx = np.zeros_like(self.x)
        for k, (r, c) in enumerate(self.corners):
            rows = self.x[:, r : r + 3, c : c + 3].reshape(len(dx), 9).argmax(axis=1)
            np.add.at(dx, (np.arange(len(dx)), r + rows // 3, c + rows % 3), dy[:, k])
        return dx


def overlap(xp: Any, params: Any, x: Any) -> Any:
    return xp.stack([xp.max(x[:, r : r + 3, c : c + 3], axis=(1, 2)) for r, c in Overlapping.corners], axis=1)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("windows", list(itertools.product([0.0, 1.0], repeat=4)))
def test_an_entry_may_win_in_any_of_the_windows_that_share_it(windows: tuple[float, ...], seed: int) -> None:
    subject = draw(Overlapping, overlap, [(2, 5, 5)])
    near = Neighbourhood(subject, (np.zeros((2, 5, 5)),), rng=np.random.default_rng(seed))
    near.sample(1)
    got, dy = np.zeros((2, 5, 5)), subject.dy
    got[:, 2, 2] = dy @ np.array(windows)
    assert near.find_wrong_entry(0, got) is None
    got[0, 2, 2] = 1.01 * dy[0][dy[0] > 0].sum() + 0.01
    assert near.find_wrong_entry(0, got) == (0, 2, 2)


class Bends:
    """The norm of second differences, 0 of what rises evenly; at a kink it takes `slope` along each."""

    slope = 10.0

    def forward(self, x: Any) -> Any:
        self.d = x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
        self.norm = np.sqrt((self.d**2).sum(axis=1))
        return self.norm.copy()

    def backward(self, dy: Any) -> Any:
        norm = self.norm[:, None]
        g = np.where(norm > 0, self.d / np.where(norm > 0, norm, 1), self.slope) * dy[:, None]
        dx = np.zeros((len(dy), g.shape[1] + 2))
        dx[:, 2:] += g
        dx[:, 1:-1] -= 2 * g
        dx[:, :-2] += g
        return dx


def bend(xp: Any, params: Any, x: Any) -> Any:
    d = x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
    return xp.sqrt(xp.sum(d * d, axis=1))


def test_points_in_order_that_are_kinks_themselves_end_nothing() -> None:
    subject = draw(Bends, bend, [(2, 5)])
    near = Neighbourhood(subject, (np.zeros((2, 5)),))
    near.sample(1)
    assert near.find_wrong_entry(0, subject.run(near.inputs).dx[0]) == (0, 0)
