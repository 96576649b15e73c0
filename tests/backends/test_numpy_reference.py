"""Layers that break their contract come in; traces that say so go out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.backends.numpy_reference import NumpyProgram, NumpyReference
from harness.core import Problem, freeze
from reference_layers import ReLU


def _trace(problem: Problem, kind: type) -> Any:
    writable = Problem(
        problem.case,
        {node: {key: np.array(value) for key, value in group.items()} for node, group in problem.params.items()},
        {name: np.array(value) for name, value in problem.inputs.items()},
        problem.constants,
        np.array(problem.dy),
    )
    return NumpyProgram(problem.case.network, {"relu": kind}).trace(writable)["relu1"]


class Overwrites(ReLU):
    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        x[...] = 0
        return y


class OverwritesUpstream(ReLU):
    def backward(self, dy: Any, cache: Any = None) -> Any:
        dx = super().backward(dy, cache)
        dy *= 2
        return dx


def test_a_trace_holds_what_every_node_received_and_returned(draw_small, layers):
    problem = draw_small(5)
    trace = NumpyReference().prepare(problem.case.network, "float64", layers).trace(problem)
    assert set(trace) == {node.name for node in problem.case.network.nodes}
    for node in problem.case.network.nodes:
        seen = trace[node.name]
        assert len(seen.inputs) == len(node.inputs)
        assert seen.y.shape == seen.dy.shape
        assert set(seen.dparams) == set(problem.params[node.name])
        for given, value in zip(node.inputs, seen.inputs, strict=True):
            assert value.tobytes() == (problem.inputs[given] if given in problem.inputs else trace[given].y).tobytes()


def test_a_trace_gives_the_gradients_of_the_run(draw_small, layers):
    problem = draw_small(6, "float32")
    program = NumpyReference().prepare(problem.case.network, "float32", layers)
    gradients, trace = program.run(problem).gradients, program.trace(problem)
    for name, seen in trace.items():
        for key, value in seen.dparams.items():
            assert value.tobytes() == gradients[f"{name}.{key}"].tobytes()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ReLU, ""),
        (Overwrites, "forward changed its input"),
        (OverwritesUpstream, "backward changed the upstream gradient"),
    ],
)
def test_a_layer_that_changes_what_it_is_given_is_seen(draw_small, kind, message):
    assert message in _trace(draw_small(2, alone="relu"), kind).contract
    assert bool(message) == bool(_trace(draw_small(2, alone="relu"), kind).contract)


def test_labels_get_no_gradient(draw_small, layers):
    problem = draw_small(1, alone="mean_squared_error")
    outcome = NumpyReference().prepare(problem.case.network, "float64", layers).run(problem)
    assert set(outcome.gradients) == {"x"}


def test_phases_give_what_a_run_gives(draw_small, layers):
    problem = draw_small(3)
    program = NumpyReference().prepare(problem.case.network, "float64", layers)
    phases, outcome = program.phases(problem), program.run(problem)
    assert phases["forward"]().tobytes() == outcome.y.tobytes()
    assert phases["backward"]()["x"].tobytes() == outcome.gradients["x"].tobytes()
    y, gradients = phases["forward+backward"]()
    assert y.tobytes() == outcome.y.tobytes()
    assert gradients["x"].tobytes() == outcome.gradients["x"].tobytes()


def test_a_frozen_problem_cannot_be_changed_by_a_layer(draw_small):
    problem = draw_small(2, alone="relu")
    with pytest.raises(ValueError, match="read-only"):
        Overwrites().forward(freeze(problem.inputs["x"]))
