"""Softmax and scaled dot-product attention by hand, the latter causal, with gradients for queries, keys and values."""

from __future__ import annotations

import math

import numpy as np

from harness.custom.spec import LayerSpec
from harness.styles import from_functions
from tests.zoo.zoo import RightLayer, plant


def softmax_forward(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p, (p.copy(), x)


def softmax_backward(dp, cache):
    p, _ = cache
    return np.einsum("ij,ijk->ik", dp, np.einsum("ij,jk->ijk", p, np.eye(p.shape[1], dtype=p.dtype)) - p[:, :, None] * p[:, None])


def softmax_formula(xp, params, x):
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


softmax = RightLayer(
    "softmax", LayerSpec(from_functions(softmax_forward, softmax_backward), softmax_formula, [(7, 5)], name="softmax")
)


def softmax_backward_diagonal(dp, cache):
    p, _ = cache
    return dp * p * (1 - p)


def softmax_backward_first_term(dp, cache):
    return dp * cache[0]


def softmax_backward_columns(dp, cache):
    p, _ = cache
    return p * (dp - (dp * p).sum(axis=0, keepdims=True))


def softmax_backward_mean(dp, cache):
    p, _ = cache
    return p * (dp - (dp * p).mean(axis=-1, keepdims=True))


def softmax_backward_unweighted(dp, cache):
    p, _ = cache
    return p * (dp - dp.sum(axis=-1, keepdims=True))


def softmax_backward_squared(dp, cache):
    p, _ = cache
    return p * p * (dp - (dp * p).sum(axis=-1, keepdims=True))


def softmax_backward_turned(dp, cache):
    p, _ = cache
    return p * ((dp * p).sum(axis=-1, keepdims=True) - dp)


def softmax_backward_of_scores(dp, cache):
    _, x = cache
    return x * (dp - (dp * x).sum(axis=-1, keepdims=True))


def softmax_backward_of_ones(dp, cache):
    p, _ = cache
    return p * (1 - p)


class Attention:
    """Queries, keys and values (N, T, D); a position sees itself and what is before it."""

    def forward(self, q, k, v):
        self.q, self.k, self.v = q, k, v
        self.p = self.weigh(np.einsum("ntd,nsd->nts", q, k) / math.sqrt(q.shape[-1]), self.visible(q.shape[1]))
        return np.einsum("nts,nsd->ntd", self.p, v)

    def visible(self, length):
        return np.tril(np.ones((length, length), bool))

    def weigh(self, scores, visible):
        scores = np.where(visible, scores, -np.inf)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def backward(self, dy):
        dp = np.einsum("ntd,nsd->nts", dy, self.v)
        ds = self.unscale(self.pull(self.p, dp))
        return np.einsum("nts,nsd->ntd", ds, self.k), np.einsum("nts,ntd->nsd", ds, self.q), self.values(dy)

    def pull(self, p, dp):
        return p * (dp - (p * dp).sum(-1, keepdims=True))

    def unscale(self, ds):
        return ds / math.sqrt(self.q.shape[-1])

    def values(self, dy):
        return np.einsum("nts,ntd->nsd", self.p, dy)


def attention_formula(xp, params, q, k, v):
    scores = xp.matmul(q, xp.permute_dims(k, (0, 2, 1))) / math.sqrt(q.shape[2])
    place = xp.arange(q.shape[1])
    visible = place[None, :, None] >= place[None, None, :]
    scores = xp.where(visible, scores, xp.zeros_like(scores) - 1e9)
    e = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    return xp.matmul(e / xp.sum(e, axis=-1, keepdims=True), v)


attention = RightLayer("attention", LayerSpec(Attention, attention_formula, [(3, 4, 4)] * 3))


class AttentionUnscaled(Attention):
    def unscale(self, ds):
        return ds


class AttentionByD(Attention):
    def unscale(self, ds):
        return ds / self.q.shape[-1]


class AttentionSeesAll(Attention):
    """The weights are computed again in backward, to save memory, and the mask is forgotten."""

    def backward(self, dy):
        scores = np.einsum("ntd,nsd->nts", self.q, self.k) / math.sqrt(self.q.shape[-1])
        self.p = self.weigh(scores, True)
        return super().backward(dy)


class AttentionBlindToItself(Attention):
    def pull(self, p, dp):
        return np.tril(super().pull(p, dp), -1)


class AttentionSwapped(Attention):
    def backward(self, dy):
        dq, dk, dv = super().backward(dy)
        return dk, dq, dv


class AttentionValuesForward(Attention):
    def values(self, dy):
        return np.einsum("nts,nsd->ntd", self.p, dy)


class AttentionKeysForward(Attention):
    def backward(self, dy):
        dq, _, dv = super().backward(dy)
        ds = self.unscale(self.pull(self.p, np.einsum("ntd,nsd->nts", dy, self.v)))
        return dq, ds @ self.q, dv


class AttentionDiagonal(Attention):
    def pull(self, p, dp):
        return p * (1 - p) * dp


class AttentionSumsColumns(Attention):
    def pull(self, p, dp):
        return p * (dp - (p * dp).sum(1, keepdims=True))


class AttentionLastPosition(Attention):
    def backward(self, dy):
        dq, dk, dv = super().backward(dy)
        dq[:, -1] = 0
        return dq, dk, dv


class AttentionTimeReversed(Attention):
    def backward(self, dy):
        dq, dk, dv = super().backward(dy)
        return dq, dk[:, ::-1].copy(), dv


class AttentionFirstOfBatch(Attention):
    def values(self, dy):
        dv = super().values(dy)
        dv[0] = 0
        return dv


class AttentionKeysZero(Attention):
    def backward(self, dy):
        dq, dk, dv = super().backward(dy)
        return dq, np.zeros_like(dk), dv


class AttentionValuesPassedOn(Attention):
    def values(self, dy):
        return dy.copy()


class AttentionDropsGradients(Attention):
    """What is below the mean magnitude is set to 0, as in gradient sparsification."""

    def backward(self, dy):
        return tuple(np.where(np.abs(d) < np.abs(d).mean(), 0, d) for d in super().backward(dy))


RIGHT = (softmax, attention)
FAULTS = (
    *(
        plant(softmax, name, from_functions(softmax_forward, backward), causes, why)
        for name, backward, causes, why in (
            ("diagonal", softmax_backward_diagonal, "diagonal-only", "only the diagonal of the Jacobian"),
            ("first-term", softmax_backward_first_term, "missing-term", "the sum over the row is missing"),
            ("columns", softmax_backward_columns, "wrong-axis", "the sum is over the batch"),
            ("mean", softmax_backward_mean, "size-factor", "a mean for the sum over the row"),
            ("unweighted", softmax_backward_unweighted, "missing-factor", "the sum of dy is not weighted by p"),
            ("squared", softmax_backward_squared, "extra-factor", "p stands there twice"),
            ("turned", softmax_backward_turned, "sign", "the difference is the wrong way round"),
            ("of-scores", softmax_backward_of_scores, "at-input", "x stands where p should"),
            ("of-ones", softmax_backward_of_ones, "cotangent-ignored diagonal-only", "dy is ignored, and the Jacobian diagonal"),
        )
    ),
    plant(attention, "unscaled", AttentionUnscaled, "missing-factor factor size-factor", "1 / sqrt(d) is missing in backward"),
    plant(attention, "by-d", AttentionByD, "extra-factor factor size-factor", "1 / d for 1 / sqrt(d)"),
    plant(attention, "sees-all", AttentionSeesAll, "mask", "the weights of backward are those without the mask"),
    plant(attention, "blind-to-itself", AttentionBlindToItself, "mask", "the mask of backward leaves out the diagonal"),
    plant(attention, "swapped", AttentionSwapped, "swapped", "dq and dk stand in each other's place"),
    plant(attention, "values-forward", AttentionValuesForward, "transposed", "p for its transpose in dv"),
    plant(attention, "keys-forward", AttentionKeysForward, "transposed", "ds for its transpose in dk"),
    plant(attention, "diagonal", AttentionDiagonal, "diagonal-only", "the softmax's Jacobian is taken as diagonal"),
    plant(attention, "sums-columns", AttentionSumsColumns, "wrong-axis", "the softmax's sum is over the queries"),
    plant(attention, "last-position", AttentionLastPosition, "one-slice", "the last query gets no gradient"),
    plant(attention, "time-reversed", AttentionTimeReversed, "order", "dk runs backward in time"),
    plant(attention, "first-of-batch", AttentionFirstOfBatch, "dropped-row one-slice", "the first sample gets no dv"),
    plant(attention, "keys-zero", AttentionKeysZero, "zero", "dk is left at 0"),
    plant(attention, "values-passed-on", AttentionValuesPassedOn, "identity", "dv is dy"),
    plant(attention, "sparse", AttentionDropsGradients, "mask clipped", "small entries of the gradients are set to 0"),
)
