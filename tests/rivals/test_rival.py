"""Names, problems and attempts come in; the rivals that are meant, and what layers that raise mean to them, go out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from harness.core import DTYPES, BadInput, Outcome
from harness.rivals.rival import (
    LayerFailed,
    Rival,
    choose_rivals,
    count_numbers,
    find_absent,
    find_rivals,
    gradients_at,
    move,
    run_at,
    take_leaves,
)  # fmt: skip

TOOLS = {"allclose", "assert_close", "autograd", "check_grads", "gradcheck"}


def test_every_tool_has_a_rival_of_its_own_name():
    assert {rival.tool for rival in find_rivals().values()} == TOOLS
    assert set(find_rivals()) >= TOOLS


def test_a_tool_stands_for_its_rule_and_for_itself():
    assert {rival.name for rival in choose_rivals("gradcheck")} == {"gradcheck", "gradcheck-fast", "gradcheck-rule"}
    assert choose_rivals("none") == []


def test_an_unknown_tool_is_bad_input():
    with pytest.raises(BadInput, match="unknown rival 'eyes'; accepted are allclose"):
        choose_rivals("allclose,eyes")


def test_looking_for_rivals_imports_no_framework():
    code = "import sys; from harness.rivals.rival import find_rivals; find_rivals(); print(sys.modules.keys() & {'torch', 'jax'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_missing_framework_is_told():
    lost = Rival("r", "r", "no_such_framework", "", lambda attempt: False)
    assert "no_such_framework" in find_absent([lost, find_rivals()["allclose"]])["r"]
    assert find_absent([find_rivals()["allclose"]]) == {}


def test_leaves_are_what_is_differentiated(attempt):
    made = attempt()
    leaves = take_leaves(made.problem)
    assert list(leaves) == ["affine1.W", "affine1.b", "affine2.W", "affine2.b", "x"]
    assert count_numbers(made.problem) == 3 * 4 + 4 + 4 * 2 + 2 + 5 * 3


def test_moving_changes_the_leaves_and_the_cotangent_alone(attempt):
    problem = attempt("float32").problem
    leaves = {name: value + 1 for name, value in take_leaves(problem).items()}
    moved = move(problem, leaves, 3.0)
    assert all(np.array_equal(value, leaves[name]) for name, value in take_leaves(moved).items())
    assert moved.dy.dtype == np.float32
    assert float(moved.dy) == 3.0
    assert np.array_equal(moved.inputs["t"], problem.inputs["t"])


def test_gradients_at_the_same_place_are_those_of_the_run(attempt):
    made = attempt()
    again = gradients_at(made, take_leaves(made.problem), made.problem.dy)
    assert all(np.array_equal(again[name], made.outcome.gradients[name]) for name in again)


def test_layers_that_raise_fail_every_rival(attempt):
    made = attempt(mutation="backward raises")
    assert made.outcome.status == "error"
    assert all(rival.accuses(made) for rival in find_rivals().values())
    with pytest.raises(LayerFailed, match="planted"):
        run_at(made, take_leaves(made.problem))


@pytest.mark.parametrize("name", sorted(set(find_rivals()) - {"autograd"}))
def test_a_gradient_left_out_fails_every_rival(name, attempt):
    made = attempt(mutation="gradient of a parameter left out")
    assert find_rivals()[name].accuses(made)


def test_a_rival_that_breaks_is_loud(attempt):
    def broken(made):
        raise TypeError("the rival's own")

    with pytest.raises(TypeError, match="the rival's own"):
        Rival("r", "r", "numpy", "", broken).accuses(attempt())


def test_a_comparison_without_its_reference_is_bad_input(attempt):
    made = replace(attempt(), reference=Outcome("unavailable", message="no torch"))
    with pytest.raises(BadInput, match="allclose: it needs torch's gradients, and torch gave 'no torch'"):
        find_rivals()["allclose"].accuses(made)


def test_what_is_slow_is_asked_about_small_problems_alone(attempt):
    problem = attempt().problem
    assert find_rivals()["gradcheck"].fits(problem)
    assert not replace(find_rivals()["gradcheck"], most=10).fits(problem)
    assert not find_rivals()["gradcheck"].fits(attempt("float32").problem)
    assert find_rivals()["allclose"].small_only is False


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(find_rivals()))
def test_every_rival_answers_in_each_of_its_dtypes(name, dtype, attempt):
    rival = find_rivals()[name]
    if dtype not in rival.dtypes:
        pytest.skip(f"{name} does not take {dtype}")
    assert rival.accuses(attempt(dtype, "gradients of the other sign")) is True
