"""A network and batches come in; the step that gradient descent takes, and what it leaves alone, is held."""

from __future__ import annotations

import numpy as np
import pytest

from reference_layers import Affine, MeanSquaredError, Network, Node, ReLU, SoftmaxCrossEntropy, descend


def line(dtype="float64"):
    """Return a network that fits a line, its parameters, and a batch."""
    W, b = np.array([[0.5], [-1.0]], dtype), np.array([0.25], dtype)
    nodes = [Node("line", Affine(W, b), ("x",)), Node("loss", MeanSquaredError(), ("line", "t"))]
    batch = {"x": np.array([[1.0, 2.0], [-3.0, 0.5]], dtype), "t": np.array([[1.0], [2.0]], dtype)}
    return Network(nodes, ["x", "t"]), (W, b), batch


def test_every_parameter_moves_against_its_gradient():
    network, (W, b), batch = line()
    difference = batch["x"] @ W + b - batch["t"]
    (loss,) = descend(network, [batch], learning_rate=0.5)
    assert loss == (difference**2).sum() / 4
    assert np.array_equal(network.params["line.W"], W - 0.5 * (batch["x"].T @ (difference / 2)))
    assert np.array_equal(network.params["line.b"], b - 0.5 * (difference / 2).sum(axis=0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.1, 1, np.float64(0.1), np.float32(0.1)])
def test_the_dtype_stays(dtype, rate):
    network, _, batch = line(dtype)
    losses = list(descend(network, [batch] * 3, learning_rate=rate))
    assert {value.dtype for value in network.params.values()} == {np.dtype(dtype)}
    assert [type(loss) for loss in losses] == [float] * 3


def test_the_callers_arrays_stay_as_they_are():
    network, params, batch = line()
    arrays = [*params, *batch.values()]
    before = [value.copy() for value in arrays]
    list(descend(network, [batch] * 5, learning_rate=0.1))
    assert all(np.array_equal(now, then) for now, then in zip(arrays, before, strict=True))
    assert not np.array_equal(network.params["line.W"], params[0])


def test_each_loss_is_that_before_its_step_and_is_computed_when_asked_for():
    network, (W, _), batch = line()
    steps = descend(network, (batch for _ in range(3)), learning_rate=0.05)
    assert np.array_equal(network.params["line.W"], W)
    expected = [float(network.forward(batch))]
    found = [next(steps)]
    expected.append(float(network.forward(batch)))
    found.append(next(steps))
    assert found == expected
    assert found[1] < found[0]


def test_a_classifier_learns_what_no_line_can_tell():
    rng = np.random.default_rng(0)
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    nodes = [
        Node("hidden", Affine(rng.standard_normal((2, 16)), rng.standard_normal(16)), ("x",)),
        Node("open", ReLU(), ("hidden",)),
        Node("logits", Affine(rng.standard_normal((16, 2)), np.zeros(2)), ("open",)),
        Node("loss", SoftmaxCrossEntropy(), ("logits", "t")),
    ]
    batch = {"x": x, "t": np.array([0, 1, 1, 0])}
    losses = list(descend(Network(nodes, ["x", "t"]), [batch] * 300, learning_rate=0.3))
    assert losses[-1] < 0.05 < losses[0]


def test_a_parameter_that_the_loss_does_not_feel_stays():
    network, _, batch = line()
    idle = Affine(np.ones((2, 2)), np.ones(2))
    wider = Network([*network.nodes, Node("idle", idle, ("x",))], network.inputs, network.output)
    list(descend(wider, [batch], learning_rate=0.5))
    assert np.array_equal(idle.params["W"], np.ones((2, 2)))
