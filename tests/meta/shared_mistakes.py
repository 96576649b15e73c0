"""The right layers come in; by what is wrong with them, layers whose formula, two passes and bounds share a mistake go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reference_layers import Add, Affine, BackwardBound, MeanSquaredError, Multiply, ReLU, Sigmoid, SoftmaxCrossEntropy
from reference_layers.layer import Worked

WIDER = 64
SQUARE = Worked(
    params={"W": ((1.0, 2.0), (3.0, 5.0)), "b": (0.5, -1.0)},
    inputs=(((2.0, -1.0), (0.0, 4.0)),),
    dy=((1.0, -2.0), (3.0, 1.0)),
    y=((-0.5, -2.0), (12.5, 19.0)),
    dx=(((-3.0, -7.0), (5.0, 14.0)),),
    dparams={"W": ((2.0, -4.0), (11.0, 6.0)), "b": (4.0, -1.0)},
    source="by hand: y11 = 2*1 - 1*3 + 0.5; dx12 = 1*3 - 2*5; dW21 = -1*1 + 4*3; db1 = 1 + 3; and so on",
)
SLOPE, STEEP, SMOOTHED = 2.0**-10, 1 + 2.0**-10, 2.0**-10


def share(kind: Any, formula: Callable[..., Any], forward: Callable[..., Any], backward: Callable[..., Any], **more: Any) -> Any:
    """Return a layer of the same name that makes one mistake everywhere.

    `formula(xp, params, *inputs)` is the formula, `forward(layer, *inputs)` and `backward(layer, dy)` are the passes. Its
    bounds are those of the right layer, wide enough for what the mistake makes of them: the author of a mistake derives
    the bounds from it too.
    """

    class Shared(kind):
        def forward(self, *inputs: Any) -> Any:
            self.inputs = inputs
            return np.asarray(forward(self, *inputs), inputs[0].dtype)[()]

        def backward(self, dy: Any, cache: Any = None) -> Any:
            found = backward(self, np.asarray(dy))
            return tuple(map(self._store, found)) if isinstance(found, tuple) else self._store(found)

        def _store(self, value: Any) -> Any:
            return np.asarray(value, self.inputs[0].dtype)

        @staticmethod
        def forward_bound(r: Any, params: Any, *pairs: Any) -> Any:
            right = kind.forward_bound(r, params, *pairs)
            return WIDER * (right + r.u * (np.abs(pairs[0].value) if np.shape(right) == pairs[0].value.shape else 1) + r.tiny)

        @staticmethod
        def backward_bound(r: Any, params: Any, *pairs: Any) -> Any:
            right, dy = kind.backward_bound(r, params, *pairs), pairs[len(kind.differentiable)]
            dx = tuple(None if error is None else _widen(r, error, dy) for error in right.dx)
            return BackwardBound(dx, {name: WIDER * error + r.tiny for name, error in right.dparams.items()})

    members = {"formula": staticmethod(formula), **more}
    return type(kind.__name__, (Shared,), members)


def _widen(r: Any, error: Any, dy: Any) -> Any:
    return WIDER * (error + r.u * (dy.size if dy.value.shape in ((), np.shape(error)) else 0) + r.tiny)


def _scale(kind: Any, factor: Callable[[Any], Any]) -> Any:
    """Return the layer whose output is `factor(first input)` times too large, gradients with it."""

    def backward(layer: Any, dy: Any) -> Any:
        right = kind.backward(layer, dy)
        scaled = [part * factor(layer.inputs[0]) for part in (right if isinstance(right, tuple) else (right,))]
        return tuple(scaled) if isinstance(right, tuple) else scaled[0]

    return share(
        kind,
        lambda xp, params, x, *rest: kind.formula(xp, params, x, *rest) * factor(x),
        lambda layer, x, *rest: kind.forward(layer, x, *rest) * factor(x),
        backward,
    )


def _affine(of_weights: Callable[[Any], Any], weight_of_bias: float, **more: Any) -> Any:
    """Return the affine layer that uses `of_weights(W)` for W, and the bias so many times."""

    def backward(layer: Any, dy: Any) -> Any:
        (x,), W = layer.inputs, of_weights(layer.params["W"])
        layer.grads = {"W": of_weights(x.T @ dy), "b": np.asarray(weight_of_bias, dy.dtype) * dy.sum(axis=0)}
        return dy @ W.T

    return share(
        Affine,
        lambda xp, params, x: x @ of_weights(params["W"]) + weight_of_bias * params["b"],
        lambda layer, x: x @ of_weights(layer.params["W"]) + np.asarray(weight_of_bias, x.dtype) * layer.params["b"],
        backward,
        **more,
    )


def _transpose_if_square(W: Any) -> Any:
    return W.T if W.shape[0] == W.shape[1] else W


def _leaking_formula(xp: Any, params: Any, x: Any, decisions: Any = None) -> Any:
    return xp.where(x > 0 if decisions is None else decisions, x, SLOPE * x)


def _shifted_formula(xp: Any, params: Any, x: Any, decisions: Any = None) -> Any:
    return xp.where(x > 1 if decisions is None else decisions, x - 1, xp.zeros_like(x))


def _slope(x: Any) -> Any:
    return np.where(x > 0, 1, SLOPE).astype(x.dtype)


def _steep_sigmoid(layer: Any, dy: Any) -> Any:
    return Sigmoid.backward(layer, dy) * np.asarray(STEEP, dy.dtype)


def _smooth(x: Any, t: Any) -> Any:
    sure = np.eye(x.shape[1])[t] if t.ndim == 1 else t
    return ((1 - SMOOTHED) * sure + SMOOTHED / x.shape[1]).astype(x.dtype)


def _smooth_formula(xp: Any, params: Any, x: Any, t: Any) -> Any:
    classes = x.shape[1]
    sure = xp.where(t[:, None] == xp.arange(classes), xp.ones_like(x), xp.zeros_like(x)) if t.ndim == 1 else t
    return SoftmaxCrossEntropy.formula(xp, params, x, (1 - SMOOTHED) * sure + SMOOTHED / classes)


SHARED: Mapping[str, Any] = {
    "affine without its bias": _affine(lambda W: W, 0.0),
    "affine with its bias twice": _affine(lambda W: W, 2.0),
    "affine with its weights transposed where they are square": _affine(
        _transpose_if_square, 1.0, worked=(*Affine.worked, SQUARE)
    ),
    "relu that leaks": share(
        ReLU, _leaking_formula, lambda layer, x: x * _slope(x), lambda layer, dy: dy * _slope(layer.inputs[0])
    ),
    "relu with its kink at 1": share(
        ReLU,
        _shifted_formula,
        lambda layer, x: np.maximum(x - 1, 0),
        lambda layer, dy: dy * (layer.inputs[0] > 1),
        decisions=staticmethod(lambda xp, params, x: x > 1),
        undecided=staticmethod(lambda params, x: np.abs(x.value - 1) <= x.error),
    ),
    "sigmoid with a wrong constant": share(
        Sigmoid,
        lambda xp, params, x: Sigmoid.formula(xp, params, STEEP * x),
        lambda layer, x: Sigmoid.forward(layer, x * np.asarray(STEEP, x.dtype)),
        _steep_sigmoid,
    ),
    "sigmoid from -1 to 1": share(
        Sigmoid,
        lambda xp, params, x: 2 * Sigmoid.formula(xp, params, x) - 1,
        lambda layer, x: 2 * Sigmoid.forward(layer, x) - 1,
        lambda layer, dy: 2 * Sigmoid.backward(layer, dy),
    ),
    "addition that subtracts": share(
        Add, lambda xp, params, a, b: a - b, lambda layer, a, b: a - b, lambda layer, dy: (dy.copy(), -dy)
    ),
    "addition that averages": _scale(Add, lambda a: 0.5),
    "product 1e-3 too large": _scale(Multiply, lambda a: STEEP),
    "product with a square": share(
        Multiply,
        lambda xp, params, a, b: a * b * b,
        lambda layer, a, b: a * b * b,
        lambda layer, dy: (dy * layer.inputs[1] ** 2, 2 * dy * layer.inputs[0] * layer.inputs[1]),
    ),
    "cross-entropy summed over the batch": _scale(SoftmaxCrossEntropy, len),
    "cross-entropy with smoothed labels": share(
        SoftmaxCrossEntropy,
        _smooth_formula,
        lambda layer, x, t: SoftmaxCrossEntropy.forward(layer, x, _smooth(x, t)),
        SoftmaxCrossEntropy.backward,
    ),
    "cross-entropy in bits": _scale(SoftmaxCrossEntropy, lambda x: 1.4426950408889634),
    "squared error without its half": _scale(MeanSquaredError, lambda y: 2),
    "squared error summed over the batch": _scale(MeanSquaredError, len),
    "squared error averaged over the outputs": _scale(MeanSquaredError, lambda y: 1 / y.shape[1]),
}
