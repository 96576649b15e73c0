"""The reference layers of the repository, judged as strangers' layers, with mistakes planted by subclassing them."""

from __future__ import annotations

import numpy as np

from harness.custom.spec import LayerSpec
from reference_layers import Add, Affine, MeanSquaredError, Multiply, ReLU, Sigmoid, SoftmaxCrossEntropy
from tests.zoo.zoo import RightLayer, plant

SQUARE = (5, 5)


def make(kind):
    """Return a factory without arguments of an Affine class, which takes its arrays in the constructor."""
    return lambda: kind(np.zeros(SQUARE), np.zeros(5))


def draw_weights(rng):
    return {"W": rng.standard_normal(SQUARE) / 2, "b": rng.standard_normal(5)}


def draw_with_zeros(rng):
    x = rng.standard_normal((7, 6))
    x[rng.random(x.shape) < 0.2] = 0.0
    return (x,)


def draw_logits(rng):
    return 2 * rng.standard_normal((8, 5)), rng.integers(0, 5, 8)


affine = RightLayer("affine", LayerSpec(make(Affine), Affine.formula, [(8, 5)], draw_weights, name="affine"))
relu = RightLayer("relu", LayerSpec(ReLU, ReLU.formula, draw_with_zeros))
sigmoid = RightLayer("sigmoid", LayerSpec(Sigmoid, Sigmoid.formula, [(6, 7)]))
add = RightLayer("add", LayerSpec(Add, Add.formula, [(6, 4), (6, 4)]))
multiply = RightLayer("multiply", LayerSpec(Multiply, Multiply.formula, [(6, 4), (6, 4)]))
softmax_cross_entropy = RightLayer(
    "softmax_cross_entropy", LayerSpec(SoftmaxCrossEntropy, SoftmaxCrossEntropy.formula, draw_logits)
)
mean_squared_error = RightLayer(
    "mean_squared_error", LayerSpec(MeanSquaredError, MeanSquaredError.formula, [(8, 3), (8, 3)], constants=(1,))
)


class AffineWeightsTransposed(Affine):
    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["W"] = self.grads["W"].T.copy()
        return dx


class AffineUntransposed(Affine):
    def backward(self, dy, cache=None):
        super().backward(dy, cache)
        return dy @ self.params["W"]


class AffineWeightsOverBatch(Affine):
    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["W"] = self.grads["W"] / max(len(dy), 1)
        return dx


class AffineBiasKeepsAxis(Affine):
    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["b"] = dy.sum(axis=0, keepdims=True)
        return dx


class AffineBiasOfFeatures(Affine):
    """The bias's gradient is summed over the features, of the first rows as many as there are features."""

    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["b"] = np.resize(dy.sum(axis=1), 5)
        return dx


class AffineBiasZero(Affine):
    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["b"] = np.zeros_like(self.params["b"])
        return dx


class AffineLastSample(Affine):
    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        x = self.cache[0]
        self.grads["W"] = x[:-1].T @ dy[:-1]
        return dx


class AffineFirstInput(Affine):
    def forward(self, x):
        y = super().forward(x)
        if not hasattr(self, "kept") or self.kept.shape != x.shape:
            self.kept = x.copy()
        self.cache = (self.kept, self.params["W"])
        return y


class AffineDecayed(Affine):
    """Weight decay that should be the optimizer's is added to dW."""

    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["W"] = self.grads["W"] + 0.01 * self.params["W"]
        return dx


class AffineEvenBatches(Affine):
    def backward(self, dy, cache=None):
        if len(dy) % 2:
            raise ValueError("the batch must be even")
        return super().backward(dy, cache)


class AffineStochastic(Affine):
    """Gradients are rounded at random, as if they were to be stored in few bits."""

    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["W"] = self.grads["W"] * (1 + 0.01 * np.random.default_rng().standard_normal(SQUARE).astype(dy.dtype))
        return dx


class AffineColumnForgotten(Affine):
    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["W"][:, 2] = 0
        return dx


class AffineBiasFactor(Affine):
    def backward(self, dy, cache=None):
        dx = super().backward(dy, cache)
        self.grads["b"] = self.grads["b"] * 1.0001
        return dx


class ReLUByUpstream(ReLU):
    def backward(self, dy, cache=None):
        return np.maximum(dy, 0)


class ReLUAboveOne(ReLU):
    def forward(self, x):
        self.cache = (x > 1,)
        return np.maximum(x, 0)


class ReLUInPlace(ReLU):
    def forward(self, x):
        self.cache = (x > 0,)
        np.maximum(x, 0, out=x)
        return x.copy()


class ReLUPassedOn(ReLU):
    def backward(self, dy, cache=None):
        return dy.copy()


class ReLUGateForUpstream(ReLU):
    def backward(self, dy, cache=None):
        return self.cache[0].astype(dy.dtype)


class ReLURampUp(ReLU):
    """Open gates pass a gradient that grows along the row."""

    def backward(self, dy, cache=None):
        return super().backward(dy, cache) * np.linspace(1, 2, dy.shape[-1], dtype=dy.dtype)


class SigmoidTwice(Sigmoid):
    def backward(self, dy, cache=None):
        s = 1 / (1 + np.exp(-self.cache[0]))
        return dy * s * (1 - s)


class SigmoidHalf(Sigmoid):
    def backward(self, dy, cache=None):
        return dy * (1 - self.cache[0])


class SigmoidAtInput(Sigmoid):
    def forward(self, x):
        y = super().forward(x)
        self.x = x
        return y

    def backward(self, dy, cache=None):
        return dy * self.x * (1 - self.x)


class SigmoidBuffer(Sigmoid):
    """All gradients are written into one array, which is handed out again and again."""

    def backward(self, dy, cache=None):
        y = self.cache[0]
        if not hasattr(self, "buffer") or self.buffer.shape != y.shape:
            self.buffer = np.zeros_like(y)
        self.buffer += dy * y * (1 - y)
        return self.buffer


class SigmoidSlopeOfTanh(Sigmoid):
    def backward(self, dy, cache=None):
        y = self.cache[0]
        return dy * (1 - y * y)


class AddSecondZero(Add):
    def backward(self, dy, cache=None):
        return dy.copy(), np.zeros_like(dy)


class AddHalves(Add):
    def backward(self, dy, cache=None):
        return dy / 2, dy / 2


class AddSubtracts(Add):
    def backward(self, dy, cache=None):
        return dy.copy(), -dy


class AddInPlace(Add):
    def forward(self, a, b):
        self.cache = (True,)
        a += b
        return a.copy()


class AddColumnsRolled(Add):
    def backward(self, dy, cache=None):
        return dy.copy(), np.roll(dy, 1, axis=1)


class AddAverages(Add):
    def backward(self, dy, cache=None):
        return dy.copy(), np.broadcast_to(dy.mean(0), dy.shape).copy()


class MultiplySwapped(Multiply):
    def backward(self, dy, cache=None):
        return super().backward(dy, cache)[::-1]


class MultiplyPassedOn(Multiply):
    def backward(self, dy, cache=None):
        _, db = super().backward(dy, cache)
        return dy.copy(), db


class MultiplyProduct(Multiply):
    def backward(self, dy, cache=None):
        a, b = self.cache
        return dy * a * b, dy * a


class MultiplyUpstreamLost(Multiply):
    def backward(self, dy, cache=None):
        a, b = self.cache
        return dy * b, a.copy()


class MultiplyInHalf(Multiply):
    def backward(self, dy, cache=None):
        a, b = self.cache
        return (dy.astype(np.float16) * b.astype(np.float16)).astype(dy.dtype), dy * a


class CrossEntropyProbabilities(SoftmaxCrossEntropy):
    def backward(self, dy=1.0, cache=None):
        p, _ = self.cache
        return dy * p / max(len(p), 1)


class CrossEntropySum(SoftmaxCrossEntropy):
    def backward(self, dy=1.0, cache=None):
        return super().backward(dy) * len(self.cache[0])


class CrossEntropyByClasses(SoftmaxCrossEntropy):
    def backward(self, dy=1.0, cache=None):
        return super().backward(dy) / self.cache[0].shape[1]


class CrossEntropyLabelsReversed(SoftmaxCrossEntropy):
    def backward(self, dy=1.0, cache=None):
        p, t = self.cache
        return super().backward(dy, (p, t[::-1]))


class CrossEntropyLastRow(SoftmaxCrossEntropy):
    def backward(self, dy=1.0, cache=None):
        dx = super().backward(dy)
        dx[-1] = 0
        return dx


class CrossEntropyOfOne(SoftmaxCrossEntropy):
    def backward(self, dy=1.0, cache=None):
        return super().backward(1.0)


class CrossEntropyPassesSoftmax(SoftmaxCrossEntropy):
    """The gradient of the probabilities goes through the softmax once more."""

    def backward(self, dy=1.0, cache=None):
        p, _ = self.cache
        d = super().backward(dy)
        return p * (d - (d * p).sum(axis=1, keepdims=True))


class SquaredErrorTwice(MeanSquaredError):
    def backward(self, dy=1.0, cache=None):
        return 2 * super().backward(dy)


class SquaredErrorByEntries(MeanSquaredError):
    def backward(self, dy=1.0, cache=None):
        return super().backward(dy) / self.cache[0].shape[1]


class SquaredErrorTurned(MeanSquaredError):
    def backward(self, dy=1.0, cache=None):
        return -super().backward(dy)


class SquaredErrorUpstreamLost(MeanSquaredError):
    def backward(self, dy=1.0, cache=None):
        return super().backward(np.ones_like(dy))


class SquaredErrorUpstreamSquared(MeanSquaredError):
    def backward(self, dy=1.0, cache=None):
        return super().backward(dy * dy)


class SquaredErrorKeepsFirst(MeanSquaredError):
    def forward(self, y, t):
        loss = super().forward(y, t)
        if not hasattr(self, "first"):
            self.first = self.cache
        self.cache = self.first
        return loss


class SquaredErrorRowSums(MeanSquaredError):
    def backward(self, dy=1.0, cache=None):
        return super().backward(dy).sum(axis=1)


class SquaredErrorCubic(MeanSquaredError):
    def backward(self, dy=1.0, cache=None):
        (difference,) = self.cache
        return dy * difference * np.abs(difference) / max(len(difference), 1)


RIGHT = (affine, relu, sigmoid, add, multiply, softmax_cross_entropy, mean_squared_error)
FAULTS = (
    *(
        plant(affine, name, make(kind), causes, why, found_by)
        for name, kind, causes, why, found_by in (
            ("weights-transposed", AffineWeightsTransposed, "transposed", "dW is transposed", "gradients"),
            ("untransposed", AffineUntransposed, "transposed", "W for its transpose in dx", "gradients"),
            ("weights-over-batch", AffineWeightsOverBatch, "size-factor", "dW is divided by N", "gradients"),
            ("bias-keeps-axis", AffineBiasKeepsAxis, "shape", "db is (1, n) for (n,)", "gradients"),
            ("bias-of-features", AffineBiasOfFeatures, "wrong-axis", "db is summed over the features", "gradients"),
            ("bias-zero", AffineBiasZero, "zero", "db is left at 0", "gradients"),
            ("last-sample", AffineLastSample, "dropped-row", "dW without the last sample", "gradients"),
            ("first-input", AffineFirstInput, "stale-cache", "the first batch is kept for dW", "no_stale_state"),
            ("decayed", AffineDecayed, "none", "weight decay is added to dW", "gradients"),
            ("even-batches", AffineEvenBatches, "raises", "odd batches raise", "gradients"),
            ("stochastic", AffineStochastic, "nondeterministic", "dW is noisy", "gradients deterministic"),
            ("column-forgotten", AffineColumnForgotten, "one-slice", "a column of dW is left at 0", "gradients"),
            ("bias-factor", AffineBiasFactor, "factor", "db is 0.01 % too large", "gradients"),
        )
    ),
    plant(relu, "by-upstream", ReLUByUpstream, "mask", "the gate looks at dy, not at x"),
    plant(relu, "above-one", ReLUAboveOne, "mask", "the gate opens at 1"),
    plant(relu, "in-place", ReLUInPlace, "aliasing/mutation", "forward changes x", "inputs_unchanged"),
    plant(relu, "passed-on", ReLUPassedOn, "identity mask", "there is no gate in backward"),
    plant(relu, "gate-for-upstream", ReLUGateForUpstream, "cotangent-ignored", "the gate itself is returned"),
    plant(relu, "ramp", ReLURampUp, "none", "gradients grow along the row"),
    plant(sigmoid, "twice", SigmoidTwice, "at-output", "the slope is taken at y as if it were x"),
    plant(sigmoid, "half", SigmoidHalf, "missing-factor", "1 - y for y (1 - y)"),
    plant(sigmoid, "at-input", SigmoidAtInput, "at-input", "x (1 - x) for y (1 - y)"),
    plant(
        sigmoid, "buffer", SigmoidBuffer, "accumulated aliasing/mutation", "one buffer, added to", "backward_twice no_aliasing"
    ),
    plant(sigmoid, "slope-of-tanh", SigmoidSlopeOfTanh, "none", "the slope is that of tanh"),
    plant(add, "second-zero", AddSecondZero, "zero", "the second input gets none"),
    plant(add, "halves", AddHalves, "factor", "dy is shared out in halves"),
    plant(add, "subtracts", AddSubtracts, "sign", "the second gradient is that of a difference"),
    plant(add, "in-place", AddInPlace, "aliasing/mutation", "b is added to a in place", "inputs_unchanged"),
    plant(add, "columns-rolled", AddColumnsRolled, "order", "the second gradient is shifted by a column"),
    plant(add, "averages", AddAverages, "cotangent-changed", "the mean of dy over the batch for the second input"),
    plant(multiply, "swapped", MultiplySwapped, "swapped", "da and db stand in each other's place"),
    plant(multiply, "passed-on", MultiplyPassedOn, "identity missing-factor", "da is dy"),
    plant(multiply, "product", MultiplyProduct, "extra-factor", "da is multiplied by a as well"),
    plant(multiply, "upstream-lost", MultiplyUpstreamLost, "cotangent-ignored", "db is a, without dy"),
    plant(multiply, "in-half", MultiplyInHalf, "cast", "da is computed in float16"),
    plant(softmax_cross_entropy, "probabilities", CrossEntropyProbabilities, "missing-term", "the labels are not subtracted"),
    plant(softmax_cross_entropy, "sum", CrossEntropySum, "size-factor factor missing-factor", "not divided by N"),
    plant(softmax_cross_entropy, "by-classes", CrossEntropyByClasses, "size-factor factor", "divided by N times the classes"),
    plant(softmax_cross_entropy, "labels-reversed", CrossEntropyLabelsReversed, "order", "labels are read from the last on"),
    plant(softmax_cross_entropy, "last-row", CrossEntropyLastRow, "dropped-row one-slice", "the last sample gets none"),
    plant(softmax_cross_entropy, "of-one", CrossEntropyOfOne, "cotangent-ignored", "dy is taken as 1"),
    plant(softmax_cross_entropy, "softmax-again", CrossEntropyPassesSoftmax, "none", "passed through the softmax twice"),
    plant(mean_squared_error, "twice", SquaredErrorTwice, "factor", "the square's 2 is not cancelled by the loss's 1/2"),
    plant(mean_squared_error, "by-entries", SquaredErrorByEntries, "size-factor factor", "divided by N times the width"),
    plant(mean_squared_error, "turned", SquaredErrorTurned, "sign", "t - y for y - t"),
    plant(mean_squared_error, "upstream-lost", SquaredErrorUpstreamLost, "cotangent-ignored", "dy is taken as 1"),
    plant(mean_squared_error, "upstream-squared", SquaredErrorUpstreamSquared, "cotangent-changed", "dy^2 for dy"),
    plant(mean_squared_error, "keeps-first", SquaredErrorKeepsFirst, "stale-cache", "the first batch's", "no_stale_state"),
    plant(mean_squared_error, "row-sums", SquaredErrorRowSums, "shape", "dx is summed over the width"),
    plant(mean_squared_error, "cubic", SquaredErrorCubic, "none", "the gradient of a cubic loss"),
)
