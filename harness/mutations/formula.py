"""Formulas: a pass comes in, what a rule with a wrong factor, constant, mask or bias makes of it goes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.core import Array
from harness.floats import is_float
from harness.mutations.mutation import SIZES, Mutation
from harness.mutations.passes import Passed, Settings
from harness.mutations.targets import Change, change_all, change_one, has, is_elementwise, is_loss

EPSILONS = (1e-15, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_PERCENTILE = 90


def _factor(of_batch: Callable[[int], float]) -> Change:
    """Return a change by a factor of the batch size, 1 where it has none (N - 1 with a batch of one)."""

    def change(value: Array, passed: Passed) -> Array:
        return value * value.dtype.type(of_batch(passed.batch)) if passed.batch else value

    return change


def _use_ones(settings: Settings, dy: Any) -> Any:
    return np.ones_like(dy)[()]


def _use_absolute(settings: Settings, dy: Any) -> Any:
    return np.abs(dy)


def _gate_upstream(settings: Settings, dy: Any) -> Any:
    return np.maximum(dy, 0)


def _square_upstream(settings: Settings, dy: Any) -> Any:
    return dy * dy


def _let_through_zero(value: Array, passed: Passed) -> Array:
    """Hand the upstream gradient through where the input is exactly 0, as x >= 0 does where x > 0 is meant."""
    x, dy = np.asarray(passed.inputs[0]), np.asarray(passed.dy)
    return np.where(x == 0, dy, value) if x.shape == value.shape == dy.shape else value


def _close_at_half(value: Array, passed: Passed) -> Array:
    """Take an average of both sides where the input is exactly 0."""
    out: Array = (value + _let_through_zero(value, passed)) / value.dtype.type(2)
    return out


def _clip(value: Array, passed: Passed) -> Array:
    """Clip at the percentile of the absolute values."""
    if not value.size:
        return value
    top = np.percentile(np.abs(value).astype(np.float64), _PERCENTILE).astype(value.dtype)
    return np.clip(value, -top, top)


def _clip_inputs(settings: Settings, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    x = np.asarray(inputs[0])
    if not x.size or not is_float(x):
        return inputs
    top = np.percentile(np.abs(x).astype(np.float64), _PERCENTILE).astype(x.dtype)
    return (np.clip(x, -top, top), *inputs[1:])


def _add_constant(value: Array, passed: Passed) -> Array:
    top = np.abs(value).max(initial=0)
    out: Array = value + value.dtype.type(passed.size) * value.dtype.type(top if np.isfinite(top) else 1)
    return out


def _push_inputs(settings: Settings, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Move the first input away from 0: what a guard against log(0) or 1/0 does. A softmax would not notice a plain sum."""
    x = np.asarray(inputs[0])
    return (x + np.copysign(x.dtype.type(settings.size), x), *inputs[1:]) if is_float(x) else inputs


def _decay(passed: Passed) -> Any:
    """Add a share of the parameter to its gradient: weight decay that nobody asked for."""
    decayed = {
        key: np.asarray(value) + np.asarray(value).dtype.type(passed.size) * passed.params[key]
        for key, value in passed.gradients.items()
        if isinstance(key, str) and np.shape(value) == np.shape(passed.params[key])
    }
    return {**passed.gradients, **decayed}


MUTATIONS = (
    Mutation("mean for sum over the batch", "formula", "mean(axis=0) where the sum is meant: the loss has divided already",
             (), has("dparams"), gradients=change_all("dparams", _factor(lambda n: 1 / n)), may_vanish=True),
    Mutation("sum for mean over the batch", "formula", "the division by the batch is missing", (), is_loss,
             gradients=change_all("all", _factor(lambda n: n)), may_vanish=True),
    Mutation("N - 1 for N", "formula", "the divisor of an unbiased variance, or an off-by-one", (), has("all"),
             gradients=change_all("all", _factor(lambda n: n / max(n - 1, 1))), may_vanish=True),
    Mutation("N + 1 for N", "formula", "an off-by-one in the divisor", (), has("all"),
             gradients=change_all("all", _factor(lambda n: n / (n + 1)))),
    Mutation("dy times the batch", "formula", "a loss that was summed upstream and is averaged here, or the reverse", (),
             has("all"), gradients=change_all("all", _factor(lambda n: n)), may_vanish=True),
    Mutation("upstream gradient ignored", "formula", "ones for dy: right only where the layer is the last one", (), has("all"),
             upstream=_use_ones),
    Mutation("upstream gradient without its sign", "formula", "a norm where the value is meant", (), has("all"),
             upstream=_use_absolute, may_vanish=True),
    Mutation("upstream gradient gated", "formula", "max(dy, 0) for dy max(x, 0)', as guided backpropagation does", (), has("all"),
             upstream=_gate_upstream, may_vanish=True),
    Mutation("upstream gradient squared", "formula", "dy multiplied in twice", (), has("all"), upstream=_square_upstream),
    Mutation("gradient let through at exactly 0", "formula", ">= where > is meant", (), is_elementwise, may_vanish=True,
             gradients=change_all("dx", _let_through_zero)),
    Mutation("half the gradient let through at exactly 0", "formula", "sign(x) or heaviside(x, 0.5) for a gate", (),
             is_elementwise, may_vanish=True, gradients=change_all("dx", _close_at_half)),
    Mutation("gradients clipped", "formula", "gradient clipping left on", (), has("all"), may_vanish=True,
             gradients=change_one("all", _clip)),
    Mutation("inputs clipped", "formula", "a guard against overflow that also cuts what is harmless", (), has("all"),
             receives=_clip_inputs, may_vanish=True),
    Mutation("constant e of the largest added", "formula", "an epsilon that ends up beside the gradient", SIZES, has("all"),
             gradients=change_one("all", _add_constant)),
    Mutation("input moved away from 0 by e", "formula", "an epsilon against log(0) or 1/0 that is added to every input", EPSILONS,
             has("all"), receives=_push_inputs, may_vanish=True),
    Mutation("e of the parameter added to its gradient", "formula", "weight decay inside the layer", SIZES, has("dparams"),
             gradients=_decay),
)  # fmt: skip
