"""Formulas of every kind that the diagnosis writes derivatives of, and scenes of a layer that got one of its gradients wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.custom.expressions import Expression, Node
from harness.custom.forms import Form
from harness.custom.scene import Fault, Scene, set_scene
from harness.custom.spec import LayerSpec
from harness.custom.trials import draw_trials


def draw_labels(rng: np.random.Generator) -> tuple[Any, Any]:
    return rng.standard_normal((6, 4)), rng.integers(0, 4, 6)


def draw_signs(rng: np.random.Generator) -> tuple[Any, Any]:
    return rng.standard_normal((6, 4)), rng.choice([-1.0, 1.0], (6, 4))


def softmax(xp, params, x):
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def log_softmax(xp, params, x):
    return x - xp.log(xp.sum(xp.exp(x), axis=1, keepdims=True))


def layer_norm(xp, params, x):
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    return params["g"] * (centred / xp.sqrt(xp.mean(centred**2, axis=-1, keepdims=True) + 1e-3)) + params["b"]


def batch_norm(xp, params, x):
    centred = x - xp.mean(x, axis=0, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred * centred, axis=0, keepdims=True) + 1e-5)


def rms_norm(xp, params, x):
    return params["g"] * x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + 1e-5)


def unit_length(xp, params, x):
    return x / xp.sqrt(xp.sum(x * x, axis=1, keepdims=True))


def cross_entropy(xp, params, x, t):
    log_p = x - xp.log(xp.sum(xp.exp(x), axis=1, keepdims=True))
    return -xp.sum(xp.where(t[:, None] == xp.arange(x.shape[1]), log_p, xp.zeros_like(log_p))) / x.shape[0]


def smoothed(xp, params, x, t):
    log_p = x - xp.log(xp.sum(xp.exp(x), axis=1, keepdims=True))
    chosen = xp.where(t[:, None] == xp.arange(x.shape[1]), log_p, xp.zeros_like(log_p))
    return -(0.9 * xp.sum(chosen) + 0.1 / x.shape[1] * xp.sum(log_p)) / x.shape[0]


def squares(xp, params, x, t):
    return xp.mean((x - t) ** 2)


def huber(xp, params, x, t):
    r = xp.abs(x - t)
    return xp.mean(xp.where(r <= 0.7, 0.5 * r * r, 0.7 * (r - 0.35)))


def hinge(xp, params, x, t):
    return xp.mean(xp.maximum(1 - x * t, xp.zeros_like(x)))


def class_hinge(xp, params, x, t):
    mine = t[:, None] == xp.arange(x.shape[1])
    right = xp.sum(xp.where(mine, x, xp.zeros_like(x)), axis=1, keepdims=True)
    return xp.sum(xp.where(mine, xp.zeros_like(x), xp.maximum(x - right + 1, xp.zeros_like(x)))) / x.shape[0]


def logistic(xp, params, x, t):
    return xp.mean(xp.log(1 + xp.exp(x)) - t * x)


def attention(xp, params, q, k):
    scores = xp.matmul(q, xp.permute_dims(k, (1, 0))) / 2.0
    e = xp.exp(scores)
    return xp.matmul(e / xp.sum(e, axis=-1, keepdims=True), k)


def recurrent(xp, params, x):
    h = xp.zeros_like(x[:, 0])
    for t in range(3):
        h = xp.tanh(xp.matmul(x[:, t], params["U"]) + xp.matmul(h, params["W"]) + params["b"])
    return h


def gated(xp, params, x):
    return x * (1 / (1 + xp.exp(-(x * params["g"] + params["b"]))))


def stacked(xp, params, x):
    return xp.sum(xp.stack([x, xp.maximum(x, 0.3), xp.abs(x)], axis=1) ** 2, axis=1)


def bend(xp, params, x):
    return xp.tanh(2 * x)


def wave(xp, params, x):
    return xp.sin(x)


def bump(xp, params, x):
    return xp.exp(x)


def leak(xp, params, x):
    return xp.where(x > 0.3, x, 0.25 * x)


def project(xp, params, x):
    return xp.matmul(x, params["W"])


GAINS = {"g": np.array([1.0, 2.0, 0.5, -1.5]), "b": np.array([0.1, -0.2, 0.3, 0.4])}
SQUARES = {name: np.random.default_rng(len(name)).standard_normal((4, 4)) for name in ("U", "W")}


def make_spec(formula: Any, inputs: Any, params: Mapping[str, Any] | None = None, constants: tuple[int, ...] = ()) -> LayerSpec:
    """Return a right layer by the formula's own forward pass; its backward is never asked."""

    class Stub:
        def __init__(self) -> None:
            self.params, self.grads = dict(params or {}), dict[str, Any]()

        def forward(self, *given: Any) -> Any:
            return np.asarray(formula(make_autograd_namespace(), self.params, *given))

        def backward(self, dy: Any) -> Any:
            raise NotImplementedError

    return LayerSpec(Stub, formula, inputs, constants=constants)


def make_scene(spec: LayerSpec, quantity: str, got: Any = None) -> Scene:
    """Return a scene in which the layer gave `got`, noise if it is None, for the quantity."""
    trial = next(iter(draw_trials(spec, "float64", 1, 0)))
    right = set_scene(trial, quantity, np.zeros(1))
    noise = np.random.default_rng(1).standard_normal(right.truth.shape)
    return set_scene(trial, quantity, noise if got is None else got(right))


def write_form(formula: Any, write: Callable[..., Node], got: Any = None, params: Mapping[str, Any] | None = None) -> Form:
    """Return the gradient by the first input as `write` writes it with nodes for dy, x and y, where the layer gave `got`."""
    scene = make_scene(make_spec(formula, [(6, 4)], params), "dx", got)
    values = {"dy": scene.dy, "x": scene.inputs[0], "y": scene.y, **scene.params}
    return Form("hand", scene, Expression(write(**{name: Node(name, value=value) for name, value in values.items()})))


def find_fitting(faults: Iterable[Fault], form: Form) -> list[Fault]:
    """Return the mistakes that give what the layer gave."""
    return [fault for fault in faults if np.allclose(fault.gradient, form.scene.got, rtol=1e-6, atol=0)]
