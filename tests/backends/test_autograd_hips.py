"""Formulas come in; HIPS autograd's gradients, in longdouble too, go out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.backends.autograd_hips import HipsAutograd, differentiate
from harness.core import DTYPES


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_the_gradient_of_a_nest_of_arrays_has_its_shape_and_precision(dtype):
    leaves = ({"a": {"W": np.array([[2.0]], dtype)}}, {"x": np.array([[3.0]], dtype)})
    y, (params, inputs) = differentiate(lambda given: given[0]["a"]["W"] * given[1]["x"], leaves, np.array([[10.0]], dtype))
    assert y.tolist() == [[6.0]]
    assert params["a"]["W"].tolist() == [[30.0]]
    assert inputs["x"].tolist() == [[20.0]]
    assert y.dtype == params["a"]["W"].dtype == inputs["x"].dtype == dtype


def test_leaves_that_are_used_twice_or_never_get_the_sum_and_zeros():
    leaves = {"often": np.array([3.0, 5.0]), "never": (np.ones((2, 1), np.float32),)}
    y, gradients = differentiate(lambda given: given["often"] * given["often"] + given["often"], leaves, np.array([1.0, 10.0]))
    assert y.tolist() == [12.0, 30.0]
    assert gradients["often"].tolist() == [7.0, 110.0]
    assert (gradients["never"][0].tolist(), gradients["never"][0].dtype) == ([[0.0], [0.0]], np.float32)


def test_what_depends_on_no_leaf_has_a_gradient_of_zeros():
    y, (gradient,) = differentiate(lambda given: np.array([2.0]), (np.array([1.0, 4.0]),), np.array([1.0]))
    assert (y.tolist(), gradient.tolist()) == ([2.0], [0.0, 0.0])


def test_a_scalar_output_takes_a_scalar_cotangent():
    y, gradient = differentiate(lambda x: (x * x).sum(), np.array([1.0, 2.0]), np.array(10.0))
    assert y == 5.0
    assert gradient.tolist() == [20.0, 40.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_come_in_the_dtype_of_the_case_with_the_branches(draw_small, layers, dtype):
    problem = draw_small(2, dtype, alone="relu")
    outcome = HipsAutograd().prepare(problem.case.network, dtype, layers).run(problem)
    assert {value.dtype.name for value in (outcome.y, *outcome.gradients.values())} == {dtype}
    assert (outcome.decisions["relu1"] == (problem.inputs["x"] > 0)).all()


def test_phases_give_what_a_run_gives(draw_small, layers):
    problem = draw_small(3)
    program = HipsAutograd().prepare(problem.case.network, "float64", layers)
    phases, outcome = program.phases(problem), program.run(problem)
    backward, y = phases["forward"]()
    assert callable(backward)
    assert np.asarray(y).tobytes() == outcome.y.tobytes()
    for _ in range(2):
        assert phases["backward"]()[1]["x"].tobytes() == outcome.gradients["x"].tobytes()
    assert phases["forward+backward"]()[1][1]["x"].tobytes() == outcome.gradients["x"].tobytes()


def test_a_float32_graph_is_run_backward_without_a_change_of_the_cotangents_dtype(draw_small, layers):
    problem = draw_small(3, "float32")
    program = HipsAutograd().prepare(problem.case.network, "float32", layers)
    assert program.trace(problem) is None
    assert program.run(problem).gradients["x"].dtype == np.float32
