"""Style 1: forward and backward, with parameters and gradients as attributes."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_attributes


class Affine:
    def __init__(self):
        rng = np.random.default_rng(0)
        self.W, self.b = rng.standard_normal((5, 3)), rng.standard_normal(3)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T


class AffineOfMeans(Affine):
    def backward(self, dout):
        dx = super().backward(dout)
        self.db = dout.mean(axis=0)
        return dx


def formula(xp, params, x):
    return x @ params["W"] + params["b"]


right = LayerSpec(from_attributes(Affine, params=["W", "b"]), formula, inputs=[(8, 5)])
wrong = LayerSpec(from_attributes(AffineOfMeans, params=["W", "b"]), formula, inputs=[(8, 5)])
FINDS = ("gradients", "db: it is 1/8 of the truth, and 8 is the batch")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
