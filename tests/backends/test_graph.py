"""Graphs come in; the values, branches and names that every backend shares go out."""

from __future__ import annotations

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.backends.graph import decide, evaluate, has_native, name_gradients, pick_calls, split_inputs
from harness.core import NetworkSpec, NodeSpec

DIAMOND = NetworkSpec(
    {"x": 2},
    (
        NodeSpec("relu1", "relu", ("x",), 2),
        NodeSpec("multiply1", "multiply", ("relu1", "x"), 2),
        NodeSpec("add1", "add", ("multiply1", "relu1"), 2),
    ),
    1,
)
X = np.array([[-2.0, 3.0]])


def test_a_graph_is_evaluated_in_order_with_values_used_twice(layers):
    call = pick_calls(DIAMOND, layers, make_numpy_namespace(), "numpy", None)
    values = evaluate(DIAMOND, call, {}, {"x": X})
    assert {name: value.tolist() for name, value in values.items()} == {
        "x": [[-2.0, 3.0]],
        "relu1": [[0.0, 3.0]],
        "multiply1": [[0.0, 9.0]],
        "add1": [[0.0, 12.0]],
    }


def test_branches_are_those_of_the_layers_that_have_any(layers):
    xp = make_numpy_namespace()
    values = evaluate(DIAMOND, pick_calls(DIAMOND, layers, xp, "numpy", None), {}, {"x": X})
    assert {name: value.tolist() for name, value in decide(DIAMOND, layers, xp, {}, values).items()} == {"relu1": [[False, True]]}


def test_a_native_op_is_called_only_where_there_is_one_and_it_is_wanted():
    class Toy:
        native = {"torch": lambda module, params, x: ("native", module)}

        @staticmethod
        def formula(xp, params, x):
            return "formula"

    network = NetworkSpec({"x": 1}, (NodeSpec("n", "toy", ("x",), 1),), 1)
    node, layers = network.nodes[0], {"toy": Toy}
    assert pick_calls(network, layers, None, "torch", "module")(node, {}, 1) == ("native", "module")
    assert pick_calls(network, layers, None, "torch", None)(node, {}, 1) == "formula"
    assert pick_calls(network, layers, None, "jax", "module")(node, {}, 1) == "formula"
    assert has_native(layers, network, "torch")
    assert not has_native(layers, network, "jax")


def test_inputs_are_split_into_those_that_are_differentiated_and_the_constants(draw_small):
    problem = draw_small(1, alone="softmax_cross_entropy")
    variable, constants = split_inputs(problem)
    assert set(variable) == {"x"}
    assert set(constants) == {"t"}


def test_gradients_are_named_by_node_and_parameter_and_by_input():
    assert name_gradients({"affine1": {"W": 1, "b": 2}}, {"x": 3}) == {"affine1.W": 1, "affine1.b": 2, "x": 3}
