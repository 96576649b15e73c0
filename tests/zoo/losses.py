"""Losses by hand: the hinge of many classes, Huber's, and cross-entropy with smoothed labels, each with its mistakes."""

from __future__ import annotations

import numpy as np

from harness.custom.spec import LayerSpec
from harness.styles import from_functions
from tests.zoo.zoo import RightLayer, plant


class Hinge:
    """The mean over rows of the sum of max(0, score - score of the right class + 1), as in cs231n's assignment."""

    def forward(self, x, t):
        rows = np.arange(len(t))
        margins = np.maximum(0, x - x[rows, t][:, None] + 1)
        margins[rows, t] = 0
        self.x, self.t, self.rows, self.violated = x, t, rows, margins > 0
        return margins.sum() / len(t)

    def backward(self, dy=1.0):
        dx = self.violated.astype(self.x.dtype)
        dx[self.rows, self.t] -= self.count()
        return dx * dy / self.size()

    def count(self):
        return self.violated.sum(axis=1)

    def size(self):
        return max(len(self.t), 1)


def hinge_formula(xp, params, x, t):
    right = t[:, None] == xp.arange(x.shape[1])
    zeros = xp.zeros_like(x)
    score = xp.sum(xp.where(right, x, zeros), axis=1, keepdims=True)
    return xp.sum(xp.where(right, zeros, xp.maximum(x - score + 1, zeros))) / x.shape[0]


def draw_classes(rng):
    return rng.standard_normal((8, 5)), rng.integers(0, 5, 8)


hinge = RightLayer("hinge", LayerSpec(Hinge, hinge_formula, draw_classes))


class HingeRightClassForgotten(Hinge):
    def count(self):
        return 0


class HingeSum(Hinge):
    def size(self):
        return 1


class HingeByClasses(Hinge):
    def size(self):
        return self.x.size


class HingeNoMargin(Hinge):
    def backward(self, dy=1.0):
        self.violated = self.x - self.x[self.rows, self.t][:, None] > 0
        return super().backward(dy)


class HingeCountsAll(Hinge):
    def count(self):
        return self.x.shape[1] - 1


class HingeTurned(Hinge):
    def backward(self, dy=1.0):
        return -super().backward(dy)


class HingeUpstreamIgnored(Hinge):
    def backward(self, dy=1.0):
        return super().backward(1.0)


class HingeOneViolation(Hinge):
    def count(self):
        return 1


class HingeWeighted(Hinge):
    """Each violated margin counts with its size, as if the hinge were squared."""

    def backward(self, dy=1.0):
        margins = np.where(self.violated, self.x - self.x[self.rows, self.t][:, None] + 1, 0)
        dx = 2 * margins
        dx[self.rows, self.t] -= 2 * margins.sum(1)
        return dx * dy / self.size()


DELTA = 1.5


def huber(y, t):
    r = y - t
    size = np.abs(r)
    return np.where(size <= DELTA, 0.5 * r * r, DELTA * (size - 0.5 * DELTA)).mean(), (r,)


def huber_backward(dout, cache):
    (r,) = cache
    return dout * np.clip(r, -DELTA, DELTA) / r.size, None


def huber_formula(xp, params, y, t):
    r = y - t
    size = xp.abs(r)
    return xp.mean(xp.where(size <= DELTA, 0.5 * r * r, DELTA * (size - 0.5 * DELTA)))


def draw_outliers(rng):
    return 2 * rng.standard_normal((6, 4)), rng.standard_normal((6, 4))


huber_loss = RightLayer("huber", LayerSpec(from_functions(huber, huber_backward), huber_formula, draw_outliers, constants=(1,)))


def huber_backward_at_half(dout, cache):
    (r,) = cache
    return dout * np.where(np.abs(r) <= DELTA / 2, r, DELTA * np.sign(r)) / r.size, None


def huber_backward_sum(dout, cache):
    (r,) = cache
    return dout * np.clip(r, -DELTA, DELTA), None


def huber_backward_turned(dout, cache):
    return -huber_backward(dout, cache)[0], None


def huber_backward_square(dout, cache):
    (r,) = cache
    return dout * r / r.size, None


def huber_backward_by_rows(dout, cache):
    (r,) = cache
    return dout * np.clip(r, -DELTA, DELTA) / len(r), None


def huber_backward_delta_lost(dout, cache):
    (r,) = cache
    return dout * np.where(np.abs(r) <= DELTA, r, np.sign(r)) / r.size, None


def huber_backward_last_row(dout, cache):
    dx, _ = huber_backward(dout, cache)
    dx[-1] = 0
    return dx, None


def huber_backward_upstream_clipped(dout, cache):
    return huber_backward(np.clip(dout, -0.4, 0.4), cache)


def huber_backward_other_delta(dout, cache):
    (r,) = cache
    return dout * np.clip(r, -1.49, 1.49) / r.size, None


SMOOTHING = 0.1


class SmoothedCrossEntropy:
    """Cross-entropy of logits with labels of which a tenth is spread over all classes."""

    def forward(self, x, t):
        z = x - x.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        self.p, self.q = np.exp(log_p), self.smooth(x, t)
        return -(self.q * log_p).sum() / len(x)

    def smooth(self, x, t):
        q = np.full_like(x, SMOOTHING / x.shape[1])
        q[np.arange(len(t)), t] += 1 - SMOOTHING
        return q

    def backward(self, dy=1.0):
        return dy * (self.p - self.q) / max(len(self.p), 1)


def smoothed_formula(xp, params, x, t):
    z = x - xp.max(x, axis=1, keepdims=True)
    log_p = z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
    chosen = xp.where(t[:, None] == xp.arange(x.shape[1]), log_p, xp.zeros_like(log_p))
    return -((1 - SMOOTHING) * xp.sum(chosen) + SMOOTHING / x.shape[1] * xp.sum(log_p)) / x.shape[0]


smoothed = RightLayer("smoothed_cross_entropy", LayerSpec(SmoothedCrossEntropy, smoothed_formula, draw_classes))


class SmoothedHard(SmoothedCrossEntropy):
    def backward(self, dy=1.0):
        hard = (self.q == self.q.max(axis=1, keepdims=True)).astype(self.q.dtype)
        return dy * (self.p - hard) / max(len(self.p), 1)


class SmoothedOthersAlone(SmoothedCrossEntropy):
    """Backward spreads the tenth over the other classes alone, as some papers do, and forward over all."""

    def backward(self, dy=1.0):
        right = self.q == self.q.max(axis=1, keepdims=True)
        q = np.where(right, 1 - SMOOTHING, SMOOTHING / (self.q.shape[1] - 1)).astype(self.q.dtype)
        return dy * (self.p - q) / max(len(self.p), 1)


class SmoothedProbabilities(SmoothedCrossEntropy):
    def backward(self, dy=1.0):
        return dy * self.p / max(len(self.p), 1)


class SmoothedSum(SmoothedCrossEntropy):
    def backward(self, dy=1.0):
        return dy * (self.p - self.q)


class SmoothedByRoot(SmoothedCrossEntropy):
    def backward(self, dy=1.0):
        return super().backward(dy) * np.sqrt(self.p)


RIGHT = (hinge, huber_loss, smoothed)
FAULTS = (
    plant(hinge, "right-class-forgotten", HingeRightClassForgotten, "missing-term", "the right class gets no gradient"),
    plant(hinge, "sum", HingeSum, "size-factor factor missing-factor", "backward is not divided by N"),
    plant(hinge, "by-classes", HingeByClasses, "size-factor factor", "divided by N times the classes"),
    plant(hinge, "no-margin", HingeNoMargin, "mask", "margins count from 0, not from -1"),
    plant(hinge, "counts-all", HingeCountsAll, "mask", "the right class is pulled by all others, violated or not"),
    plant(hinge, "turned", HingeTurned, "sign", "the whole gradient is negated"),
    plant(hinge, "upstream-ignored", HingeUpstreamIgnored, "cotangent-ignored", "dy is taken as 1"),
    plant(hinge, "one-violation", HingeOneViolation, "missing-factor", "the right class is pulled once, not once a violation"),
    plant(hinge, "weighted", HingeWeighted, "none", "backward is that of the squared hinge"),
    *(
        plant(huber_loss, name, from_functions(huber, backward), causes, why)
        for name, backward, causes, why in (
            ("at-half", huber_backward_at_half, "mask", "the branches part at delta / 2"),
            ("sum", huber_backward_sum, "size-factor factor missing-factor", "not divided by the number of entries"),
            ("turned", huber_backward_turned, "sign", "t - y for y - t"),
            ("square", huber_backward_square, "mask", "large residuals are not cut: the square's gradient"),
            ("by-rows", huber_backward_by_rows, "size-factor factor", "divided by the rows, not by the entries"),
            ("delta-lost", huber_backward_delta_lost, "missing-factor", "sign(r) lacks its factor delta"),
            ("last-row", huber_backward_last_row, "dropped-row one-slice", "the last sample gets no gradient"),
            ("upstream-clipped", huber_backward_upstream_clipped, "cotangent-changed clipped", "dy is clipped first"),
            ("other-delta", huber_backward_other_delta, "constant", "1.49 for 1.5"),
        )
    ),
    plant(smoothed, "hard", SmoothedHard, "missing-term", "backward is that of hard labels"),
    plant(smoothed, "others-alone", SmoothedOthersAlone, "constant size-factor", "K - 1 for K in backward"),
    plant(smoothed, "probabilities", SmoothedProbabilities, "missing-term", "the labels are not subtracted"),
    plant(smoothed, "sum", SmoothedSum, "size-factor factor missing-factor", "backward is not divided by N"),
    plant(smoothed, "by-root", SmoothedByRoot, "extra-factor", "each entry is multiplied by the root of its probability"),
)
