"""Problems come in; JAX's gradients, which returning the branches changes by no bit, go out; the caller's settings stay."""

from __future__ import annotations

import numpy as np
import pytest

from harness.backends.jax_grad import BACKENDS, JaxGrad, wide_types
from harness.backends.numpy_reference import NumpyReference
from harness.cases import make_problem
from harness.core import DTYPES, Case, NetworkSpec, NodeSpec

jax = pytest.importorskip("jax")
TAPPED = next(backend for backend in BACKENDS if backend.tapped)


@pytest.fixture(scope="module")
def prepared(draw_small, layers):
    """Return a few problems with their compiled programs and what these made of them."""
    problems = [draw_small(seed, DTYPES[seed % 4]) for seed in (0, 1, 5, 6)]
    programs = [JaxGrad().prepare(problem.case.network, problem.case.dtype, layers) for problem in problems]
    return [(problem, program, program.run(problem)) for problem, program in zip(problems, programs, strict=True)]


def test_returning_the_branches_leaves_the_gradients_bit_for_bit(prepared):
    branches = 0
    for problem, program, outcome in prepared:
        bare_y, (params, inputs) = program.phases(problem)["forward+backward"]()
        assert np.asarray(bare_y).tobytes() == outcome.y.tobytes()
        bare = {f"{node}.{key}": value for node, group in params.items() for key, value in group.items()} | inputs
        assert set(bare) == set(outcome.gradients)
        for name, value in bare.items():
            assert np.asarray(value).tobytes() == outcome.gradients[name].tobytes()
        branches += len(outcome.decisions)
    assert branches > 2


def test_the_branches_are_those_of_the_values_before_the_gates(prepared, layers):
    for problem, _, outcome in prepared:
        trace = NumpyReference().prepare(problem.case.network, problem.case.dtype, layers).trace(problem)
        for name, taken in outcome.decisions.items():
            assert (taken == (trace[name].inputs[0] > 0)).all()


def test_everything_comes_in_the_dtype_of_the_case(prepared):
    for problem, _, outcome in prepared:
        assert {value.dtype.name for value in (outcome.y, *outcome.gradients.values())} == {problem.case.dtype}


def test_a_program_compiles_once(prepared):
    for problem, program, outcome in prepared:
        again = program.run(problem)
        assert outcome.compile_seconds > again.compile_seconds == 0.0
        assert again.seconds > 0
        assert again.gradients["x"].tobytes() == outcome.gradients["x"].tobytes()


@pytest.mark.parametrize("wide", [False, True])
def test_the_flag_for_wide_types_is_the_callers_before_and_after(prepared, wide):
    (problem, program, outcome), *_ = [entry for entry in prepared if entry[0].case.dtype == ("float32" if wide else "float64")]
    with wide_types(wide):
        assert program.run(problem).y.tobytes() == outcome.y.tobytes()
        assert jax.config.jax_enable_x64 is wide
        assert jax.numpy.ones(1).dtype == ("float64" if wide else "float32")


def test_only_the_tapped_program_shows_its_inside(prepared, layers):
    problem, program, _ = prepared[0]
    assert program.trace(problem) is None
    trace = TAPPED.prepare(problem.case.network, problem.case.dtype, layers).trace(problem)
    assert set(trace) == {node.name for node in problem.case.network.nodes}
    for name, seen in trace.items():
        assert set(seen.dparams) == set(problem.params[name])
        assert seen.dy.shape == seen.y.shape


def test_a_tap_of_a_value_used_twice_gives_each_use_its_own_gradient(layers):
    network = NetworkSpec({"x": 3}, (NodeSpec("multiply1", "multiply", ("x", "x"), 3),), 2)
    problem = make_problem(Case(network, "float64", 1), layers)
    seen = TAPPED.prepare(network, "float64", layers).trace(problem)["multiply1"]
    expected = (problem.dy * problem.inputs["x"]).tobytes()
    assert [value.tobytes() for value in seen.dx] == [expected, expected]


def test_the_native_backend_has_nothing_for_a_network_without_an_op_of_jax(draw_small):
    class Foreign:
        native: dict[str, object] = {}

    native = next(backend for backend in BACKENDS if backend.variant == "native")
    assert native.prepare(draw_small(1, alone="relu").case.network, "float64", {"relu": Foreign}) is None


def test_a_jitted_program_is_timed_in_three_phases_and_an_eager_one_in_none(prepared, layers):
    problem, program, _ = prepared[0]
    assert set(program.phases(problem)) == {"compile", "forward", "forward+backward"}
    eager = JaxGrad(jit=False).prepare(problem.case.network, problem.case.dtype, layers)
    assert eager.phases(problem) == {}
