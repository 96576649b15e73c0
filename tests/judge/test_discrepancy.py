"""Outcomes come in; how far each pair of them is apart, without a verdict, goes out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core import Case, NetworkSpec, NodeSpec, Outcome
from harness.judge.discrepancy import compare_pairs

CASE = Case(NetworkSpec({"x": 3}, (NodeSpec("relu1", "relu", ("x",), 3),), 5), "float32", seed=1)


def _outcome(*numbers: float, **settings: object) -> Outcome:
    values = np.array(numbers, np.float32)
    return Outcome(**{"status": "ok", "y": values.sum(), "gradients": {"x": values}, **settings})


def test_every_pair_is_compared_in_every_quantity():
    found = compare_pairs(CASE, {"a": _outcome(1, 2), "b": _outcome(1, 2.5), "c": _outcome(1, 2)})
    assert [(row.backend_a, row.backend_b, row.quantity) for row in found] == [
        (a, b, quantity) for a, b in (("a", "b"), ("a", "c"), ("b", "c")) for quantity in ("y", "x")
    ]


def test_the_distance_is_told_in_four_ways():
    (_, row) = compare_pairs(CASE, {"a": _outcome(3, 4), "b": _outcome(3, 4.5)})
    assert (row.case, row.dtype, row.n_compared, row.max_abs) == (CASE.id, "float32", 2, 0.5)
    assert row.max_relative_to_norm == pytest.approx(0.1)
    assert row.max_ulps == 0.5 / np.spacing(np.float32(4.5))
    assert row.cosine == pytest.approx(27 / (5 * np.hypot(3, 4.5)))


def test_equal_outcomes_are_not_apart():
    for row in compare_pairs(CASE, {"a": _outcome(3, 4), "b": _outcome(3, 4)}):
        assert (row.max_abs, row.max_ulps) == (0, 0)
        assert row.cosine == pytest.approx(1)


def test_zeros_have_no_direction():
    (_, row) = compare_pairs(CASE, {"a": _outcome(0, 0), "b": _outcome(0, 0)})
    assert row.max_abs == 0
    assert np.isnan(row.cosine)


def test_an_empty_array_is_compared_in_no_number():
    (_, row) = compare_pairs(CASE, {"a": _outcome(), "b": _outcome()})
    assert (row.n_compared, row.max_abs) == (0, 0)


@pytest.mark.parametrize(
    "other",
    [
        Outcome("error"),
        _outcome(1, 2, directions=2),
        Outcome("ok", None, {"x": None}),
        Outcome("ok", np.array("a"), {"x": np.array(["a", "b"])}),
        Outcome("ok", np.ones(3), {"x": np.ones((1, 2), np.float32), "z": np.ones(2)}),
    ],
    ids=["failed", "projected", "nothing", "text", "other shapes and names"],
)
def test_what_cannot_be_compared_gives_no_row(other):
    assert compare_pairs(CASE, {"a": _outcome(1, 2), "b": other}) == []
