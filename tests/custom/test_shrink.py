"""Trials that layers fail come in; that the smallest ones found fail for the same reason, the same each time, goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from harness import LayerSpec
from harness.custom.pieces import list_reasons
from harness.custom.shrink import (
    Found,
    Reason,
    find_axes,
    find_truth,
    is_smooth,
    list_options,
    looks_right,
    put_together,
    shrink,
    take_apart,
)
from harness.custom.trials import Trial, draw_trial
from tests.custom import importable, layers

LINEAR = LayerSpec(layers.Linear, layers.linear, [(6, 5)])
MOST_CALLS = 70


def reduce(spec: LayerSpec, check: str = "gradients", dtype: str = "float64") -> tuple[Trial, Reason, int]:
    """Return the smallest trial, the reason, and how often the judge was asked."""
    trial, calls = draw_trial(spec, dtype, 0, 0), []

    def judge(one: Trial, name: str) -> Mapping[Reason, Found]:
        calls.append(name)
        return list_reasons(one, name)

    reason = next(iter(list_reasons(trial, check)))
    return shrink(spec, trial, reason, judge), reason, len(calls)


@pytest.mark.parametrize(
    ("kind", "formula", "shapes", "left"),
    [
        (importable.Slightly, layers.swish, [(8, 5)], {"x": [[1.0]], "dy": [[1.0]]}),
        (importable.Averages, layers.linear, [(8, 5)], {"x": [[1.0], [1.0]], "dy": [[1.0], [1.0]]}),
        (importable.LosesTheLast, layers.linear, [(8, 5)], {"x": [[1.0]], "dy": [[1.0]]}),
        (importable.Leaks, importable.relu, [(8, 5)], {"x": [[-1.0]], "dy": [[1.0]]}),
    ],
)
def test_known_faults_come_down_to_a_number_or_two(kind: Any, formula: Any, shapes: Any, left: dict[str, Any]) -> None:
    spec = LayerSpec(kind, formula, shapes)
    small, reason, calls = reduce(spec)
    found = {"x": small.problem.inputs["x"].tolist(), "dy": small.problem.dy.tolist()}
    assert found == left
    assert reason in list_reasons(small, "gradients")
    assert calls <= MOST_CALLS


def test_the_same_failure_gives_the_same_case_with_other_cases_in_between() -> None:
    spec = LayerSpec(importable.Averages, layers.linear, [(8, 5)])
    first = take_apart(reduce(spec)[0])
    reduce(LayerSpec(importable.Clips, layers.swish, [(8, 5)]))
    again = take_apart(reduce(spec)[0])
    assert first.dtype == again.dtype
    for one, other in zip(
        (*first.inputs, first.dy, *first.params.values()), (*again.inputs, again.dy, *again.params.values()), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_no_kink_is_shrunk_to_for_there_any_of_several_gradients_is_right() -> None:
    small, _, _ = reduce(LayerSpec(importable.Leaks, importable.relu, [(8, 5)]))
    assert is_smooth(small)
    at_kink = draw_trial(LayerSpec(importable.Leaks, importable.relu, [np.zeros((2, 2))]), "float64", 0, 0)
    assert not is_smooth(at_kink)


def test_a_contract_is_shrunk_by_the_contract_itself() -> None:
    small, reason, _ = reduce(LayerSpec(layers.Clips, layers.swish, [(6, 5)]), "linear_in_cotangent")
    assert small.problem.dy.size == 1
    assert reason in list_reasons(small, "linear_in_cotangent")


def test_an_error_stays_the_same_error() -> None:
    small, reason, _ = reduce(LayerSpec(importable.Raises, layers.swish, [(8, 5)]))
    assert reason.verdict == "error"
    assert "ValueError" in reason.words
    assert "importable.py" in reason.words
    assert small.problem.inputs["x"].shape == (1, 2)


def test_what_fails_in_float32_alone_stays_there() -> None:
    small, reason, _ = reduce(LayerSpec(importable.Widens, layers.swish, [(8, 5)]), dtype="float32")
    assert small.problem.case.dtype == "float32"
    assert reason.verdict == "dtype"
    assert small.problem.inputs["x"].size == 1


def test_a_fault_in_one_place_keeps_the_place() -> None:
    class Third(layers.Swish):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            dx[2:3] *= 2
            return dx

    small, _, _ = reduce(LayerSpec(Third, layers.swish, [(8, 5)]))
    assert small.problem.inputs["x"].shape == (3, 1)


def test_inputs_that_the_user_made_lose_rows_and_keep_their_numbers() -> None:
    own = np.random.default_rng(3).uniform(0.1, 0.9, (6, 4))
    small, _, _ = reduce(LayerSpec(importable.Slightly, layers.swish, [own]))
    (left,) = take_apart(small).inputs
    assert left.shape == (1, 4)
    assert any((row == left[0]).all() for row in own)


def test_what_an_earlier_pass_left_behind_is_shrunk_too() -> None:
    small, reason, _ = reduce(LayerSpec(layers.RemembersTheFirst, layers.swish, [(4, 3)]))
    assert small.problem.dy.size < 12
    assert looks_right(small, reason)


def test_labels_stay_labels() -> None:
    class Doubled(layers.Lookup):
        def backward(self, dy: Any) -> None:
            super().backward(dy)
            self.grads["W"] *= 2

    spec = LayerSpec(Doubled, lambda xp, params, t: params["W"][t], [np.array([3, 0, 3, 1])])
    small, reason, _ = reduce(spec)
    assert small.problem.inputs["x"].dtype.kind == "i"
    assert small.problem.inputs["x"].size == 1
    assert reason in list_reasons(small, "gradients")


def test_axes_that_belong_together_are_found_by_the_formula() -> None:
    square = LayerSpec(layers.Linear, layers.linear, [(5, 5)])
    assert {frozenset(axes) for axes in find_axes(square, take_apart(draw_trial(square, "float64", 0, 0)))} == {
        frozenset({(0, 0)}),
        frozenset({(0, 1), ("W", 0)}),
        frozenset({("W", 1), ("b", 0)}),
    }


def test_a_formula_of_a_fixed_size_has_no_axes() -> None:
    fixed = LayerSpec(layers.Swish, lambda xp, params, x: xp.reshape(x, (2, 15)), [(6, 5)])
    assert find_axes(fixed, take_apart(draw_trial(fixed, "float64", 0, 0))) == []


def test_parts_put_together_are_the_trial() -> None:
    trial = draw_trial(LINEAR, "float32", 4, 2)
    again = put_together(LINEAR, take_apart(trial), trial)
    assert again.problem.case == trial.problem.case
    np.testing.assert_array_equal(again.problem.inputs["x"], trial.problem.inputs["x"])
    np.testing.assert_array_equal(again.problem.dy, trial.problem.dy)


def test_the_truth_is_the_formulas() -> None:
    trial = draw_trial(LINEAR, "float64", 0, 0)
    np.testing.assert_array_equal(find_truth(trial, "db"), trial.problem.dy.sum(axis=0))
    assert find_truth(trial, "y").shape == (6, 3)


def test_a_number_that_is_none_has_no_simpler_one() -> None:
    assert list_options(float("inf"), (1.0,)) == [float("inf")]
    assert list_options(0.0, (1.0, 2.0)) == [0.0]


class Window:
    """The difference of neighbours but one, and a wrong slope; it keeps the shapes that it saw in extended precision."""

    seen: ClassVar[set[tuple[int, ...]]] = set()

    def forward(self, x: Any) -> Any:
        if x.dtype in (np.longdouble, np.clongdouble):
            self.seen.add(x[:, 2:].shape)
        self.shape = x.shape
        return x[:, 2:] - x[:, :-2]

    def backward(self, dy: Any) -> Any:
        dx = np.zeros(self.shape, dy.dtype)
        dx[:, 2:] += dy
        dx[:, :-2] += dy
        return dx


def test_nothing_is_looked_for_where_the_output_is_empty() -> None:
    small, _, _ = reduce(LayerSpec(Window, None, [(3, 5)]))
    assert small.problem.inputs["x"].shape == (1, 3)
    assert Window.seen
    assert all(0 not in shape for shape in Window.seen)
