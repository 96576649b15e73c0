"""Style 4: backward returns dX and a list of the parameters' gradients."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_returned


class Dense:
    def __init__(self, n_in=5, n_out=3):
        rng = np.random.default_rng(0)
        self.W, self.b = rng.standard_normal((n_in, n_out)), rng.standard_normal((1, n_out))

    def forward(self, X):
        self.X = X
        return X @ self.W + self.b

    def backward(self, dY):
        return dY @ self.W.T, [self.X.T @ dY, dY.sum(axis=0, keepdims=True)]


class DenseWithoutLastRow(Dense):
    def backward(self, dY):
        return dY @ self.W.T, [self.X[:-1].T @ dY[:-1], dY.sum(axis=0, keepdims=True)]


def formula(xp, params, x):
    return x @ params["W"] + params["b"]


right = LayerSpec(from_returned(Dense, params=["W", "b"]), formula, inputs=[(8, 5)])
wrong = LayerSpec(from_returned(DenseWithoutLastRow, params=["W", "b"]), formula, inputs=[(8, 5)])
FINDS = ("gradients", "row 7 of the batch is left out, the last of 8")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
