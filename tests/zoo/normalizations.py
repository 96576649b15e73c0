"""Normalisations by hand: LayerNorm, BatchNorm in training and in evaluation, and RMSNorm."""

from __future__ import annotations

import math

import numpy as np

from harness.custom.spec import LayerSpec
from harness.styles import from_functions
from tests.zoo.zoo import RightLayer, plant

EPS = 1e-5


def draw_affine(width):
    def draw(rng):
        return {"gamma": rng.uniform(0.5, 2, width), "beta": rng.standard_normal(width)}

    return draw


def standardise(xp, x, axis, eps=EPS):
    centred = x - xp.mean(x, axis=axis, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred * centred, axis=axis, keepdims=True) + eps)


class LayerNorm:
    """Sums by einsum."""

    eps_back = EPS

    def forward(self, x):
        n = x.shape[1]
        centred = x - (np.einsum("ij->i", x) / n)[:, None]
        self.var = np.einsum("ij,ij->i", centred, centred) / n
        self.inv = (1 / np.sqrt(self.var + EPS))[:, None]
        self.hat, self.x = centred * self.inv, x
        return self.hat * self.params["gamma"] + self.params["beta"]

    def backward(self, dy):
        self.grads = {"gamma": np.einsum("ij,ij->j", dy, self.hat), "beta": np.einsum("ij->j", dy)}
        return self.pull(dy * self.params["gamma"])

    def pull(self, d):
        n = d.shape[1]
        along = np.einsum("ij,ij->i", d, self.hat)[:, None]
        return self.inv * (d - np.einsum("ij->i", d)[:, None] / n - self.hat * along / n)


def layer_norm_formula(xp, params, x):
    return params["gamma"] * standardise(xp, x, 1) + params["beta"]


layer_norm = RightLayer("layer_norm", LayerSpec(LayerNorm, layer_norm_formula, [(8, 6)], draw_affine(6)))


class LayerNormNoMeanTerm(LayerNorm):
    def pull(self, d):
        return self.inv * (d - self.hat * np.mean(d * self.hat, axis=1, keepdims=True))


class LayerNormNoVarianceTerm(LayerNorm):
    def pull(self, d):
        return self.inv * (d - np.mean(d, axis=1, keepdims=True))


class LayerNormGammaLost(LayerNorm):
    def backward(self, dy):
        super().backward(dy)
        return self.pull(dy)


class LayerNormOverBatch(LayerNorm):
    def pull(self, d):
        return self.inv * (d - d.mean(axis=0) - self.hat * (d * self.hat).mean(axis=0))


class LayerNormBessel(LayerNorm):
    def pull(self, d):
        n = d.shape[1] - 1
        return self.inv * (d - d.sum(1, keepdims=True) / n - self.hat * (d * self.hat).sum(1, keepdims=True) / n)


class LayerNormGammaOfX(LayerNorm):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["gamma"] = (dy * self.x).sum(0)
        return dx


class LayerNormGradsSwapped(LayerNorm):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads = {"gamma": self.grads["beta"], "beta": self.grads["gamma"]}
        return dx


class LayerNormEpsOutside(LayerNorm):
    def pull(self, d):
        self.inv = 1 / (np.sqrt(self.var[:, None]) + EPS)
        return super().pull(d)


class LayerNormOtherEps(LayerNorm):
    def pull(self, d):
        self.inv = 1 / np.sqrt(self.var[:, None] + 1e-6)
        return super().pull(d)


class LayerNormGammaOverBatch(LayerNorm):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["gamma"] = (dy * self.hat).mean(0)
        return dx


class LayerNormBetaZero(LayerNorm):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["beta"] = np.zeros_like(self.params["beta"])
        return dx


class LayerNormLastRowForgotten(LayerNorm):
    def pull(self, d):
        dx = super().pull(d)
        dx[-1] = 0
        return dx


class LayerNormGammaInHalf(LayerNorm):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["gamma"] = np.einsum("ij,ij->j", dy.astype(np.float16), self.hat.astype(np.float16)).astype(dy.dtype)
        return dx


def batchnorm_forward(x, gamma, beta):
    """Step by step along the graph, as in the course notes of cs231n."""
    n = max(x.shape[0], 1)
    mu = 1 / n * np.sum(x, axis=0)
    xmu = x - mu
    var = 1 / n * np.sum(xmu**2, axis=0)
    sqrtvar = np.sqrt(var + EPS)
    ivar = 1 / sqrtvar
    xhat = xmu * ivar
    return gamma * xhat + beta, (xhat, gamma, xmu, ivar, sqrtvar, var)


def batchnorm_backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var = cache
    n = max(dout.shape[0], 1)
    dxhat = dout * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dvar = 0.5 / np.sqrt(var + EPS) * (-1 / sqrtvar**2) * divar
    dxmu = dxhat * ivar + 2 * xmu * (1 / n * np.ones_like(dout) * dvar)
    dmu = -np.sum(dxmu, axis=0)
    return dxmu + 1 / n * np.ones_like(dout) * dmu, np.sum(dout * xhat, axis=0), np.sum(dout, axis=0)


def batch_norm_formula(xp, params, x):
    return params["gamma"] * standardise(xp, x, 0) + params["beta"]


def _make_batch_norm(backward=batchnorm_backward, forward=batchnorm_forward):
    return from_functions(forward, backward, params={"gamma": np.ones(5), "beta": np.zeros(5)})


batch_norm = RightLayer(
    "batch_norm", LayerSpec(_make_batch_norm(), batch_norm_formula, [(8, 5)], draw_affine(5), name="batch_norm")
)


def _close_up(dout, cache, *, mean_term=1, variance_term=1, size=None):
    """The same gradient in one line, with the parts that can go wrong as arguments."""
    xhat, gamma, _, ivar, _, _ = cache
    n = size or max(len(dout), 1)
    d = dout * gamma
    dx = ivar * (d - mean_term * d.sum(0) / n - variance_term * xhat * (d * xhat).sum(0) / n)
    return dx, (dout * xhat).sum(0), dout.sum(0)


def batchnorm_backward_no_mean(dout, cache):
    return _close_up(dout, cache, mean_term=0)


def batchnorm_backward_no_variance(dout, cache):
    return _close_up(dout, cache, variance_term=0)


def batchnorm_backward_constants(dout, cache):
    return _close_up(dout, cache, mean_term=0, variance_term=0)


def batchnorm_backward_half_variance(dout, cache):
    return _close_up(dout, cache, variance_term=0.5)


def batchnorm_backward_bessel(dout, cache):
    return _close_up(dout, cache, size=max(len(dout) - 1, 1))


def batchnorm_backward_sum_for_mean(dout, cache):
    return _close_up(dout, cache, size=1)


def batchnorm_backward_rows(dout, cache):
    xhat, gamma, _, ivar, _, _ = cache
    d = dout * gamma
    dx = ivar * (d - d.mean(1, keepdims=True) - xhat * (d * xhat).mean(1, keepdims=True))
    return dx, (dout * xhat).sum(0), dout.sum(0)


def batchnorm_backward_beta_mean(dout, cache):
    dx, dgamma, dbeta = batchnorm_backward(dout, cache)
    return dx, dgamma, dbeta / max(len(dout), 1)


def batchnorm_backward_first_sample_left_out(dout, cache):
    dx, dgamma, _ = batchnorm_backward(dout, cache)
    return dx, dgamma, dout[1:].sum(axis=0)


def batchnorm_forward_unbiased(x, gamma, beta):
    xmu = x - x.mean(0)
    var = np.sum(xmu**2, axis=0) / max(len(x) - 1, 1)
    ivar = 1 / np.sqrt(var + EPS)
    return gamma * xmu * ivar + beta, (xmu * ivar, gamma, xmu, ivar, np.sqrt(var + EPS), var)


class BatchNormAddsUp:
    """gamma's and beta's gradients are added to what is there, and nobody sets them to 0."""

    def forward(self, x):
        y, self.cache = batchnorm_forward(x, self.params["gamma"], self.params["beta"])
        return y

    def backward(self, dy):
        dx, dgamma, dbeta = batchnorm_backward(dy, self.cache)
        if not hasattr(self, "grads"):
            self.grads = {"gamma": np.zeros_like(dgamma), "beta": np.zeros_like(dbeta)}
        self.grads["gamma"] += dgamma
        self.grads["beta"] += dbeta
        return dx


RUNNING_MEAN, RUNNING_VAR = (0.3, -0.2, 0.1), (0.5, 1.5, 0.9)


class BatchNormEval:
    """Images (N, C, H, W) by statistics that were gathered in training."""

    mode = "eval"

    def forward(self, x):
        mean, var = self.statistics(x)
        self.inv = 1 / np.sqrt(var + EPS)
        self.hat = (x - mean) * self.inv
        return self.hat * self.spread("gamma") + self.spread("beta")

    def statistics(self, x):
        shaped = (1, 3, 1, 1)
        return np.array(RUNNING_MEAN, x.dtype).reshape(shaped), np.array(RUNNING_VAR, x.dtype).reshape(shaped)

    def spread(self, name):
        return self.params[name].reshape(1, 3, 1, 1)

    def backward(self, dy):
        self.grads = {"gamma": (dy * self.hat).sum((0, 2, 3)), "beta": dy.sum((0, 2, 3))}
        return dy * self.inv * self.spread("gamma")


def batch_norm_eval_formula(xp, params, x):
    channels = [(x[:, c] - RUNNING_MEAN[c]) / math.sqrt(RUNNING_VAR[c] + EPS) for c in range(3)]
    gamma, beta = (xp.reshape(params[name], (1, 3, 1, 1)) for name in ("gamma", "beta"))
    return gamma * xp.stack(channels, axis=1) + beta


batch_norm_eval = RightLayer("batch_norm_eval", LayerSpec(BatchNormEval, batch_norm_eval_formula, [(3, 3, 4, 2)], draw_affine(3)))


class EvalDifferentiatesBatch(BatchNormEval):
    def backward(self, dy):
        super().backward(dy)
        d, over = dy * self.spread("gamma"), (0, 2, 3)
        return self.inv * (d - d.mean(over, keepdims=True) - self.hat * (d * self.hat).mean(over, keepdims=True))


class EvalUsesBatch(BatchNormEval):
    def statistics(self, x):
        return x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)


class EvalVarianceForDeviation(BatchNormEval):
    def backward(self, dy):
        return super().backward(dy) * self.inv


class EvalDeviationLost(BatchNormEval):
    def backward(self, dy):
        super().backward(dy)
        return dy * self.spread("gamma")


class EvalChannelForgotten(BatchNormEval):
    def backward(self, dy):
        dx = super().backward(dy)
        dx[:, 0] = 0
        return dx


class EvalGammaReversed(BatchNormEval):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["gamma"] = self.grads["gamma"][::-1].copy()
        return dx


class EvalBetaPerRow(BatchNormEval):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["beta"] = dy.sum((0, 3))
        return dx


class EvalMeanForSum(BatchNormEval):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["gamma"] = (dy * self.hat).mean((0, 2, 3))
        return dx


def rms_norm_forward(x, gain):
    rms = np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
    return x / rms * gain, (x, rms, gain)


def rms_norm_backward(dout, cache):
    x, rms, gain = cache
    d = dout * gain
    inner = np.sum(d * x, axis=-1, keepdims=True) / x.shape[-1]
    return d / rms - x * inner / rms**3, np.sum(dout * x / rms, axis=0)


def rms_norm_formula(xp, params, x):
    return params["gain"] * x / xp.sqrt(xp.mean(x * x, axis=1, keepdims=True) + EPS)


def _make_rms_norm(backward):
    return from_functions(rms_norm_forward, backward, params={"gain": np.ones(7)})


def draw_gain(rng):
    return {"gain": rng.uniform(0.5, 2, 7)}


rms_norm = RightLayer(
    "rms_norm", LayerSpec(_make_rms_norm(rms_norm_backward), rms_norm_formula, [(6, 7)], draw_gain, name="rms_norm")
)


def rms_norm_backward_first_term(dout, cache):
    x, rms, gain = cache
    return dout * gain / rms, np.sum(dout * x / rms, axis=0)


def rms_norm_backward_sum_for_mean(dout, cache):
    x, rms, gain = cache
    d = dout * gain
    return d / rms - x * np.sum(d * x, axis=-1, keepdims=True) / rms**3, np.sum(dout * x / rms, axis=0)


def rms_norm_backward_square_for_cube(dout, cache):
    x, rms, gain = cache
    d = dout * gain
    return d / rms - x * np.mean(d * x, axis=-1, keepdims=True) / rms**2, np.sum(dout * x / rms, axis=0)


def rms_norm_backward_wrong_axis(dout, cache):
    x, rms, gain = cache
    d = dout * gain
    return d / rms - x * np.mean(d * x, axis=0, keepdims=True) / rms**3, np.sum(dout * x / rms, axis=0)


def rms_norm_backward_raw_gain(dout, cache):
    x, _, _ = cache
    return rms_norm_backward(dout, cache)[0], np.sum(dout * x, axis=0)


def rms_norm_backward_rolled(dout, cache):
    dx, dgain = rms_norm_backward(dout, cache)
    return dx, np.roll(dgain, 1)


def rms_norm_backward_transposed(dout, cache):
    dx, dgain = rms_norm_backward(dout, cache)
    return dx.T.reshape(dx.shape), dgain


def rms_norm_backward_eps_twice(dout, cache):
    x, rms, gain = cache
    return rms_norm_backward(dout, (x, np.sqrt(rms**2 + EPS), gain))


RIGHT = (layer_norm, batch_norm, batch_norm_eval, rms_norm)
FAULTS = (
    plant(layer_norm, "no-mean-term", LayerNormNoMeanTerm, "missing-term", "the mean is treated as a constant"),
    plant(layer_norm, "no-variance-term", LayerNormNoVarianceTerm, "missing-term", "the deviation is treated as a constant"),
    plant(layer_norm, "gamma-lost", LayerNormGammaLost, "missing-factor", "gamma is not in dx"),
    plant(layer_norm, "over-batch", LayerNormOverBatch, "wrong-axis", "dx takes its means over the batch"),
    plant(layer_norm, "bessel", LayerNormBessel, "size-factor", "the means of the backward pass divide by n - 1"),
    plant(layer_norm, "gamma-of-x", LayerNormGammaOfX, "at-input missing-factor", "dgamma from x, not from x normalised"),
    plant(layer_norm, "grads-swapped", LayerNormGradsSwapped, "swapped", "dgamma and dbeta stand in each other's place"),
    plant(layer_norm, "eps-outside", LayerNormEpsOutside, "constant", "eps beside the root in backward"),
    plant(layer_norm, "other-eps", LayerNormOtherEps, "constant", "eps 1e-6 in backward, 1e-5 in forward"),
    plant(layer_norm, "gamma-mean", LayerNormGammaOverBatch, "size-factor", "dgamma is the mean over the batch"),
    plant(layer_norm, "beta-zero", LayerNormBetaZero, "zero", "dbeta is left at 0"),
    plant(layer_norm, "last-row-forgotten", LayerNormLastRowForgotten, "dropped-row one-slice", "the last sample gets no dx"),
    plant(layer_norm, "gamma-in-half", LayerNormGammaInHalf, "cast", "dgamma is summed in float16"),
    *(
        plant(batch_norm, name, _make_batch_norm(backward), causes, why)
        for name, backward, causes, why in (
            ("no-mean-term", batchnorm_backward_no_mean, "missing-term", "the mean is treated as a constant"),
            ("no-variance-term", batchnorm_backward_no_variance, "missing-term", "the variance is treated as a constant"),
            ("statistics-constant", batchnorm_backward_constants, "missing-term", "both statistics are treated as constants"),
            ("half-variance", batchnorm_backward_half_variance, "missing-factor factor", "the square's 2 is missing in dvar"),
            ("bessel", batchnorm_backward_bessel, "size-factor", "the means of the backward pass divide by N - 1"),
            ("sum-for-mean", batchnorm_backward_sum_for_mean, "size-factor", "sums where means belong"),
            ("over-features", batchnorm_backward_rows, "wrong-axis", "dx takes its means over the features"),
            ("beta-mean", batchnorm_backward_beta_mean, "size-factor", "dbeta is the mean over the batch"),
            ("first-sample-left-out", batchnorm_backward_first_sample_left_out, "dropped-row", "dbeta sums from the second row"),
        )
    ),
    plant(
        batch_norm, "unbiased-forward", _make_batch_norm(forward=batchnorm_forward_unbiased), "size-factor",
        "the variance divides by N - 1", "forward gradients",
    ),
    plant(batch_norm, "adds-up", BatchNormAddsUp, "accumulated", "gradients are added up", "backward_twice no_stale_state"),
    plant(batch_norm_eval, "differentiates-batch", EvalDifferentiatesBatch, "none", "backward is that of training"),
    plant(batch_norm_eval, "uses-batch", EvalUsesBatch, "none", "forward takes the statistics of the batch", "forward gradients"),
    plant(
        batch_norm_eval, "variance-for-deviation", EvalVarianceForDeviation, "extra-factor", "divided by the deviation twice"
    ),
    plant(batch_norm_eval, "deviation-lost", EvalDeviationLost, "missing-factor", "not divided by the deviation"),
    plant(batch_norm_eval, "channel-forgotten", EvalChannelForgotten, "one-slice", "the loop over channels begins at 1"),
    plant(batch_norm_eval, "gamma-reversed", EvalGammaReversed, "order", "dgamma runs from the last channel to the first"),
    plant(batch_norm_eval, "beta-per-row", EvalBetaPerRow, "shape", "dbeta is not summed over the height"),
    plant(batch_norm_eval, "mean-for-sum", EvalMeanForSum, "size-factor", "dgamma is a mean"),
    *(
        plant(rms_norm, name, _make_rms_norm(backward), causes, why)
        for name, backward, causes, why in (
            ("first-term", rms_norm_backward_first_term, "missing-term", "the root is treated as a constant"),
            ("sum-for-mean", rms_norm_backward_sum_for_mean, "size-factor", "the second term is not divided by the width"),
            ("square-for-cube", rms_norm_backward_square_for_cube, "missing-factor", "the second term lacks a 1 / rms"),
            ("over-batch", rms_norm_backward_wrong_axis, "wrong-axis", "the second term's mean is over the batch"),
            ("raw-gain", rms_norm_backward_raw_gain, "missing-factor at-input", "dgain is not divided by the root"),
            ("gain-rolled", rms_norm_backward_rolled, "order", "dgain is shifted by one place"),
            ("reshaped", rms_norm_backward_transposed, "transposed", "dx is transposed and reshaped back"),
            ("eps-twice", rms_norm_backward_eps_twice, "constant", "eps is added again in backward"),
        )
    ),
)  # fmt: skip
