"""Backends and small problems come in; gradients that keep the layers' proven bounds, and arrays left alone, go out.

Nothing here is judged by a tolerance: a lone layer keeps its own forward and backward bound against its formula
differentiated in a higher precision, and a network is judged as a run would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.array_api import make_numpy_namespace
from harness.cases import list_hazards, make_problem, plan_cases
from harness.core import DTYPES, Problem
from harness.discovery import find_backends, find_layers
from harness.isolation import quiet
from harness.judge.oracle import HIGHER, find_truth
from harness.judge.rounding import add_storage, make_rounding, oracle_margin
from harness.judge.verdict import Bench, judge
from reference_layers import Pair

DECIDING = [name for name, backend in find_backends().items() if backend.decides]
UNCOMPILED = [name for name in DECIDING if not name.startswith("jax")]
COMPILED = [name for name in DECIDING if name.startswith("jax")]
WORST = {"mismatch", "nonfinite", "oracle-nonfinite", "shape", "dtype", "missing", "vacuous", "contract", "error"}


def _program(name: str, problem: Problem) -> Any:
    network, dtype = problem.case.network, problem.case.dtype
    return find_backends()[name].prepare(network, dtype, find_layers())


def _worst(name: str, problem: Problem, program: Any) -> float:
    """Return the largest error of all quantities of a network of one node, in units of the layer's bound."""
    (node,) = problem.case.network.nodes
    kind, backend, dtype = find_layers()[node.layer], find_backends()[name], problem.case.dtype
    inputs = tuple(problem.inputs[given] for given in node.inputs)
    params = problem.params[node.name]
    branches = [kind.decisions(make_numpy_namespace(), params, *inputs)] if hasattr(kind, "decisions") else []
    truth = find_truth(kind, params, inputs, problem.dy, HIGHER[dtype], *branches)
    rounding = make_rounding(dtype, backend.arithmetic, backend.rule(kind))
    pairs = [Pair(np.asarray(value, np.float64), np.zeros(value.shape)) for value in (*inputs, problem.dy)]
    doubled = {key: np.asarray(value, np.float64) for key, value in params.items()}
    backward = kind.backward_bound(rounding, doubled, *pairs, *branches)
    bounds = {node.name: kind.forward_bound(rounding, doubled, *pairs[:-1], *branches)}
    bounds |= {given: bound for given, bound in zip(node.inputs, backward.dx, strict=True) if bound is not None}
    bounds |= {f"{node.name}.{key}": bound for key, bound in backward.dparams.items()}
    true = {node.name: truth.y, **dict(zip(node.inputs, truth.dx, strict=True))}
    true |= {f"{node.name}.{key}": value for key, value in truth.dparams.items()}
    outcome = program.run(problem)
    got = {node.name: outcome.y, **outcome.gradients}
    assert set(got) == set(bounds)
    bounds = {key: add_storage(rounding, bound, np.asarray(true[key], np.float64)) for key, bound in bounds.items()}
    return float(np.max([_in_bounds(got[key], true[key], bounds[key] * oracle_margin(dtype)) for key in bounds]))


def _in_bounds(got: Any, true: Any, bound: Any) -> float:
    assert np.shape(got) == np.shape(true)
    error = np.abs(np.asarray(got).astype(true.dtype) - true).astype(np.float64)
    return float(np.max(np.divide(error, bound, out=np.zeros(np.shape(error)), where=error > 0), initial=0.0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", find_layers())
@pytest.mark.parametrize("name", UNCOMPILED)
def test_every_layer_alone_keeps_its_bound(draw_small, name, layer, dtype):
    program = _program(name, draw_small(0, dtype, alone=layer))
    if program is None:
        assert name.partition(":")[0] not in find_layers()[layer].native
        return
    for seed in range(8):
        problem = draw_small(seed, dtype, alone=layer, labels=("integer", "one_hot", "soft")[seed % 3], scale=4.0 ** (seed - 4))
        program = _program(name, problem)
        assert _worst(name, problem, program) <= 1, problem.case.id


@pytest.mark.parametrize("layer", find_layers())
@pytest.mark.parametrize("name", COMPILED)
def test_every_layer_alone_keeps_its_bound_when_compiled(draw_small, name, layer):
    # One shape, so that there is one program to compile; other shapes and the other dtype come in the graphs below.
    problems = [draw_small(0, "float32", alone=layer, batch=3, scale=4.0**power) for power in (-2, 0, 2)]
    program = _program(name, problems[0])
    if program is None:
        assert "jax" not in find_layers()[layer].native
        return
    for problem in problems:
        assert _worst(name, problem, program) <= 1, problem.case.id


GRAPHS = {**dict.fromkeys(UNCOMPILED, 24), **dict.fromkeys(COMPILED, 3), "jax:eager": 1}


@pytest.mark.parametrize(("name", "count"), GRAPHS.items())
def test_small_graphs_are_judged_right(draw_small, layers, name, count):
    rows = []
    for seed in range(count):
        problem = draw_small(seed, DTYPES[seed % 4])
        program = _program(name, problem)
        with quiet():  # BLAS reads beyond the ends of small arrays and may raise a flag for what it finds there
            rows += (
                judge(Bench(problem, layers), find_backends()[name], program.run(problem), program.trace(problem))
                if program
                else []
            )
    assert len(rows) > 5 * count
    assert [row for row in rows if row.verdict in WORST] == []


@pytest.mark.parametrize("name", [name for name in find_backends() if "jax" not in name])
def test_no_backend_changes_an_array_that_it_is_given(layers, name):
    hazards = list(list_hazards(layers))
    for (case,) in plan_cases(12, 9, layers, dtypes=DTYPES, hazards=hazards, draws=1):
        problem = make_problem(case, layers)
        before = _bytes(problem)
        program = find_backends()[name].prepare(case.network, case.dtype, layers)
        if program is not None:
            program.run(problem)
            program.trace(problem)
        assert _bytes(problem) == before


def _bytes(problem: Problem) -> list[bytes]:
    arrays = [*problem.inputs.values(), problem.dy, *(value for group in problem.params.values() for value in group.values())]
    return [value.tobytes() for value in arrays]


@pytest.mark.parametrize("name", UNCOMPILED)
def test_two_runs_of_a_program_give_the_same_bits(draw_small, name):
    for seed in range(6):
        problem = draw_small(seed)
        program = _program(name, problem)
        if program is not None:
            first, second = program.run(problem).gradients, program.run(problem).gradients
            assert {key: value.tobytes() for key, value in first.items()} == {
                key: value.tobytes() for key, value in second.items()
            }


@pytest.mark.parametrize("name", UNCOMPILED)
def test_an_empty_batch_gives_empty_inputs_and_zero_parameter_gradients(draw_small, name):
    problem = draw_small(4, batch=0)
    gradients = _program(name, problem).run(problem).gradients
    assert gradients["x"].shape == (0, problem.inputs["x"].shape[1])
    of_parameters = [value for key, value in gradients.items() if "." in key]
    assert of_parameters
    assert not any(value.any() for value in of_parameters)


@pytest.mark.parametrize("name", DECIDING)
def test_a_backend_names_its_framework_and_version_and_the_rule_it_follows(name, layers):
    backend = find_backends()[name]
    assert name.partition(":")[0] == backend.framework
    assert backend.version()[0].isdigit()
    assert {backend.rule(kind) for kind in layers.values()} <= {"layer", "formula", "native"}
    assert (backend.rule(layers["sigmoid"]) == "native") == (backend.variant == "native")
