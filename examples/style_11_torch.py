"""Style 11: a `torch.autograd.Function` with a backward of its own, and an argument that is no tensor."""

import torch

from harness import LayerSpec
from harness.styles import from_torch


class LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x)
        ctx.slope = slope
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, dy, ctx.slope * dy), None


class LeakyReLUOfReLU(LeakyReLU):
    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, dy, torch.zeros_like(dy)), None


def formula(xp, params, x):
    return xp.where(x > 0, x, 0.25 * x)


right = LayerSpec(from_torch(LeakyReLU, extra=[0.25]), formula, inputs=[(8, 5)])
wrong = LayerSpec(from_torch(LeakyReLUOfReLU, extra=[0.25]), formula, inputs=[(8, 5)])
FINDS = ("gradients", "0 instead of 0.25, in the derivative where(x > 0, 1, 0.25)")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
