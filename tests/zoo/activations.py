"""Activations by hand: Swish, both GELUs, LeakyReLU, ELU, Softplus and Tanh, each with the mistakes that people make."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from harness.custom.spec import LayerSpec
from harness.styles import from_activation, from_functions
from tests.zoo.zoo import RightLayer, plant


class Swish:
    def forward(self, x):
        self.x, self.s = x, 1 / (1 + np.exp(-x))
        return x * self.s

    def backward(self, dy):
        return dy * (self.s + self.x * self.s * (1 - self.s))


def swish_formula(xp, params, x):
    return x / (1 + xp.exp(-x))


swish = RightLayer("swish", LayerSpec(Swish, swish_formula, [(8, 5)]))


class SwishSecondTermLost(Swish):
    def backward(self, dy):
        return dy * self.s


class SwishHalfProduct(Swish):
    def backward(self, dy):
        return dy * (self.s + self.x * (1 - self.s))


class SwishMinus(Swish):
    def backward(self, dy):
        return -super().backward(dy)


class SwishAtOutput(Swish):
    def backward(self, dy):
        y = self.x * self.s
        s = 1 / (1 + np.exp(-y))
        return dy * (s + y * s * (1 - s))


class SwishOnePercent(Swish):
    def backward(self, dy):
        return super().backward(dy) * 1.01


class SwishPassedOn(Swish):
    def backward(self, dy):
        return dy.copy()


class SwishClipped(Swish):
    def backward(self, dy):
        return np.clip(super().backward(dy), -1, 1)


class SwishWobbly(Swish):
    def backward(self, dy):
        return super().backward(dy) * np.cos(0.3 * np.arange(dy.size, dtype=dy.dtype).reshape(dy.shape))


class SwishRemembersFirst(Swish):
    first = None

    def backward(self, dy):
        if self.first is None:
            self.first = (self.x, self.s)
        self.x, self.s = self.first
        return super().backward(dy)


def gelu_forward(x):
    cdf = 0.5 * (1 + special.erf(x / math.sqrt(2)))
    return x * cdf, (x, cdf)


def gelu_backward(dout, cache):
    x, cdf = cache
    pdf = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return dout * (cdf + x * pdf)


def gelu_formula(xp, params, x):
    return 0.5 * x * (1 + xp.erf(x / xp.sqrt(2 * xp.ones_like(x))))


gelu_erf = RightLayer("gelu_erf", LayerSpec(from_functions(gelu_forward, gelu_backward), gelu_formula, [(6, 7)]))


def gelu_backward_without_x(dout, cache):
    x, cdf = cache
    return dout * (cdf + np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


def gelu_backward_wide_bell(dout, cache):
    x, cdf = cache
    return dout * (cdf + x * np.exp(-x * x) / math.sqrt(2 * math.pi))


def gelu_backward_cdf_alone(dout, cache):
    return dout * cache[1]


def gelu_backward_by_logistic(dout, cache):
    x, _ = cache
    s = 1 / (1 + np.exp(-1.702 * x))
    return dout * (s + 1.702 * x * s * (1 - s))


def gelu_backward_in_half(dout, cache):
    x, cdf = (value.astype(np.float16) for value in cache)
    pdf = np.exp(-0.5 * x * x) / np.float16(math.sqrt(2 * math.pi))
    return dout * (cdf + x * pdf).astype(dout.dtype)


def gelu_backward_rounded_pi(dout, cache):
    x, cdf = cache
    return dout * (cdf + x * np.exp(-0.5 * x * x) / math.sqrt(2 * 3.14))


class GeluTanh:
    """Every intermediate value is written over the one before."""

    cubic = 0.044715
    triple = 3 * 0.044715

    def forward(self, x):
        self.x = x
        inner = np.power(x, 3)
        inner *= self.cubic
        inner += x
        inner *= math.sqrt(2 / math.pi)
        self.t = np.tanh(inner, out=inner)
        y = 1 + self.t
        y *= x
        y *= 0.5
        return y

    def slope(self):
        d = np.square(self.x)
        d *= self.triple
        d += 1
        d *= math.sqrt(2 / math.pi)
        return d

    def backward(self, dy):
        d = self.slope()
        d *= 1 - self.t * self.t
        d *= self.x
        d += 1
        d += self.t
        d *= 0.5
        return d * dy


def gelu_tanh_formula(xp, params, x):
    return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


gelu_tanh = RightLayer("gelu_tanh", LayerSpec(GeluTanh, gelu_tanh_formula, [(5, 9)]))


class GeluTanhShortConstant(GeluTanh):
    triple = 3 * 0.0447


class GeluTanhShortConstantForward(GeluTanh):
    cubic = 0.0447


class GeluTanhNoThree(GeluTanh):
    triple = 0.044715


class GeluTanhNoRoot(GeluTanh):
    def slope(self):
        return 1 + self.triple * self.x**2


class GeluTanhSquareLost(GeluTanh):
    def backward(self, dy):
        return dy * 0.5 * (1 + self.t + self.x * (1 - self.t) * self.slope())


class GeluTanhNoHalf(GeluTanh):
    def backward(self, dy):
        return 2 * super().backward(dy)


class GeluTanhBatchReversed(GeluTanh):
    def backward(self, dy):
        return super().backward(dy)[::-1].copy()


class LeakyReLU:
    def __init__(self, slope=0.01):
        self.slope = slope

    def forward(self, x):
        self.negative = x < 0
        return np.where(self.negative, self.slope * x, x)

    def backward(self, dy):
        dx = dy.copy()
        dx[self.negative] *= self.slope
        return dx


def leaky_formula(xp, params, x):
    return xp.where(x > 0, x, 0.01 * x)


def draw_with_zeros(rng):
    x = rng.standard_normal((7, 6))
    x[rng.random(x.shape) < 0.2] = 0.0
    return (x,)


leaky_relu = RightLayer("leaky_relu", LayerSpec(LeakyReLU, leaky_formula, draw_with_zeros))


class LeakyByUpstream(LeakyReLU):
    def backward(self, dy):
        return np.where(dy < 0, self.slope * dy, dy)


class LeakyTwice(LeakyReLU):
    def backward(self, dy):
        dx = super().backward(dy)
        dx[self.negative] *= self.slope
        return dx


class LeakyDead(LeakyReLU):
    def backward(self, dy):
        return np.where(self.negative, 0, dy)


class LeakyLateThreshold(LeakyReLU):
    def forward(self, x):
        y = super().forward(x)
        self.negative = x < -0.5
        return y


class LeakyInPlace(LeakyReLU):
    def backward(self, dy):
        dy[self.negative] *= self.slope
        return dy


class LeakySteeper(LeakyReLU):
    def backward(self, dy):
        return np.where(self.negative, 0.011 * dy, dy)


class LeakyBranchesSwapped(LeakyReLU):
    def backward(self, dy):
        return np.where(self.negative, dy, self.slope * dy)


class ELU:
    alpha = 1.5

    def forward(self, x):
        self.positive = x > 0
        self.y = np.where(self.positive, x, self.alpha * np.expm1(np.minimum(x, 0)))
        return self.y.copy()

    def backward(self, dy):
        return dy * np.where(self.positive, 1, self.y + self.alpha)


def elu_formula(xp, params, x):
    return xp.where(x > 0, x, 1.5 * xp.expm1(xp.minimum(x, xp.zeros_like(x))))


elu = RightLayer("elu", LayerSpec(ELU, elu_formula, [(8, 6)]))


class ELUAlphaIsOne(ELU):
    def backward(self, dy):
        return dy * np.where(self.positive, 1, (self.y + self.alpha) / self.alpha)


class ELUYPlusOne(ELU):
    def backward(self, dy):
        return dy * np.where(self.positive, 1, self.y + 1)


class ELUYAlone(ELU):
    def backward(self, dy):
        return dy * np.where(self.positive, 1, self.y)


class ELUAtOutput(ELU):
    def backward(self, dy):
        return dy * np.where(self.positive, 1, self.alpha * np.exp(np.minimum(self.y, 0)))


class ELUGateAtOne(ELU):
    def backward(self, dy):
        return dy * np.where(self.y > 1, 1, self.y + self.alpha)


class ELUFirstGate(ELU):
    def forward(self, x):
        if not hasattr(self, "kept"):
            self.kept = x > 0
        y = super().forward(x)
        if self.kept.shape == x.shape:
            self.positive = self.kept
        return y


class ELUUpstreamMean(ELU):
    def backward(self, dy):
        return super().backward(np.full_like(dy, dy.mean()))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_prime(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus_formula(xp, params, x):
    return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))


def _make_softplus(prime, at="input"):
    return from_activation(softplus, prime, at=at)


softplus_layer = RightLayer("softplus", LayerSpec(_make_softplus(softplus_prime), softplus_formula, [(9, 4)], name="softplus"))


def softplus_prime_linear_above_one(x):
    return np.where(x > 1, 1, softplus_prime(x))


def softplus_prime_of_the_maximum(x):
    return (x > 0).astype(x.dtype)


def softplus_prime_in_half(x):
    return softplus_prime(x.astype(np.float16)).astype(x.dtype)


def softplus_prime_times_itself(x):
    return softplus_prime(x) * softplus(x)


class SoftplusSquaresUpstream:
    def forward(self, x):
        self.x = x
        return softplus(x)

    def backward(self, dy):
        return softplus_prime(self.x) * dy * dy


class SoftplusOneWrong(SoftplusSquaresUpstream):
    def backward(self, dy):
        dx = softplus_prime(self.x) * dy
        dx.flat[-1] *= -1
        return dx


class Tanh:
    """Everything is written into buffers by `out=`."""

    def forward(self, x):
        self.x = x
        self.y = np.empty_like(x)
        np.tanh(x, out=self.y)
        return self.y.copy()

    def backward(self, dy):
        dx = np.square(self.y)
        np.subtract(1, dx, out=dx)
        np.multiply(dx, dy, out=dx)
        return dx


def tanh_formula(xp, params, x):
    return xp.tanh(x)


tanh = RightLayer("tanh", LayerSpec(Tanh, tanh_formula, [(6, 5)]))


class TanhHandsOutCache(Tanh):
    def forward(self, x):
        super().forward(x)
        return self.y


class TanhAtInput(Tanh):
    def backward(self, dy):
        return dy * (1 - self.x**2)


class TanhTwice(Tanh):
    def backward(self, dy):
        return dy * (1 - np.tanh(self.y) ** 2)


class TanhSquareLost(Tanh):
    def backward(self, dy):
        return dy * (1 - self.y)


class TanhOfOnes(Tanh):
    def backward(self, dy):
        return 1 - self.y**2


class TanhSignOfUpstream(Tanh):
    def backward(self, dy):
        return np.sign(dy) * (1 - self.y**2)


class TanhEatsCache(Tanh):
    def backward(self, dy):
        np.square(self.y, out=self.y)
        return dy * (1 - self.y)


class TanhInHalf(Tanh):
    def backward(self, dy):
        return super().backward(dy).astype(np.float16).astype(dy.dtype)


RIGHT = (swish, gelu_erf, gelu_tanh, leaky_relu, elu, softplus_layer, tanh)
FAULTS = (
    plant(swish, "second-term-lost", SwishSecondTermLost, "missing-term", "the product rule's second term is missing"),
    plant(swish, "half-product", SwishHalfProduct, "missing-factor", "the second term lacks its factor sigmoid"),
    plant(swish, "minus", SwishMinus, "sign", "the whole gradient is negated"),
    plant(swish, "at-output", SwishAtOutput, "at-output", "the derivative is taken at y"),
    plant(swish, "one-percent", SwishOnePercent, "factor", "1 % too large"),
    plant(swish, "passed-on", SwishPassedOn, "identity", "dy is handed on, as if the layer did nothing"),
    plant(swish, "clipped", SwishClipped, "clipped", "gradients are clipped to [-1, 1] inside the layer"),
    plant(swish, "wobbly", SwishWobbly, "none", "each entry is multiplied by the cosine of its index"),
    plant(swish, "remembers-first", SwishRemembersFirst, "stale-cache", "the first cache is kept for ever", "no_stale_state"),
    *(
        plant(gelu_erf, name, from_functions(gelu_forward, backward), causes, why)
        for name, backward, causes, why in (
            ("without-x", gelu_backward_without_x, "missing-factor", "the density is not multiplied by x"),
            ("wide-bell", gelu_backward_wide_bell, "missing-factor constant", "exp(-x^2) for exp(-x^2 / 2)"),
            ("cdf-alone", gelu_backward_cdf_alone, "missing-term", "only the distribution, not x times the density"),
            ("logistic", gelu_backward_by_logistic, "none", "the derivative of the approximation by a logistic function"),
            ("in-half", gelu_backward_in_half, "cast", "the derivative is computed in float16"),
            ("rounded-pi", gelu_backward_rounded_pi, "constant", "3.14 for pi in the density"),
        )
    ),
    plant(gelu_tanh, "short-constant", GeluTanhShortConstant, "constant", "0.0447 for 0.044715 in backward"),
    plant(
        gelu_tanh, "short-constant-forward", GeluTanhShortConstantForward, "constant", "0.0447 for 0.044715 in forward",
        "forward",
    ),
    plant(gelu_tanh, "no-three", GeluTanhNoThree, "missing-factor constant", "the derivative of x^3 lacks its 3"),
    plant(gelu_tanh, "no-root", GeluTanhNoRoot, "missing-factor constant", "the inner derivative lacks sqrt(2 / pi)"),
    plant(gelu_tanh, "square-lost", GeluTanhSquareLost, "missing-factor", "1 - t for 1 - t^2"),
    plant(gelu_tanh, "no-half", GeluTanhNoHalf, "factor", "the factor 1/2 in front is missing"),
    plant(gelu_tanh, "batch-reversed", GeluTanhBatchReversed, "order", "the samples come back in reverse order"),
    plant(leaky_relu, "by-upstream", LeakyByUpstream, "mask", "the gate looks at dy, not at x"),
    plant(leaky_relu, "twice", LeakyTwice, "extra-factor", "the slope is applied twice"),
    plant(leaky_relu, "dead", LeakyDead, "missing-term mask", "negative entries get no gradient, as in a ReLU"),
    plant(leaky_relu, "late-threshold", LeakyLateThreshold, "mask", "the gate closes at -0.5"),
    plant(leaky_relu, "in-place", LeakyInPlace, "aliasing/mutation", "dy is scaled in place", "inputs_unchanged"),
    plant(leaky_relu, "steeper", LeakySteeper, "constant factor", "slope 0.011 for 0.01"),
    plant(leaky_relu, "branches-swapped", LeakyBranchesSwapped, "mask", "the slope is on the positive side"),
    plant(elu, "alpha-is-one", ELUAlphaIsOne, "missing-factor factor", "the negative side lacks its factor alpha"),
    plant(elu, "y-plus-one", ELUYPlusOne, "constant", "y + 1 for y + alpha"),
    plant(elu, "y-alone", ELUYAlone, "missing-term", "y for y + alpha"),
    plant(elu, "at-output", ELUAtOutput, "at-output", "exp(y) for exp(x)"),
    plant(elu, "gate-at-one", ELUGateAtOne, "mask", "the gate opens at 1"),
    plant(elu, "first-gate", ELUFirstGate, "stale-cache", "the gate of the first batch is kept", "no_stale_state"),
    plant(elu, "upstream-mean", ELUUpstreamMean, "cotangent-changed", "the mean of dy stands for dy"),
    plant(
        softplus_layer, "at-output", _make_softplus(softplus_prime, at="output"), "at-output",
        "the derivative is declared as one of the output",
    ),
    plant(
        softplus_layer, "linear-above-one", _make_softplus(softplus_prime_linear_above_one), "mask",
        "the shortcut for large x begins at 1, not at 20",
    ),
    plant(
        softplus_layer, "of-the-maximum", _make_softplus(softplus_prime_of_the_maximum), "missing-term",
        "the logarithm's term is not differentiated",
    ),
    plant(softplus_layer, "in-half", _make_softplus(softplus_prime_in_half), "cast", "the derivative is computed in float16"),
    plant(softplus_layer, "times-itself", _make_softplus(softplus_prime_times_itself), "extra-factor", "it is multiplied by y"),
    plant(softplus_layer, "squares-upstream", SoftplusSquaresUpstream, "cotangent-changed", "dy^2 for dy"),
    plant(softplus_layer, "one-wrong", SoftplusOneWrong, "one-element", "the last entry has the wrong sign"),
    plant(tanh, "hands-out-cache", TanhHandsOutCache, "aliasing/mutation", "the output is the cached array", "no_aliasing"),
    plant(tanh, "at-input", TanhAtInput, "at-input", "1 - x^2 for 1 - y^2"),
    plant(tanh, "twice", TanhTwice, "at-output", "1 - tanh(y)^2 for 1 - y^2"),
    plant(tanh, "square-lost", TanhSquareLost, "missing-factor", "1 - y for 1 - y^2"),
    plant(tanh, "of-ones", TanhOfOnes, "cotangent-ignored", "dy is not multiplied in"),
    plant(tanh, "sign-of-upstream", TanhSignOfUpstream, "cotangent-changed", "the sign of dy stands for dy"),
    plant(tanh, "eats-cache", TanhEatsCache, "aliasing/mutation", "the cache is squared in place", "backward_twice"),
    plant(tanh, "in-half", TanhInHalf, "cast", "the gradient goes through float16"),
)  # fmt: skip
