"""Style 8: an activation and its derivative, which is written in terms of the output."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_activation


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_prime(y):
    return y * (1 - y)


def formula(xp, params, x):
    return 1 / (1 + xp.exp(-x))


right = LayerSpec(from_activation(sigmoid, sigmoid_prime, at="output"), formula, inputs=[(8, 5)])
wrong = LayerSpec(from_activation(sigmoid, sigmoid_prime, at="input"), formula, inputs=[(8, 5)])
FINDS = ("gradients", "the derivative y (1 - y) is taken at the input instead of the output")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
