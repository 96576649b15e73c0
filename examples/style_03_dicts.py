"""Style 3: parameters and gradients in dicts, made at the first forward pass; gradients add up until they are reset."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_dicts


class LazyScale:
    def __init__(self):
        self.params, self.gradients = {}, {}

    def forward(self, x):
        if not self.params:
            self.params = {"gamma": np.linspace(0.5, 1.5, x.shape[1])}
        self.x = x
        return x * self.params["gamma"]

    def zero_grad(self):
        self.gradients.clear()

    def backward(self, dout):
        self.gradients["gamma"] = self.gradients.get("gamma", 0) + (dout * self.x).sum(axis=0)
        return dout * self.params["gamma"]


class LazyScaleWithoutX(LazyScale):
    def backward(self, dout):
        dx = super().backward(dout)
        self.gradients["gamma"] = dout.sum(axis=0)
        return dx


def formula(xp, params, x):
    return x * params["gamma"]


def wrap(kind):
    return from_dicts(kind, grads="gradients", reset=lambda layer: layer.zero_grad(), first=[np.ones((1, 4))])


right = LayerSpec(wrap(LazyScale), formula, inputs=[(6, 4)])
wrong = LayerSpec(wrap(LazyScaleWithoutX), formula, inputs=[(6, 4)])
FINDS = ("gradients", "dgamma: the factor x is missing")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
