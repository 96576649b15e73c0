"""Mutations by node come in; a backend that runs as the NumPy layers do, but for these nodes, goes out."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from harness.backends.numpy_reference import NumpyReference
from harness.core import DTYPES
from harness.discovery import find_layers
from harness.judge.local import same_bits
from harness.mutations.mutation import find_mutation, find_mutations
from harness.mutations.reference import MutatedReference
from harness.mutations.wiring import find_wiring
from harness.shards import run_shard
from tests.mutations.graphs import make_residual, random_cases
from tests.mutations.one_pass import LAYERS, lone_problem

SHOWN = {"float64": 1e-13, "float32": 5e-5, "bfloat16": 5e-3, "float16": 1e-3}


def _prepare(backend, problem):
    return backend.prepare(problem.case.network, problem.case.dtype, find_layers())


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_faults_it_is_the_reference_bit_for_bit(dtype):
    problem = make_residual(dtype)
    right, same = (_prepare(backend, problem) for backend in (NumpyReference(), MutatedReference()))
    a, b = right.run(problem), same.run(problem)
    assert a.gradients.keys() == b.gradients.keys()
    assert all(same_bits(value, b.gradients[name]) for name, value in a.gradients.items())
    assert right.trace(problem).keys() == same.trace(problem).keys()


def test_it_is_what_the_reference_is_and_can_be_sent_to_another_process():
    mutation = find_mutation("dW scaled by 1 + e")
    faulty = MutatedReference(mutations={"affine1": (mutation, 0.5)}, wiring=find_wiring("fan-out averaged"), seed=3)
    assert (faulty.name, faulty.framework, faulty.decides, faulty.rule(None)) == ("numpy", "numpy", True, "layer")
    assert pickle.loads(pickle.dumps(faulty)) == faulty  # noqa: S301  # reason: it was pickled in this line


def test_only_the_node_that_is_named_is_hit():
    problem = make_residual()
    right = _prepare(NumpyReference(), problem).run(problem)
    faulty = MutatedReference(
        mutations={"affine2": (find_mutation("db scaled by 1 + e"), 0.5), "nowhere": (find_mutation("one entry NaN"), 0.0)}
    )
    wrong = _prepare(faulty, problem).run(problem)
    changed = {name for name, value in right.gradients.items() if not same_bits(value, wrong.gradients[name])}
    assert changed == {"affine2.b"}
    assert wrong.gradients["affine2.b"] == pytest.approx(1.5 * right.gradients["affine2.b"])


def test_two_nodes_and_a_wiring_at_once():
    problem = make_residual()
    mutations = {"affine1": (find_mutation("db scaled by 1 + e"), 0.5), "affine2": (find_mutation("db scaled by 1 + e"), 1.0)}
    plain = _prepare(MutatedReference(wiring=find_wiring("cotangent replaced by ones")), problem).run(problem)
    wrong = _prepare(MutatedReference(mutations=mutations, wiring=find_wiring("cotangent replaced by ones")), problem).run(
        problem
    )
    assert wrong.gradients["affine1.b"] == pytest.approx(1.5 * plain.gradients["affine1.b"])
    assert wrong.gradients["affine2.b"] == pytest.approx(2.0 * plain.gradients["affine2.b"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_local_check_finds_a_scaled_gradient_at_its_node(dtype):
    size = SHOWN[dtype]
    for seed in range(3):
        problem = make_residual(dtype, seed=seed)
        faulty = MutatedReference(mutations={"affine2": (find_mutation("dW scaled by 1 + e"), size)})
        rows = run_shard([problem.case], [faulty], find_layers(), {}).comparisons
        assert {(row.node, row.quantity) for row in rows if row.local_error_in_bounds > 1} == {("affine2", "dW")}
        assert {(row.node, row.quantity) for row in rows if row.verdict not in ("ok", "powerless")} == {("affine2", "dW")}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_judge_finds_twice_the_bound_and_not_a_hundredth_of_it(dtype):
    problem = make_residual(dtype)
    mutation = find_mutation("every entry moved by r bounds")
    for node in ("affine1", "sigmoid1", "multiply1", "loss1"):
        for multiple, found in ((2.0, True), (0.01, False)):
            faulty = MutatedReference(mutations={node: (mutation, multiple)})
            rows = run_shard([problem.case], [faulty], find_layers(), {}).comparisons
            local = {row.node for row in rows if row.local_error_in_bounds > 1 and row.layer != "input"}
            assert (node in local) == found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mutation", find_mutations(), ids=lambda mutation: mutation.name)
def test_the_judge_finds_every_mutation_that_changes_anything(mutation, dtype):
    """At its largest size, in each lone layer that it fits, where a run or a second pass differs by a bit."""
    size = next((size for size in mutation.sizes if size >= 0.1), mutation.sizes[-1] if mutation.sizes else 0.0)
    for kind in (kind for kind in LAYERS.values() if mutation.fits(kind) and dtype in mutation.dtypes):
        problem = lone_problem(kind, dtype)
        faulty = MutatedReference(mutations={"node": (mutation, size)}, seed=1)
        if _is_equivalent(faulty, problem):
            continue
        rows = run_shard([problem.case], [faulty], LAYERS, {}).comparisons
        assert any(row.fails for row in rows), f"missed in {kind.name}"


def _is_equivalent(faulty, problem):
    """Whether no bit of a run or of a traced second pass is another."""
    right = NumpyReference().prepare(problem.case.network, problem.case.dtype, LAYERS)
    wrong = faulty.prepare(problem.case.network, problem.case.dtype, LAYERS)
    with np.errstate(all="ignore"):
        try:
            a, b = _flatten(right, problem), _flatten(wrong, problem)
        except (ValueError, FloatingPointError):
            return False
    return a.keys() == b.keys() and all(same_bits(value, b[name]) for name, value in a.items())


def _flatten(program, problem):
    outcome, seen = program.run(problem), program.trace(problem)["node"]
    second = {f"second {i}": value for i, value in enumerate((*seen.inputs, *seen.dx, seen.y, seen.dy))}
    params = {f"second {key}": value for key, value in seen.dparams.items()}
    return {**outcome.gradients, "y": outcome.y, **second, **params, "contract": np.array(len(seen.contract))}


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_networks_without_faults_stay_green(dtype):
    cases = random_cases(dtype)[:4]
    rows = [row for case in cases for row in run_shard([case], [MutatedReference()], find_layers(), {}).comparisons]
    assert len(rows) > 40
    assert [row for row in rows if row.fails] == []
