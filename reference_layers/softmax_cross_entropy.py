"""SoftmaxCrossEntropy: logits (N, C) and labels come in, the mean cross-entropy goes out as a scalar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from reference_layers.layer import Array, BackwardBound, Hazard, LayerBase, Pair, Params, Place, Rounding, Worked


class SoftmaxCrossEntropy(LayerBase):
    """Softmax-with-loss: the mean over the batch of -sum_j T_j log p_j, with p the softmax of the logits.

    Labels are integers of shape (N,), or one-hot or soft weights of shape (N, C). With upstream
    scalar dy the gradient of the logits is dy (p sum_j T_j - T) / N, which is dy (p - T) / N for
    labels that sum to 1. Weights of another dtype are rounded to that of the logits. The largest
    logit is subtracted first, so that logits of 1e4 are safe. The mean over an empty batch is NaN,
    and its gradient is empty. Raises ValueError on labels of another shape or out of range.

    >>> layer = SoftmaxCrossEntropy()
    >>> round(float(layer.forward(np.array([[0.0, 0.0]]), np.array([0]))), 4)
    0.6931
    >>> layer.backward(1.0)
    array([[-0.5,  0.5]])
    """

    name = "softmax_cross_entropy"
    place: ClassVar[Place] = "loss"
    differentiable = (True, False)

    def forward(self, x: Array, t: Array) -> Array:
        _check_labels(x, t)
        z = x - x.max(axis=1, keepdims=True)
        e = np.exp(z)
        s = e.sum(axis=1, keepdims=True)
        log_s = np.log(s)
        if t.ndim == 1:
            log_p = z[np.arange(len(t)), t] - log_s[:, 0]
        else:
            t = t.astype(x.dtype, copy=False)
            log_p = t * (z - log_s)
        e /= s
        self.cache = (e, t)
        return _mean_of_rows(-log_p.sum(), len(x))

    def backward(self, dy: Array | float = 1.0, cache: tuple[Any, ...] | None = None) -> Array:
        p, t = self._recall(cache)
        if t.ndim == 1:
            dx: Array = p.copy(order="K")
            dx[np.arange(len(t)), t] -= 1
        else:
            dx = p * t.sum(axis=1, keepdims=True) - t
        dx *= dy / max(len(p), 1)
        return dx

    @staticmethod
    def formula(xp: Any, params: Params, x: Any, t: Any) -> Any:
        z = x - xp.max(x, axis=1, keepdims=True)
        log_p = z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
        if t.ndim == 1:
            chosen = t[:, None] == xp.arange(x.shape[1])
            return -xp.sum(xp.where(chosen, log_p, xp.zeros_like(log_p))) / x.shape[0]
        return -xp.sum(t * log_p) / x.shape[0]

    @staticmethod
    def forward_bound(r: Rounding, params: Params, x: Pair, t: Pair) -> Array:
        """Each log p moves by at most the largest change of a logit on either side, and by its own roundings."""
        if not len(x.value):
            return np.zeros(())
        weights, h = _weights(x.value, t.value), -_log_softmax(x.value)
        moved = 0.0 if x.is_exact else x.error + x.error.max(axis=1, keepdims=True)
        in_log_p = moved + _log_p_rounding(r, h + moved)
        terms = np.abs(weights) * (in_log_p + r.gamma(weights.size + 3) * (h + in_log_p))
        return np.asarray(terms.sum() / len(h) + r.tiny)

    @staticmethod
    def backward_bound(r: Rounding, params: Params, x: Pair, t: Pair, dy: Pair) -> BackwardBound:
        """p (exp(error of log p) - 1), the difference p - T, and the roundings of the quotient by N.

        Differentiating the formula also sends through the subtracted maximum a sum that is 0 but
        for rounding: it lands where the maximum is.
        """
        if not len(x.value):
            return BackwardBound((np.zeros_like(x.value), None))
        weights, log_p = _weights(x.value, t.value), _log_softmax(x.value)
        p, total = np.exp(log_p), weights.sum(axis=1, keepdims=True)
        shift = 0.0 if x.is_exact else _softmax_shift(x, log_p)
        in_p = p * np.expm1(np.minimum(shift + _log_p_rounding(r, -log_p), 700.0))
        in_p = np.minimum(in_p, 1.0)
        difference = p * total - weights
        local = in_p * np.abs(total)
        if t.value.ndim == 2:
            local += (p + in_p) * r.gamma(weights.shape[1] + 1) * np.abs(weights).sum(axis=1, keepdims=True)
        local += 6 * r.u * (np.abs(difference) + local)
        if r.rule == "formula":
            leak = local.sum(axis=1, keepdims=True) + r.gamma(p.shape[1]) * np.abs(difference).sum(axis=1, keepdims=True)
            near = x.value >= x.value.max(axis=1, keepdims=True) - 2 * x.error.max(axis=1, keepdims=True)
            local = local + np.where(near, leak, 0.0)
        carried = 0.0 if dy.is_exact else dy.error * np.abs(difference)
        dx = (dy.size * local + carried) / len(p) + r.tiny * (1 + dy.size)
        return BackwardBound((dx, None))

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
        return 2 * rng.standard_normal((batch, width)), rng.integers(0, width, batch)

    native: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "torch": lambda torch, params, x, t: torch.nn.functional.cross_entropy(x, t),
        "jax": lambda jax, params, x, t: _jax_native(jax, x, t),
    }
    hazards = (
        Hazard(
            "softmax-huge-logits",
            "exp overflows at logits of 1e4 unless the largest one is subtracted",
            lambda rng, columns: columns * np.where(rng.random(columns.shape[1]) < 0.5, 1.0, 1e4),
            reach=1e4,
        ),
    )
    worked = (
        Worked(
            inputs=(((0.0, 1.0986122886681098), (0.0, 1.0986122886681098)), (1, 0)),
            dy=4.0,
            y=0.8369882167858358,
            dx=(((0.5, -0.5), (-1.5, 1.5)), None),
            source="by hand: of the logits (0, ln 3) p = (1/4, 3/4), so that p - T = (1/4, -1/4) and (-3/4, 3/4); "
            "the mean over 2 rows of ln(4/3) and ln 4 is ln(16/3) / 2, and dx = 4 (p - T) / 2",
        ),
        Worked(
            inputs=(((0.0, 0.0, 0.6931471805599453),), ((0.5, 0.25, 0.25),)),
            dy=2.0,
            y=1.2130075659799042,
            dx=(((-0.5, 0.0, 0.5),), None),
            source="by hand: of the logits (0, 0, ln 2) p = (1/4, 1/4, 1/2); with T = (1/2, 1/4, 1/4) the loss is "
            "(2/2 + 2/4 + 1/4) ln 2 = 7/4 ln 2, and dx = 2 (p - T)",
        ),
        Worked(
            inputs=(((0.0, 1.0986122886681098), (1.0986122886681098, 0.0)), ((0.5, 0.5), (1.0, 0.5))),
            dy=4.0,
            y=0.908908734898781,
            dx=(((-0.5, 0.5), (0.25, -0.25)), None),
            source="by hand: p = (1/4, 3/4) and (3/4, 1/4), the weights sum to 1 and 3/2; the mean over 2 rows is "
            "(ln 4 + 3/2 ln(4/3)) / 2, and dx = 4 (p sum T - T) / 2 = 2 (1/4 - 1/2, ...) and 2 (9/8 - 1, ...)",
        ),
    )


def _check_labels(x: Array, t: Array) -> None:
    classes = x.shape[1]
    if t.ndim != 1:
        if t.shape != x.shape:
            raise ValueError(f"labels have shape {list(t.shape)}; accepted are {[len(x)]} integers or weights {list(x.shape)}")
        return
    if t.shape != x.shape[:1] or t.dtype.kind not in "iu":
        raise ValueError(f"labels are {t.dtype}{list(t.shape)}; accepted are {[len(x)]} integers or weights {list(x.shape)}")
    if t.size and (t.min() < 0 or t.max() >= classes):
        wrong = t[(t < 0) | (t >= classes)][0]
        raise ValueError(f"label {wrong} is out of range; accepted are 0 to {classes - 1}")


def _mean_of_rows(total: Array, rows: int) -> Array:
    mean: Array = total / rows if rows else total.dtype.type(np.nan)
    return mean


def _weights(x: Array, t: Array) -> Array:
    """Return the labels as weights (N, C) in float64."""
    if t.ndim == 2:
        return np.asarray(t, np.float64)
    weights = np.zeros(x.shape)
    weights[np.arange(len(t)), t.astype(np.intp)] = 1.0
    return weights


def _log_softmax(x: Array) -> Array:
    z = x - x.max(axis=1, keepdims=True)
    out: Array = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return out


def _softmax_shift(x: Pair, log_p: Array) -> Array:
    """Return how far log p_i can move when each logit moves by its error: E_i + log sum_j p_j exp(E_j)."""
    shifted = log_p + x.error
    top = shifted.max(axis=1, keepdims=True)
    out: Array = x.error + top + np.log(np.exp(shifted - top).sum(axis=1, keepdims=True))
    return np.maximum(out, 0.0)


def _log_p_rounding(r: Rounding, h: Array) -> Array:
    """Return the roundings inside log p, with h = |log p|: z, exp, the sum over C classes, log, the difference.

    |z| <= h and log s <= log C; the entropy, which weighs the errors of the exponents, is at most log C too.
    """
    classes = h.shape[1]
    spread = np.log(classes)
    out: Array = r.gamma(classes) + r.u * (2 * h + (1 + r.elementary) * spread + 2 * r.elementary + 3)
    return out


def _jax_native(jax: Any, x: Any, t: Any) -> Any:
    weights = jax.nn.one_hot(t, x.shape[1], dtype=x.dtype) if t.ndim == 1 else t
    return -(weights * jax.nn.log_softmax(x, axis=1)).sum() / x.shape[0]
