"""Networks that are wired wrong come in; what they return is held against the sums written out, and a judge finds each."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from harness.backends.numpy_reference import NumpyReference
from harness.cases import make_problem
from harness.core import NetworkSpec, NodeSpec
from harness.discovery import find_layers
from harness.judge.local import same_bits
from harness.mutations.reference import MutatedReference
from harness.mutations.wiring import Wired, Wiring, find_wiring, find_wirings
from harness.shards import run_shard
from reference_layers import Add, Affine, Multiply, Network, Node
from tests.mutations.graphs import RESIDUAL, make_residual, random_cases

RIGHT = Wiring("none", "wired as it should be", Wired, lambda network: find_wiring("cotangent replaced by ones").sites(network))
W1 = np.array([[0.5, -1.0], [2.0, 1.5]])


def _name(wiring):
    return wiring.name


def _run(wiring, problem, seed=0):
    program = MutatedReference(wiring=wiring, seed=seed).prepare(problem.case.network, problem.case.dtype, find_layers())
    return program.run(problem), program.trace(problem)


def _gives_the_same(a, b):
    same = a.gradients.keys() == b.gradients.keys() and same_bits(a.y, b.y)
    return same and all(same_bits(value, b.gradients[name]) for name, value in a.gradients.items())


def test_there_are_as_many_kinds_as_promised():
    assert len(find_wirings()) >= 5
    assert len({wiring.name for wiring in find_wirings()}) == len(find_wirings())
    assert {wiring.family for wiring in find_wirings()} == {"wiring"}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_the_wiring_without_a_fault_is_the_network(dtype):
    for problem in (make_residual(dtype), make_residual(dtype, seed=2)):
        right = NumpyReference().prepare(problem.case.network, dtype, find_layers()).run(problem)
        outcome, _ = _run(RIGHT, problem)
        assert _gives_the_same(right, outcome)
        rows = run_shard([problem.case], [MutatedReference(wiring=RIGHT)], find_layers(), {}).comparisons
        assert len(rows) > 10
        assert [row for row in rows if row.fails] == []


@pytest.mark.parametrize("wiring", find_wirings(), ids=_name)
def test_a_wrong_wiring_is_another_network_and_the_same_one_each_time(wiring):
    problem = make_residual()
    assert wiring.fits(RESIDUAL)
    assert wiring.why
    assert pickle.loads(pickle.dumps(wiring)) is wiring  # noqa: S301  # reason: it was pickled in this line
    right, _ = _run(RIGHT, problem)
    runs = [_run(wiring, problem, seed)[0] for seed in (0, 0, 1, 2, 3, 4, 5)]
    assert _gives_the_same(runs[0], runs[1])
    assert not all(_gives_the_same(right, outcome) for outcome in runs)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("wiring", find_wirings(), ids=_name)
def test_a_judge_finds_every_wrong_wiring_that_changes_anything(wiring, dtype):
    changed = 0
    residual, others = make_residual(dtype).case, [case for case in random_cases(dtype)[:2] if wiring.fits(case.network)]
    for case, seed in [(residual, 0), (residual, 1), (residual, 2), *((case, 0) for case in others)]:
        problem = make_problem(case, find_layers())
        if _gives_the_same(_run(RIGHT, problem)[0], _run(wiring, problem, seed)[0]):
            continue
        rows = run_shard([case], [MutatedReference(wiring=wiring, seed=seed)], find_layers(), {}).comparisons
        assert any(row.fails for row in rows), f"missed in {case.id}"
        changed += 1
    assert changed


def _two_uses():
    """Return x W1 + (x W1) * z, whose value a = x W1 is used twice, with its arrays."""
    nodes = [
        Node("a", Affine(W1, np.zeros(2)), ("x",)),
        Node("m", Multiply(), ("a", "z")),
        Node("s", Add(), ("a", "m")),
    ]
    return Network(nodes, ["x", "z"], "s"), {"x": np.array([[1.0, 2.0]]), "z": np.array([[3.0, -1.0]])}


DY = np.array([[1.0, 10.0]])
STRAIGHT, THROUGH = DY, DY * [[3.0, -1.0]]  # what comes back to a along the sum, and through the product


@pytest.mark.parametrize(
    ("name", "arrived"),
    [
        ("none", STRAIGHT + THROUGH),
        ("fan-out not summed, the last use wins", THROUGH),
        ("fan-out not summed, the first use wins", STRAIGHT),
        ("fan-out averaged", (STRAIGHT + THROUGH) / 2),
    ],
)
def test_what_arrives_at_a_value_that_is_used_twice(name, arrived):
    network, inputs = _two_uses()
    faulty = RIGHT.network if name == "none" else find_wiring(name).network
    wired = faulty(network.nodes, network.inputs, network.output)
    wired.forward(inputs)
    assert wired.backward(DY)["x"] == pytest.approx(arrived @ W1.T)


@pytest.mark.parametrize(("name", "counts"), [("residual added twice", {(2, 1), (1, 2)}), ("a use left out", {(0, 1), (1, 0)})])
def test_one_use_is_counted_wrong(name, counts):
    network, inputs = _two_uses()
    specs = tuple(NodeSpec(node.name, node.layer.name, node.inputs, 2) for node in network.nodes)
    spec = NetworkSpec({"x": 2, "z": 2}, specs, 1)
    seen = []
    for seed in range(8):
        wired = find_wiring(name).plant(network, spec, seed)
        wired.forward(inputs)
        seen.append(wired.backward(DY)["x"])
    wanted = [(i * STRAIGHT + j * THROUGH) @ W1.T for i, j in counts]
    assert all(any(np.allclose(value, sums) for sums in wanted) for value in seen)
    assert all(any(np.allclose(value, sums) for value in seen) for sums in wanted)


def test_a_node_that_runs_too_early_keeps_the_last_part_alone():
    network, inputs = _two_uses()
    kind = find_wiring("a node run before all its gradients are there").network
    wired = kind(network.nodes, network.inputs, network.output)
    wired.forward(inputs)
    found = wired.backward(DY)
    assert found["x"] == pytest.approx((STRAIGHT + THROUGH) @ W1.T)
    kept = wired.grads["a.W"]
    assert any(np.allclose(kept, inputs["x"].T @ part) for part in (STRAIGHT, THROUGH))


def test_a_skipped_node_hands_its_gradient_on_as_it_is():
    problem = make_residual()
    outcomes = {}
    for seed in range(30):
        program = MutatedReference(wiring=find_wiring("node skipped backward"), seed=seed)
        prepared = program.prepare(RESIDUAL, "float64", find_layers())
        outcomes[prepared.build(problem).site.node] = prepared.trace(problem)
    assert set(outcomes) == {"affine1", "sigmoid1", "affine2"}
    assert all(node not in trace for node, trace in outcomes.items())
    skipped = outcomes["sigmoid1"]
    assert skipped["affine1"].dy == pytest.approx(skipped["affine2"].dx[0] + skipped["multiply1"].dx[0])
