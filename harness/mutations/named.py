"""Named mutations: a pass of one known layer comes in, what a well-known mistake makes of it goes out.

Each is a mistake that people make in just this layer, small enough to slip past a tolerance; a layer is known by its `name`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.core import Array
from harness.floats import is_float
from harness.mutations.mutation import Mutation
from harness.mutations.passes import Gradients, Passed, Settings
from harness.mutations.targets import change_all, is_loss

SMOOTHING = 1e-3
SHIFT = 1e-7


def _is(name: str) -> Callable[[Any], bool]:
    return lambda kind: getattr(kind, "name", "") == name


def _slope_in_single(passed: Passed) -> Gradients:
    """Return dx = dy y (1 - y), the slope computed in float32."""
    y = np.asarray(passed.y).astype(np.float32)
    dy = np.asarray(passed.dy)
    return {**passed.gradients, 0: dy * (y * (1 - y)).astype(dy.dtype)}


def _weights_in_single(passed: Passed) -> Gradients:
    """Return dW = x^T dy, the product computed in float32."""
    x, dy = (np.asarray(value).astype(np.float32) for value in (passed.inputs[0], passed.dy))
    return {**passed.gradients, "W": (x.T @ dy).astype(passed.params["W"].dtype)}


def _unbiased(value: Array, passed: Passed) -> Array:
    n = value.dtype.type(passed.batch)
    return value * n / (n - 1) if passed.batch > 1 else value


def _find_weights(x: Array, t: Array) -> Array:
    """Return labels as weights (N, C) in the dtype of the logits."""
    chosen: Array = t if is_float(t) else np.eye(x.shape[1])[t]
    return chosen.astype(x.dtype)


def _smooth(settings: Settings, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the labels (1 - s) T + s / C."""
    x, t = inputs
    kind = x.dtype.type
    return x, _find_weights(x, t) * (kind(1) - kind(SMOOTHING)) + kind(SMOOTHING) / kind(max(x.shape[1], 1))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    out: Array = e / e.sum(axis=1, keepdims=True)
    return out


def _shifted_loss(passed: Passed) -> Any:
    """Return the mean over the batch of -sum T log(p + 1e-7)."""
    x, t = passed.inputs
    if not len(x):
        return passed.y
    logs = np.log(_softmax(x) + x.dtype.type(SHIFT))
    return -(_find_weights(x, t) * logs).sum() / x.dtype.type(len(x))


def _shifted_gradient(passed: Passed) -> Gradients:
    """Return the gradient of that loss: dy (p sum_j w_j - w) / N with w = T p / (p + 1e-7)."""
    x, t = passed.inputs
    if not len(x):
        return passed.gradients
    p = _softmax(x)
    w = _find_weights(x, t) * p / (p + x.dtype.type(SHIFT))
    dx = (p * w.sum(axis=1, keepdims=True) - w) * (np.asarray(passed.dy, x.dtype) / x.dtype.type(len(x)))
    return {**passed.gradients, 0: dx}


def _inside_root(passed: Passed) -> Gradients:
    """Return the gradients of g x / sqrt(mean(x^2) + eps), where those of g x / (sqrt(mean(x^2)) + eps) are asked for.

    With d the denominator and c = mean(dy g x) over the features: dx = (dy g - c x / d^2) / d and dg = sum dy x / d.
    """
    x, g, dy = passed.inputs[0], passed.params["g"], np.asarray(passed.dy)
    d = np.sqrt(np.square(x).mean(axis=1, keepdims=True) + x.dtype.type(passed.kind.eps))
    pull = dy * g
    c = (pull * x).mean(axis=1, keepdims=True)
    return {**passed.gradients, 0: (pull - c * x / (d * d)) / d, "g": (dy * x / d).sum(axis=0)}


NAMED = (
    Mutation("y (1 - y) in float32", "named", "a float32 buffer or constant inside a float64 activation", (), _is("sigmoid"),
             gradients=_slope_in_single, dtypes=("float64",)),
    Mutation("dW product in float32", "named", "a product on a unit, or of a buffer, that is float32", (), _is("affine"),
             gradients=_weights_in_single, dtypes=("float64",)),
    Mutation("N - 1 for N in the loss", "named", "the divisor of the unbiased variance, or an off-by-one", (), is_loss,
             gradients=change_all("dx", _unbiased), may_vanish=True),
    Mutation("labels smoothed by 1e-3", "named", "label smoothing left on", (), _is("softmax_cross_entropy"), receives=_smooth),
    Mutation("epsilon inside the root", "named", "sqrt(v + eps) where sqrt(v) + eps is meant: both are in use", (),
             _is("rms_norm"), gradients=_inside_root, may_vanish=True),
    Mutation("1e-7 added in the logarithm", "named", "log(p + 1e-7) against log(0)", (), _is("softmax_cross_entropy"),
             returns=_shifted_loss, gradients=_shifted_gradient, may_vanish=True),
)  # fmt: skip
