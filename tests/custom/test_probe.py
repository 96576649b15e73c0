"""Formulas come in; which operations the probe sees in them, and that looking changes nothing, must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness.array_api import make_autograd_namespace, make_numpy_namespace
from harness.backends.autograd_hips import differentiate
from harness.custom.probe import Tape, detach, stand_in
from reference_layers import Affine, Sigmoid, SoftmaxCrossEntropy

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])


def watch(formula, params, *inputs):
    seen = []
    value = Tape(lambda call: seen.append(call.operation)).run(formula, params, inputs)
    return value, seen


def test_operations_are_seen_in_their_order_with_their_numbers_and_texts():
    value, seen = watch(lambda xp, params, x: 2 - xp.sum(x * x, axis=1) / params["c"], {"c": np.array(4.0)}, X)
    assert [one.text for one in seen] == [
        "x * x",
        "xp.sum(x * x, axis=1)",
        "xp.sum(x * x, axis=1) / c",
        "2 - (xp.sum(x * x, axis=1) / c)",
    ]
    np.testing.assert_array_equal(seen[0].value, X * X)
    assert seen[3].constants == {0: 2.0}
    np.testing.assert_array_equal(value, 2 - (X * X).sum(1) / 4)


def test_numbers_arrays_lists_and_indices_on_either_side_are_taken():
    y, seen = watch(lambda xp, params, x: np.ones(3) + xp.concat([x[:1], -x[1:]], axis=0).T.T, {}, X)
    np.testing.assert_array_equal(y, 1 + np.concatenate([X[:1], -X[1:]]))
    assert [one.name for one in seen] == ["[]", "[]", "neg", "xp.concat", "T", "T", "+"]
    assert watch(lambda xp, params, x: xp.where((x > 0) & ~(x > 1), x, 0.0), {}, X)[0].tolist() == [[0.5, 0, 0], [0, 0.25, 0]]


@pytest.mark.parametrize("kind", [Affine, Sigmoid, SoftmaxCrossEntropy], ids=lambda kind: kind.name)
def test_looking_changes_neither_value_nor_gradient(kind):
    params = {"W": X.T.copy(), "b": np.array([1.0, -2.0])} if kind is Affine else {}
    others = (np.eye(3)[[0, 2]],) if kind is SoftmaxCrossEntropy else ()
    y = np.asarray(kind.formula(make_numpy_namespace(), params, X, *others))
    dy = np.arange(1.0, 1 + y.size).reshape(y.shape)
    plain = differentiate(lambda x: kind.formula(make_autograd_namespace(), params, x, *others), X, dy)
    watched = differentiate(lambda x: Tape(lambda call: None).run(kind.formula, params, [x, *others]), X, dy)
    np.testing.assert_array_equal(plain[0], watched[0])
    np.testing.assert_array_equal(plain[1], watched[1])


def test_a_tamper_changes_the_gradient_and_leaves_the_value():
    def formula(xp, params, x):
        return xp.exp(x)

    _, gradient = differentiate(
        lambda x: Tape(lambda call: stand_in(call.value, call.arguments[0])).run(formula, {}, [x]), X, np.ones((2, 3))
    )
    np.testing.assert_allclose(gradient, np.ones((2, 3)), rtol=0, atol=0)
    value, gradient = differentiate(
        lambda x: Tape(lambda call: detach(call.value)).run(lambda xp, p, x: xp.exp(x) + x, {}, [x]), X, X
    )
    assert not gradient.any()
    np.testing.assert_array_equal(value, np.exp(X) + X)
