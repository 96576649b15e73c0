"""Style 13: a graph of scalars that keep their own gradients."""

import math

import numpy as np

from harness import LayerSpec
from harness.styles import from_graph_values


class Value:
    def __init__(self, data, parents=(), pull=lambda grad: ()):
        self.data, self.grad, self.parents, self.pull = data, 0.0, parents, pull

    def __add__(self, other):
        other = other if isinstance(other, Value) else type(self)(other)
        return type(self)(self.data + other.data, (self, other), lambda grad: (grad, grad))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else type(self)(other)
        return type(self)(self.data * other.data, (self, other), lambda grad: (grad * other.data, grad * self.data))

    def tanh(self):
        t = math.tanh(self.data)
        return type(self)(t, (self,), lambda grad: (grad * self.slope(t),))

    def slope(self, t):
        return 1 - t * t

    def backward(self):
        order, seen = [], set()

        def visit(node):
            if id(node) not in seen:
                seen.add(id(node))
                for parent in node.parents:
                    visit(parent)
                order.append(node)

        visit(self)
        self.grad = 1.0
        for node in reversed(order):
            for parent, grad in zip(node.parents, node.pull(node.grad), strict=True):
                parent.grad += grad


class WrongValue(Value):
    def slope(self, t):
        return 1 - t


def neurons(x, W, b):
    return np.tanh(x @ W + b)  # of arrays of objects, NumPy calls the methods of each


def formula(xp, params, x):
    return xp.tanh(x @ params["W"] + params["b"])


def draw_params(rng):
    return {"W": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}


right = LayerSpec(from_graph_values(Value, neurons), formula, inputs=[(4, 3)], params=draw_params, name="neurons")
wrong = LayerSpec(from_graph_values(WrongValue, neurons), formula, inputs=[(4, 3)], params=draw_params, name="wrong_neurons")
SETTINGS = {"dtypes": ["float32"]}  # Python's floats have one precision: their rounding noise cannot be told
FINDS = ("gradients", "is 1 - y instead of 1 - y^2, with y its output")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report", **SETTINGS))
