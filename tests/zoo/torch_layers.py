"""Layers as `torch.autograd.Function`s with a backward pass by hand, with the mistakes that are made there."""

from __future__ import annotations

import math

import torch

from harness.custom.spec import LayerSpec
from harness.styles import from_torch
from tests.zoo import activations, attention, losses, normalizations, references
from tests.zoo.zoo import RightLayer, plant


def twin(name, function, formula, inputs, **more):
    return RightLayer(f"torch-{name}", LayerSpec(from_torch(function), formula, inputs, name=f"{name}_torch", **more), "torch")


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, dy):
        x, s = ctx.saved_tensors
        return dy * s * (1 + x * (1 - s))


class SwishOneLost(Swish):
    @staticmethod
    def backward(ctx, dy):
        x, s = ctx.saved_tensors
        return dy * s * x * (1 - s)


class SwishOnePercent(Swish):
    @staticmethod
    def backward(ctx, dy):
        return 0.99 * Swish.backward(ctx, dy)


swish = twin("swish", Swish, activations.swish_formula, [(8, 5)])


class GeluTanh(torch.autograd.Function):
    root, cubic = math.sqrt(2 / math.pi), 0.044715

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * x * (1 + torch.tanh(GeluTanh.root * (x + GeluTanh.cubic * x**3)))

    @staticmethod
    def backward(ctx, dy):
        return GeluTanh.pull(ctx, dy, GeluTanh.root * (1 + 3 * GeluTanh.cubic * ctx.saved_tensors[0] ** 2))

    @staticmethod
    def pull(ctx, dy, inner):
        (x,) = ctx.saved_tensors
        t = torch.tanh(GeluTanh.root * (x + GeluTanh.cubic * x**3))
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)


class GeluShortRoot(GeluTanh):
    @staticmethod
    def backward(ctx, dy):
        return GeluTanh.pull(ctx, dy, 0.79 * (1 + 3 * GeluTanh.cubic * ctx.saved_tensors[0] ** 2))


class GeluInnerLost(GeluTanh):
    @staticmethod
    def backward(ctx, dy):
        return GeluTanh.pull(ctx, dy, 1.0)


gelu_tanh = twin("gelu_tanh", GeluTanh, activations.gelu_tanh_formula, [(5, 9)])


class LeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, 0.01 * x)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, dy, 0.01 * dy)


class LeakyByMagnitude(LeakyReLU):
    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() > 0.01, dy, 0.01 * dy)


class LeakyUnsigned(LeakyReLU):
    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, dy, 0.01 * dy) * dy.sign()


leaky_relu = twin("leaky_relu", LeakyReLU, activations.leaky_formula, [(7, 6)])


class LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta):
        mean = x.mean(-1, keepdim=True)
        inv = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
        hat = (x - mean) * inv
        ctx.save_for_backward(hat, inv, gamma)
        return hat * gamma + beta

    @staticmethod
    def backward(ctx, dy):
        hat, inv, gamma = ctx.saved_tensors
        d = dy * gamma
        dx = inv * (d - d.mean(-1, keepdim=True) - hat * (d * hat).mean(-1, keepdim=True))
        return dx, (dy * hat).sum(0), dy.sum(0)


def layer_norm_formula(xp, params, x, gamma, beta):
    return normalizations.layer_norm_formula(xp, {"gamma": gamma, "beta": beta}, x)


class LayerNormUnbiased(LayerNorm):
    @staticmethod
    def forward(ctx, x, gamma, beta):
        inv = torch.rsqrt(x.var(-1, keepdim=True) + 1e-5)
        hat = (x - x.mean(-1, keepdim=True)) * inv
        ctx.save_for_backward(hat, inv, gamma)
        return hat * gamma + beta


class LayerNormMeanLost(LayerNorm):
    @staticmethod
    def backward(ctx, dy):
        hat, inv, gamma = ctx.saved_tensors
        d = dy * gamma
        return inv * (d - hat * (d * hat).mean(-1, keepdim=True)), (dy * hat).sum(0), dy.sum(0)


class LayerNormSwapped(LayerNorm):
    @staticmethod
    def backward(ctx, dy):
        dx, dgamma, dbeta = LayerNorm.backward(ctx, dy)
        return dx, dbeta, dgamma


class LayerNormBetaNone(LayerNorm):
    @staticmethod
    def backward(ctx, dy):
        dx, dgamma, _ = LayerNorm.backward(ctx, dy)
        return dx, dgamma, None


layer_norm = twin("layer_norm", LayerNorm, layer_norm_formula, [(8, 6), (6,), (6,)])


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gain):
        inv = torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5)
        ctx.save_for_backward(x, inv, gain)
        return x * inv * gain

    @staticmethod
    def backward(ctx, dy):
        x, inv, gain = ctx.saved_tensors
        d = dy * gain
        dx = d * inv - x * inv**3 * (d * x).mean(1, keepdim=True)
        return dx, (dy * x * inv).sum(0)


class RMSNormSum(RMSNorm):
    @staticmethod
    def backward(ctx, dy):
        x, inv, gain = ctx.saved_tensors
        d = dy * gain
        return d * inv - x * inv**3 * (d * x).sum(1, keepdim=True), (dy * x * inv).sum(0)


class RMSNormGainOfFirst(RMSNorm):
    @staticmethod
    def backward(ctx, dy):
        x, inv, _ = ctx.saved_tensors
        return RMSNorm.backward(ctx, dy)[0], (dy * x * inv)[1:].sum(0)


def rms_norm_formula(xp, params, x, gain):
    return normalizations.rms_norm_formula(xp, {"gain": gain}, x)


rms_norm = twin("rms_norm", RMSNorm, rms_norm_formula, [(6, 7), (7,)])


class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        p = torch.softmax(x, 1)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx, dy):
        (p,) = ctx.saved_tensors
        return p * (dy - (dy * p).sum(1, keepdim=True))


class SoftmaxDiagonal(Softmax):
    @staticmethod
    def backward(ctx, dy):
        (p,) = ctx.saved_tensors
        return torch.bmm(torch.diag_embed(p * (1 - p)), dy[:, :, None])[:, :, 0]


class SoftmaxColumns(Softmax):
    @staticmethod
    def backward(ctx, dy):
        (p,) = ctx.saved_tensors
        return p * (dy - (dy * p).sum(0, keepdim=True))


softmax = twin("softmax", Softmax, attention.softmax_formula, [(7, 5)])


class Attention(torch.autograd.Function):
    """Causal, of one head; the mask as a lower triangle."""

    @staticmethod
    def forward(ctx, q, k, v):
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        p = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, dy):
        return Attention.pull(ctx, dy, 1 / math.sqrt(dy.shape[-1]))

    @staticmethod
    def pull(ctx, dy, scale):
        q, k, v, p = ctx.saved_tensors
        dp = dy @ v.mT
        ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * scale
        return ds @ k, ds.mT @ q, p.mT @ dy


class AttentionUnscaled(Attention):
    @staticmethod
    def backward(ctx, dy):
        return Attention.pull(ctx, dy, 1.0)


class AttentionValuesUntransposed(Attention):
    @staticmethod
    def backward(ctx, dy):
        dq, dk, _ = Attention.backward(ctx, dy)
        return dq, dk, ctx.saved_tensors[3] @ dy


class AttentionKeysDetached(Attention):
    @staticmethod
    def backward(ctx, dy):
        dq, _, dv = Attention.backward(ctx, dy)
        return dq, None, dv


sdpa = twin("attention", Attention, attention.attention_formula, [(3, 4, 4)] * 3)


class Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W, b):
        ctx.save_for_backward(x, W)
        return x @ W + b

    @staticmethod
    def backward(ctx, dy):
        x, W = ctx.saved_tensors
        return dy @ W.T, x.T @ dy, dy.sum(0)


class LinearBiasMean(Linear):
    @staticmethod
    def backward(ctx, dy):
        dx, dW, _ = Linear.backward(ctx, dy)
        return dx, dW, dy.mean(0)


class LinearWeightsTransposed(Linear):
    @staticmethod
    def backward(ctx, dy):
        dx, dW, db = Linear.backward(ctx, dy)
        return dx, dW.T, db


class LinearInHalf(Linear):
    """As in mixed precision, but without a reason."""

    @staticmethod
    def backward(ctx, dy):
        x, W = ctx.saved_tensors
        return (dy.half() @ W.half().T).to(dy.dtype), x.T @ dy, dy.sum(0)


class LinearNoisy(Linear):
    @staticmethod
    def backward(ctx, dy):
        dx, dW, db = Linear.backward(ctx, dy)
        return dx, dW + 0.01 * torch.randn_like(dW), db


def linear_formula(xp, params, x, W, b):
    return references.affine.spec.formula(xp, {"W": W, "b": b}, x)


linear = twin("linear", Linear, linear_formula, [(8, 5), (5, 5), (5,)])


class Huber(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, t):
        r = y - t
        ctx.save_for_backward(r)
        size = r.abs()
        return torch.where(size <= losses.DELTA, r * r / 2, losses.DELTA * (size - losses.DELTA / 2)).mean()

    @staticmethod
    def backward(ctx, dy):
        (r,) = ctx.saved_tensors
        d = dy * r.clamp(-losses.DELTA, losses.DELTA) / r.numel()
        return d, -d


class HuberTargetSame(Huber):
    @staticmethod
    def backward(ctx, dy):
        d, _ = Huber.backward(ctx, dy)
        return d, d.clone()


class HuberOverBatch(Huber):
    @staticmethod
    def backward(ctx, dy):
        return tuple(d * ctx.saved_tensors[0].shape[1] for d in Huber.backward(ctx, dy))


class HuberOfOne(Huber):
    @staticmethod
    def backward(ctx, dy):
        return Huber.backward(ctx, torch.ones_like(dy))


huber = twin("huber", Huber, losses.huber_formula, losses.draw_outliers)


class ReversedCumulative(torch.autograd.Function):
    """The running sum along a row, whose gradient runs the other way."""

    @staticmethod
    def forward(ctx, x):
        return x.cumsum(1)

    @staticmethod
    def backward(ctx, dy):
        return dy.flip(1).cumsum(1).flip(1)


def cumulative_formula(xp, params, x):
    return xp.stack([xp.sum(x[:, : i + 1], axis=1) for i in range(x.shape[1])], axis=1)


class CumulativeForward(ReversedCumulative):
    @staticmethod
    def backward(ctx, dy):
        return dy.cumsum(1)


class CumulativeUnflipped(ReversedCumulative):
    @staticmethod
    def backward(ctx, dy):
        return dy.flip(1).cumsum(1)


class CumulativeClamped(ReversedCumulative):
    @staticmethod
    def backward(ctx, dy):
        return ReversedCumulative.backward(ctx, dy).clamp(-1, 1)


cumulative = twin("cumulative", ReversedCumulative, cumulative_formula, [(5, 6)])

RIGHT = (swish, gelu_tanh, leaky_relu, layer_norm, rms_norm, softmax, sdpa, linear, huber, cumulative)
FAULTS = tuple(
    plant(right, name, from_torch(function), causes, why, found_by[0] if found_by else "gradients")
    for right, name, function, causes, why, *found_by in (
        (swish, "one-lost", SwishOneLost, "missing-term", "the 1 of 1 + x (1 - s) is missing"),
        (swish, "one-percent", SwishOnePercent, "factor", "1 % too small"),
        (gelu_tanh, "short-root", GeluShortRoot, "constant", "0.79 for sqrt(2 / pi)"),
        (gelu_tanh, "inner-lost", GeluInnerLost, "missing-factor", "the inner derivative is missing"),
        (leaky_relu, "by-magnitude", LeakyByMagnitude, "mask", "the gate looks at the magnitude of x"),
        (leaky_relu, "unsigned", LeakyUnsigned, "cotangent-changed", "the magnitude of dy stands for dy"),
        (layer_norm, "unbiased", LayerNormUnbiased, "size-factor", "var() divides by n - 1", "forward gradients"),
        (layer_norm, "mean-lost", LayerNormMeanLost, "missing-term", "the mean is treated as a constant"),
        (layer_norm, "swapped", LayerNormSwapped, "swapped", "dgamma and dbeta are returned the wrong way round"),
        (layer_norm, "beta-none", LayerNormBetaNone, "zero", "None is returned for beta"),
        (rms_norm, "sum-for-mean", RMSNormSum, "size-factor", "the second term is not divided by the width"),
        (rms_norm, "gain-without-first", RMSNormGainOfFirst, "dropped-row", "dgain sums from the second row"),
        (softmax, "diagonal", SoftmaxDiagonal, "diagonal-only", "only the diagonal of the Jacobian"),
        (softmax, "columns", SoftmaxColumns, "wrong-axis", "the sum is over the batch"),
        (sdpa, "unscaled", AttentionUnscaled, "missing-factor factor size-factor", "1 / sqrt(d) is missing in backward"),
        (sdpa, "values-untransposed", AttentionValuesUntransposed, "transposed", "p for its transpose in dv"),
        (sdpa, "keys-none", AttentionKeysDetached, "zero", "None is returned for the keys"),
        (linear, "bias-mean", LinearBiasMean, "size-factor", "db is the mean over the batch"),
        (linear, "weights-transposed", LinearWeightsTransposed, "transposed", "dW is transposed"),
        (linear, "in-half", LinearInHalf, "cast", "dx is computed in float16"),
        (linear, "noisy", LinearNoisy, "nondeterministic", "noise is added to dW", "gradients deterministic"),
        (huber, "target-same", HuberTargetSame, "sign swapped", "the target's gradient lacks its minus"),
        (huber, "by-rows", HuberOverBatch, "size-factor factor", "divided by the rows, not by the entries"),
        (huber, "of-one", HuberOfOne, "cotangent-ignored", "dy is taken as 1"),
        (cumulative, "forward", CumulativeForward, "order transposed", "the running sum goes the same way as in forward"),
        (cumulative, "unflipped", CumulativeUnflipped, "order", "the gradient is not turned back"),
        (cumulative, "clamped", CumulativeClamped, "clipped", "gradients are clamped to [-1, 1]"),
    )
)
