"""Style 2: parameters and gradients in two lists, the gradients overwritten in place."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_lists


class MatMul:
    def __init__(self):
        W = np.random.default_rng(0).standard_normal((4, 4))
        self.params, self.grads = [W], [np.zeros_like(W)]

    def forward(self, x):
        (W,) = self.params
        self.x = x
        return x @ W

    def backward(self, dout):
        (W,) = self.params
        self.grads[0][...] = self.x.T @ dout
        return dout @ W.T


class MatMulNotTransposed(MatMul):
    def backward(self, dout):
        super().backward(dout)
        return dout @ self.params[0]


def formula(xp, params, x):
    return x @ params["W"]


right = LayerSpec(from_lists(MatMul, names=["W"]), formula, inputs=[(6, 4)])
wrong = LayerSpec(from_lists(MatMulNotTransposed, names=["W"]), formula, inputs=[(6, 4)])
FINDS = ("gradients", "the parameter W is transposed where it must not be, or not where it must")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
