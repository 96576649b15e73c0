"""The right layers come in; by what is wrong with them, faulty subclasses of the same name go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reference_layers import Add, Affine, MeanSquaredError, Multiply, ReLU, Sigmoid, SoftmaxCrossEntropy
from tests.meta.planting import alter_dx, alter_grads, alter_y, put, replace_backward, replace_forward

_RNG = np.random.default_rng(0)


def _only(condition: Any, change: Any) -> Any:
    """Return the change where the condition holds of the array, and nothing changed elsewhere."""
    return lambda value: change(value) if condition(value) else value


def _scaled(factor: float) -> Any:
    return lambda value: (value * factor).astype(value.dtype)


def _is(dtype: str) -> Any:
    return lambda value: value.dtype == dtype


def _in_single(value: Any) -> Any:
    return value.astype(np.float32).astype(value.dtype)


def _transposed_if_square(value: Any) -> Any:
    return value.T.copy() if value.ndim == 2 and value.shape[0] == value.shape[1] else value


def _raise(_: Any) -> Any:
    raise FloatingPointError("planted")


def _lack(_: Any) -> Any:
    raise ImportError("planted")


def _leave(_: Any) -> Any:
    raise SystemExit(0)


def _in_place(value: Any, factor: float = 2.0) -> Any:
    """Scale the caller's array, where it may be written to."""
    value.flags.writeable = True
    value *= factor
    return value


def _if_plain(value: Any, otherwise: Any) -> Any:
    return value if value.flags.c_contiguous else otherwise


class _KeepsFirst(Affine):
    """Keeps the cache of its first forward pass for good."""

    def forward(self, x: Any) -> Any:
        kept = self.cache
        y = super().forward(x)
        self.cache = kept or self.cache
        return y


class _SharesCache(Affine):
    """Keeps its cache on the class, so that two of them share one."""

    shared: tuple[Any, ...] = ()

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        type(self).shared = self.cache
        return y

    def backward(self, dy: Any, cache: Any = None) -> Any:
        return super().backward(dy, type(self).shared)


class _Accumulates(Affine):
    """Adds to its gradients at each backward pass, and nobody sets them back."""

    def backward(self, dy: Any, cache: Any = None) -> Any:
        before = dict(self.grads)
        dx = super().backward(dy, cache)
        self.grads = {name: value + before.get(name, 0) for name, value in self.grads.items()}
        return dx


class _Learns(Affine):
    """Replaces its weights while it goes backward, as an optimizer would."""

    def backward(self, dy: Any, cache: Any = None) -> Any:
        dx = super().backward(dy, cache)
        self.params["W"] = self.params["W"] - 0.01 * self.grads["W"]
        return dx


class _Normalises(Affine):
    """Replaces its weights after it went forward, as weight normalisation would."""

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        self.params["W"] = self.params["W"] / 2
        return y


class _Hurries(ReLU):
    """Keeps its gate of the pass before."""

    before: Any = None

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        self.before, self.cache = self.cache, self.before or self.cache
        return y


class _Leans(Sigmoid):
    """Wrong forward and a backward that fits it: the logistic function of 1.001 x."""

    def forward(self, x: Any) -> Any:
        return super().forward((1.001 * x).astype(x.dtype))

    def backward(self, dy: Any, cache: Any = None) -> Any:
        return (1.001 * super().backward(dy, cache)).astype(dy.dtype)


class _Doubts(SoftmaxCrossEntropy):
    """Smooths its labels by 1e-3, forward and backward."""

    def forward(self, x: Any, t: Any) -> Any:
        sure = np.eye(x.shape[1], dtype=x.dtype)[t] if t.ndim == 1 else t
        return super().forward(x, (0.999 * sure + 0.001 / x.shape[1]).astype(x.dtype))


class _Hardens(SoftmaxCrossEntropy):
    """Takes soft labels for the class of the largest weight."""

    def forward(self, x: Any, t: Any) -> Any:
        return super().forward(x, t.argmax(axis=1) if t.ndim == 2 else t)


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _labels(x: Any, t: Any) -> Any:
    return np.eye(x.shape[1], dtype=x.dtype)[t] if t.ndim == 1 else t


def _loss_backward(gradient: Any) -> Any:
    """Return a backward pass of softmax-with-loss from `gradient(p, labels, dy, N)`."""

    def backward(layer: Any, dy: Any) -> Any:
        x, t = layer.inputs
        return np.asarray(gradient(_softmax(x), _labels(x, t), dy, max(len(x), 1)), x.dtype)

    return replace_backward(SoftmaxCrossEntropy, backward)


def _loss_forward(of_logits: Any) -> Any:
    """Return a forward pass of softmax-with-loss from `of_logits(x, labels)`, behind which the right cache is kept."""

    def forward(layer: Any, x: Any, t: Any) -> Any:
        right = SoftmaxCrossEntropy.forward(layer, x, t)
        return np.asarray(of_logits(x, _labels(x, t)), x.dtype)[()] if len(x) else right

    return replace_forward(SoftmaxCrossEntropy, forward)


def _mse_backward(gradient: Any) -> Any:
    """Return a backward pass of the squared error from `gradient(y, t, dy)`."""
    return replace_backward(MeanSquaredError, lambda layer, dy: np.asarray(gradient(*layer.inputs, dy), layer.inputs[0].dtype))


def _overflowing_softmax(x: Any, t: Any) -> Any:
    e = np.exp(x)
    return -(t * np.log(e / e.sum(axis=1, keepdims=True))).sum() / len(x)


def _wrong_axis_loss(x: Any, t: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return -(t * np.log(e / e.sum(axis=0, keepdims=True))).sum() / len(x)


def _first_row(grads: Any) -> Any:
    return {**grads, "b": grads["b"] * 0}


def _affine_backward(gradients: Any) -> Any:
    """Return a backward pass of the affine layer from `gradients(x, W, dy)`: dx, dW and db."""

    def backward(layer: Any, dy: Any) -> Any:
        dx, dW, db = gradients(layer.inputs[0], layer.params["W"], dy)
        layer.grads = {"W": dW, "b": db}
        return dx

    return replace_backward(Affine, backward)


AFFINE: Mapping[str, Any] = {
    "input gradient 1e-3 too large": alter_dx(Affine, _scaled(1 + 1e-3)),
    "input gradient 1e-6 too large in float64": alter_dx(Affine, _only(_is("float64"), _scaled(1 + 1e-6))),
    "input gradient 1e-4 too large in float32": alter_dx(Affine, _only(_is("float32"), _scaled(1 + 1e-4))),
    "weight gradient 1e-3 too large": alter_grads(Affine, lambda grads: {**grads, "W": _scaled(1.001)(grads["W"])}),
    "input gradient of the other sign": alter_dx(Affine, np.negative),
    "weights not transposed": _affine_backward(
        lambda x, W, dy: (dy @ (W if W.shape[0] == W.shape[1] else W.T), x.T @ dy, dy.sum(axis=0))
    ),
    "weight gradient transposed": alter_grads(Affine, lambda grads: {**grads, "W": _transposed_if_square(grads["W"])}),
    "bias gradient not summed over the batch": _affine_backward(
        lambda x, W, dy: (dy @ W.T, x.T @ dy, dy[0] if len(dy) else dy.sum(axis=0))
    ),
    "bias gradient not summed, of another shape": _affine_backward(lambda x, W, dy: (dy @ W.T, x.T @ dy, dy)),
    "bias gradient the mean, not the sum": _affine_backward(
        lambda x, W, dy: (dy @ W.T, x.T @ dy, dy.sum(axis=0) / np.asarray(max(len(dy), 1), dy.dtype))
    ),
    "weight gradient the mean, not the sum": _affine_backward(
        lambda x, W, dy: (dy @ W.T, x.T @ dy / np.asarray(max(len(dy), 1), dy.dtype), dy.sum(axis=0))
    ),
    "bias gradient summed over the wrong axis": _affine_backward(lambda x, W, dy: (dy @ W.T, x.T @ dy, dy.sum(axis=1))),
    "bias gradient broadcastable, with one axis too many": alter_grads(Affine, lambda grads: {**grads, "b": grads["b"][None]}),
    "first sample left out of the weight gradient": _affine_backward(
        lambda x, W, dy: (dy @ W.T, x[1:].T @ dy[1:], dy.sum(axis=0))
    ),
    "last row of the input gradient left out": alter_dx(Affine, lambda dx: np.concatenate([dx[:-1], 0 * dx[-1:]])),
    "bias left out forward": replace_forward(
        Affine, lambda layer, x: Affine.forward(layer, x) - layer.params["b"].astype(x.dtype)
    ),
    "one wrong element": alter_dx(Affine, lambda dx: put(dx, -1, 1.01 * dx.flat[-1] if dx.size else 0)),
    "one wrong weight gradient": alter_grads(Affine, lambda grads: {**grads, "W": put(grads["W"], 0, 1.01 * grads["W"].flat[0])}),
    "gradients counted twice": alter_grads(Affine, lambda grads: {name: 2 * value for name, value in grads.items()}),
    "gradients added up over passes": _Accumulates,
    "cache of the first forward pass kept": _KeepsFirst,
    "cache shared between layers": _SharesCache,
    "float32 inside, input gradient": alter_dx(Affine, _in_single),
    "float32 inside, forward": alter_y(Affine, _in_single),
    "float32 inside, weight gradient": alter_grads(Affine, lambda grads: {**grads, "W": _in_single(grads["W"])}),
    "half precision inside": alter_dx(Affine, lambda dx: dx.astype(np.float16).astype(dx.dtype)),
    "float64 returned for float32": alter_dx(Affine, lambda dx: dx.astype(np.float64)),
    "weight gradient of another dtype": alter_grads(Affine, lambda grads: {**grads, "W": grads["W"].astype(np.longdouble)}),
    "bias gradient missing": alter_grads(Affine, lambda grads: {"W": grads["W"]}),
    "a gradient too many": alter_grads(Affine, lambda grads: {**grads, "c": grads["b"]}),
    "all gradients missing": alter_grads(Affine, lambda grads: {}),
    "gradients under each other's names": alter_grads(Affine, lambda grads: {"W": grads["b"], "b": grads["W"]}),
    "weights changed backward": _Learns,
    "weights changed after the forward pass": _Normalises,
    "wrong with a batch of one alone": alter_dx(Affine, _only(lambda dx: len(dx) == 1, _scaled(2.0))),
    "wrong with an empty batch alone: another shape": alter_dx(Affine, _only(lambda dx: not len(dx), lambda dx: dx[:, :0])),
    "wrong with an empty batch alone: NaN": _affine_backward(
        lambda x, W, dy: (dy @ W.T, x.T @ dy, dy.sum(axis=0) if len(dy) else dy.mean(axis=0))
    ),
    "wrong with an empty batch alone: not zero": _affine_backward(
        lambda x, W, dy: (dy @ W.T, x.T @ dy if len(dy) else np.ones_like(W), dy.sum(axis=0))
    ),
    "wrong with a width of one alone": alter_dx(Affine, _only(lambda dx: dx.shape[1] == 1, _scaled(2.0))),
    "raises with an empty batch": alter_dx(Affine, _only(lambda dx: not len(dx), _raise)),
    "reads a raw buffer: wrong unless rows lie first": replace_forward(
        Affine,
        lambda layer, x: Affine.forward(layer, _if_plain(x, x.ravel(order="K")[: x.size].reshape(x.shape))),
    ),
    "wrong on strided weights alone": replace_forward(
        Affine,
        lambda layer, x: Affine.forward(layer, x) * x.dtype.type(1 if layer.params["b"].flags.c_contiguous else 1.01),
    ),
    "wrong on Fortran-ordered weights alone": alter_dx(
        Affine, _only(lambda dx: dx.flags.c_contiguous and not dx.flags.f_contiguous and len(dx) % 2, _scaled(1.01))
    ),
}
ELEMENTWISE: Mapping[str, Any] = {
    "gate open at zero": replace_backward(ReLU, lambda layer, dy: dy * (layer.inputs[0] >= 0)),
    "half a gate at zero": replace_backward(ReLU, lambda layer, dy: dy * np.heaviside(layer.inputs[0], 0.5).astype(dy.dtype)),
    "gate that leaks 1e-3": replace_backward(
        ReLU, lambda layer, dy: dy * np.where(layer.inputs[0] > 0, 1, 1e-3).astype(dy.dtype)
    ),
    "gate of the upstream gradient": replace_backward(ReLU, lambda layer, dy: np.maximum(dy, 0)),
    "gate of the pass before": _Hurries,
    "gate left out": replace_backward(ReLU, lambda layer, dy: dy.copy()),
    "absolute value forward": replace_forward(ReLU, lambda layer, x: ReLU.forward(layer, x) + np.maximum(-x, 0)),
    "mutated input": replace_forward(ReLU, lambda layer, x: _in_place(ReLU.forward(layer, x), 1) + 0 * _in_place(x)),
    "overwritten upstream gradient": replace_backward(
        Sigmoid, lambda layer, dy: np.multiply(dy, layer.cache[0] * (1 - layer.cache[0]), out=_in_place(dy, 1))
    ),
    "derivative at the input, not at the output": replace_backward(
        Sigmoid, lambda layer, dy: dy * layer.inputs[0] * (1 - layer.inputs[0])
    ),
    "derivative y instead of y (1 - y)": replace_backward(Sigmoid, lambda layer, dy: dy * layer.cache[0]),
    "NaN where it saturates": replace_forward(
        Sigmoid, lambda layer, x: Sigmoid.forward(layer, x) + 0 * np.exp(x) / (1 + np.exp(x))
    ),
    "clipped to ten units": replace_forward(Sigmoid, lambda layer, x: Sigmoid.forward(layer, np.clip(x, -10, 10))),
    "wrong forward with a backward that fits": _Leans,
    "addition that hands on to one input": replace_backward(Add, lambda layer, dy: dy.copy()),
    "addition that hands on nothing": replace_backward(Add, lambda layer, dy: None),
    "addition that halves": replace_backward(Add, lambda layer, dy: (dy / 2, dy / 2)),
    "subtraction backward": replace_backward(Add, lambda layer, dy: (dy.copy(), -dy)),
    "inputs of the product not swapped": replace_backward(
        Multiply, lambda layer, dy: (dy * layer.inputs[0], dy * layer.inputs[1])
    ),
    "product of the gradient with both inputs": replace_backward(
        Multiply, lambda layer, dy: (dy * layer.inputs[0] * layer.inputs[1],) * 2
    ),
    "second input of the product without a gradient": replace_backward(Multiply, lambda layer, dy: (dy * layer.inputs[1], None)),
    "a gradient too many of the product": replace_backward(
        Multiply, lambda layer, dy: (dy * layer.inputs[1], dy * layer.inputs[0] * 1.0001)
    ),
}
LOSSES: Mapping[str, Any] = {
    "upstream gradient left out (softmax)": _loss_backward(lambda p, t, dy, n: (p - t) / n),
    "upstream gradient left out (squared error)": _mse_backward(lambda y, t, dy: (y - t) / max(len(y), 1)),
    "upstream gradient squared": _mse_backward(lambda y, t, dy: dy * dy * (y - t) / max(len(y), 1)),
    "diagonal of the softmax alone": _loss_backward(lambda p, t, dy, n: dy * t * (p - 1) / n),
    "sum over the batch, not the mean": _loss_backward(lambda p, t, dy, n: dy * (p - t)),
    "N - 1 for N (softmax)": _loss_backward(lambda p, t, dy, n: dy * (p - t) / max(n - 1, 1)),
    "N - 1 for N (squared error)": _mse_backward(lambda y, t, dy: dy * (y - t) / max(len(y) - 1, 1)),
    "mean over outputs too": _mse_backward(lambda y, t, dy: dy * (y - t) / max(y.size, 1)),
    "the half left out": _mse_backward(lambda y, t, dy: 2 * dy * (y - t) / max(len(y), 1)),
    "gradient of the target": _mse_backward(lambda y, t, dy: dy * (t - y) / max(len(y), 1)),
    "labels off by one": _loss_backward(lambda p, t, dy, n: dy * (p - np.roll(t, 1, axis=1)) / n),
    "labels taken as integers though soft": _Hardens,
    "labels smoothed by 1e-3": _Doubts,
    "labels of the next sample": _loss_backward(lambda p, t, dy, n: dy * (p - np.roll(t, 1, axis=0)) / n),
    "labels left out": _loss_backward(lambda p, t, dy, n: dy * p / n),
    "largest logit not subtracted": _loss_forward(_overflowing_softmax),
    "softmax over the batch": _loss_forward(_wrong_axis_loss),
    "epsilon in the logarithm": _loss_forward(lambda x, t: -(t * np.log(_softmax(x) + 1e-7)).sum() / len(x)),
    "probability clipped": _loss_forward(lambda x, t: -(t * np.log(np.clip(_softmax(x), 1e-6, 1))).sum() / len(x)),
    "last sample left out": _loss_backward(
        lambda p, t, dy, n: dy * (p - t) / n * (np.arange(len(p)) < len(p) - 1).astype(p.dtype)[:, None]
    ),
    "loss of the batch summed": alter_y(MeanSquaredError, lambda loss: loss * loss.dtype.type(2)),
    "zero, not NaN, for an empty batch": alter_y(MeanSquaredError, lambda loss: np.nan_to_num(loss)),
}
ANY: Mapping[str, Any] = {
    "NaN in one element": alter_dx(Sigmoid, lambda dx: put(dx, 0, np.nan)),
    "infinity in one element": alter_dx(Sigmoid, lambda dx: put(dx, -1, np.inf)),
    "NaN everywhere": alter_dx(Sigmoid, lambda dx: np.full_like(dx, np.nan)),
    "NaN in the output": alter_y(Sigmoid, lambda y: put(y, 0, np.nan)),
    "raising": alter_dx(Sigmoid, _raise),
    "raising forward": alter_y(Sigmoid, _raise),
    "lacking a module": alter_dx(Sigmoid, _lack),
    "leaving the program": alter_dx(Sigmoid, _leave),
    "returning None": alter_dx(Sigmoid, lambda dx: None),
    "returning None forward": alter_y(Sigmoid, lambda y: None),
    "returning a list": alter_dx(Sigmoid, lambda dx: [["a"]]),
    "broadcastable shape": alter_dx(Sigmoid, lambda dx: dx[:1] if len(dx) > 1 else dx),
    "flat shape": alter_dx(Sigmoid, np.ravel),
    "gradient all zero": alter_dx(Sigmoid, np.zeros_like),
    "gradient constant": alter_dx(Sigmoid, lambda dx: np.full_like(dx, dx.mean() if dx.size else 0)),
    "noise of 1e-3": alter_dx(Sigmoid, lambda dx: (dx * (1 + 1e-3 * _RNG.standard_normal(dx.shape))).astype(dx.dtype)),
    "noise of one in a million in float64": alter_dx(
        Sigmoid, lambda dx: (dx * (1 + 1e-6 * _RNG.standard_normal(dx.shape))).astype(dx.dtype)
    ),
    "clipped gradient": alter_dx(Sigmoid, lambda dx: np.clip(dx, -1e-2, 1e-2)),
    "rounded to three digits": alter_dx(Sigmoid, lambda dx: np.round(dx, 3)),
    "rows reversed": alter_dx(Sigmoid, lambda dx: dx[::-1].copy()),
    "columns reversed": alter_dx(Sigmoid, lambda dx: dx[:, ::-1].copy()),
}
FAULTS: Mapping[str, Any] = {**AFFINE, **ELEMENTWISE, **LOSSES, **ANY}
