"""Style 6: outputs and gradients are attributes, and backward adds into a buffer of the caller's."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_buffers


class Blob:
    def __init__(self):
        self.data = self.diff = None


class TanhNode:
    def __init__(self):
        self.bottom, self.top = Blob(), Blob()

    def forward(self):
        self.top.data = np.tanh(self.bottom.data)

    def backward(self):
        self.bottom.diff += self.top.diff * (1 - self.top.data**2)


class TanhNodeAtInput(TanhNode):
    def backward(self):
        self.bottom.diff += self.top.diff * (1 - self.bottom.data**2)


def formula(xp, params, x):
    return xp.tanh(x)


places = {"inputs": ["bottom.data"], "output": "top.data", "upstream": "top.diff", "gradients": ["bottom.diff"]}
right = LayerSpec(from_buffers(TanhNode, **places), formula, inputs=[(6, 4)])
wrong = LayerSpec(from_buffers(TanhNodeAtInput, **places), formula, inputs=[(6, 4)])
FINDS = ("gradients", "the derivative 1 - y^2 is taken at the input instead of the output")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
