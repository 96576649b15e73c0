"""Style 5: renamed passes, and an optimizer that updates the weights within the backward pass."""

import copy

import numpy as np

from harness import LayerSpec
from harness.styles import adjust, from_updating


class Dense:
    def __init__(self):
        rng = np.random.default_rng(0)
        self.W, self.w0 = rng.standard_normal((5, 3)), np.zeros((1, 3))

    def initialize(self, optimizer):
        self.W_opt, self.w0_opt = copy.copy(optimizer), copy.copy(optimizer)

    def forward_pass(self, X):
        self.layer_input = X
        return X @ self.W + self.w0

    def backward_pass(self, accum_grad):
        W = self.W
        self.W = self.W_opt.update(self.W, self.layer_input.T @ accum_grad / len(accum_grad))
        self.w0 = self.w0_opt.update(self.w0, accum_grad.sum(axis=0, keepdims=True) / len(accum_grad))
        return accum_grad @ W.T


class DenseNegated(Dense):
    def backward_pass(self, accum_grad):
        super().backward_pass(accum_grad)
        return -accum_grad @ self.W.T


def formula(xp, params, x):
    return x @ params["W"] + params["w0"]


def wrap(kind):
    caught = from_updating(kind, ["W", "w0"], install=kind.initialize, forward="forward_pass", backward="backward_pass")
    return adjust(caught, gradient_scale=lambda x: 1 / max(len(x), 1))


right = LayerSpec(wrap(Dense), formula, inputs=[(8, 5)])
wrong = LayerSpec(wrap(DenseNegated), formula, inputs=[(8, 5)])
FINDS = ("gradients", "dx: its sign is wrong")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
