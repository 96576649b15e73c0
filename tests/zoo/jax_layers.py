"""Layers as `jax.custom_vjp` functions with a backward pass by hand, with the mistakes that are made there."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from harness.custom.spec import LayerSpec
from harness.styles import from_jax
from tests.zoo import activations, attention, losses, normalizations, recurrent, torch_layers
from tests.zoo.zoo import RightLayer, plant


def bind(forward, backward):
    """Return a layer of a forward pass `f(*inputs) -> (y, residuals)` and a backward pass `b(residuals, dy)`."""
    function = jax.custom_vjp(lambda *inputs: forward(*inputs)[0])
    function.defvjp(forward, backward)
    return from_jax(function)


def twin(name, forward, backward, formula, inputs, **more):
    return RightLayer(f"jax-{name}", LayerSpec(bind(forward, backward), formula, inputs, name=f"{name}_jax", **more), "jax")


def swish_fwd(x):
    s = jax.nn.sigmoid(x)
    return x * s, (x, s)


def swish_bwd(res, dy):
    x, s = res
    return (dy * (s + x * s * (1 - s)),)


def swish_bwd_two_terms_of_s(res, dy):
    x, s = res
    return (dy * (s + x * s),)


def swish_bwd_passed_on(res, dy):
    return (dy,)


swish = twin("swish", swish_fwd, swish_bwd, activations.swish_formula, [(8, 5)])


def gelu_fwd(x):
    cdf = 0.5 * (1 + jax.lax.erf(x / jnp.sqrt(jnp.asarray(2, x.dtype))))
    return x * cdf, (x, cdf)


def gelu_bwd(res, dy):
    x, cdf = res
    return (dy * (cdf + x * jnp.exp(-x * x / 2) / jnp.sqrt(jnp.asarray(2 * jnp.pi, x.dtype))),)


def gelu_bwd_constant(res, dy):
    x, cdf = res
    return (dy * (cdf + x * jnp.exp(-x * x / 2) * 0.4),)


def gelu_bwd_at_output(res, dy):
    x, cdf = res
    y = x * cdf
    return (dy * (cdf + y * jnp.exp(-y * y / 2) / jnp.sqrt(jnp.asarray(2 * jnp.pi, x.dtype))),)


gelu_erf = twin("gelu_erf", gelu_fwd, gelu_bwd, activations.gelu_formula, [(6, 7)])


def softplus_fwd(x):
    return jnp.logaddexp(x, 0), (x,)


def softplus_bwd(res, dy):
    return (dy * jax.nn.sigmoid(res[0]),)


def softplus_bwd_threshold(res, dy):
    (x,) = res
    return (jnp.where(x > 1.5, dy, dy * jax.nn.sigmoid(x)),)


def softplus_bwd_half(res, dy):
    return (dy * jax.nn.sigmoid(res[0].astype(jnp.bfloat16)).astype(dy.dtype),)


softplus = twin("softplus", softplus_fwd, softplus_bwd, activations.softplus_formula, [(9, 4)])


def tanh_fwd(x):
    y = jnp.tanh(x)
    return y, (x, y)


def tanh_bwd(res, dy):
    _, y = res
    return (dy * (1 - y * y),)


def tanh_bwd_at_input(res, dy):
    x, _ = res
    return (dy * (1 - x * x),)


def tanh_bwd_minus(res, dy):
    _, y = res
    return (dy * (y * y - 1),)


def tanh_bwd_twice(res, dy):
    _, y = res
    return (dy * (1 - y * y) ** 2,)


tanh = twin("tanh", tanh_fwd, tanh_bwd, activations.tanh_formula, [(6, 5)])


def layer_norm_fwd(x, gamma, beta):
    centred = x - x.mean(1, keepdims=True)
    inv = jax.lax.rsqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    hat = centred * inv
    return hat * gamma + beta, (hat, inv, gamma)


def layer_norm_bwd(res, dy):
    hat, inv, gamma = res
    d = dy * gamma
    dx = inv * (d - d.mean(1, keepdims=True) - hat * (d * hat).mean(1, keepdims=True))
    return dx, (dy * hat).sum(0), dy.sum(0)


def layer_norm_bwd_no_variance(res, dy):
    hat, inv, gamma = res
    d = dy * gamma
    return inv * (d - d.mean(1, keepdims=True)), (dy * hat).sum(0), dy.sum(0)


def layer_norm_bwd_beta_zero(res, dy):
    dx, dgamma, dbeta = layer_norm_bwd(res, dy)
    return dx, dgamma, jnp.zeros_like(dbeta)


def layer_norm_bwd_one_entry(res, dy):
    dx, dgamma, dbeta = layer_norm_bwd(res, dy)
    return dx, dgamma.at[0].multiply(1.5), dbeta


layer_norm = twin("layer_norm", layer_norm_fwd, layer_norm_bwd, torch_layers.layer_norm_formula, [(8, 6), (6,), (6,)])


def rms_norm_fwd(x, gain):
    inv = 1 / jnp.sqrt(jnp.mean(x * x, axis=1, keepdims=True) + normalizations.EPS)
    return x * inv * gain, (x, inv, gain)


def rms_norm_bwd(res, dy):
    x, inv, gain = res
    d = dy * gain
    return inv * d - inv**3 * x * jnp.mean(d * x, axis=1, keepdims=True), jnp.sum(dy * x * inv, axis=0)


def rms_norm_bwd_rolled(res, dy):
    dx, dgain = rms_norm_bwd(res, dy)
    return jnp.roll(dx, 1, axis=0), dgain


def rms_norm_bwd_over_batch(res, dy):
    dx, dgain = rms_norm_bwd(res, dy)
    return dx, dgain / len(dy)


rms_norm = twin("rms_norm", rms_norm_fwd, rms_norm_bwd, torch_layers.rms_norm_formula, [(6, 7), (7,)])


def softmax_fwd(x):
    p = jax.nn.softmax(x, axis=1)
    return p, (p,)


def softmax_bwd(res, dy):
    (p,) = res
    return (p * dy - p * jnp.sum(p * dy, axis=1, keepdims=True),)


def softmax_bwd_diagonal(res, dy):
    (p,) = res
    return (p * dy - p * p * dy,)


def softmax_bwd_mean_upstream(res, dy):
    (p,) = res
    return softmax_bwd((p,), jnp.broadcast_to(dy.mean(0), dy.shape))


softmax = twin("softmax", softmax_fwd, softmax_bwd, attention.softmax_formula, [(7, 5)])


def linear_fwd(x, W, b):
    return x @ W + b, (x, W)


def linear_bwd(res, dy):
    x, W = res
    return dy @ W.T, x.T @ dy, dy.sum(0)


def linear_bwd_untransposed(res, dy):
    x, W = res
    return dy @ W, x.T @ dy, dy.sum(0)


def linear_bwd_first_lost(res, dy):
    dx, dW, _ = linear_bwd(res, dy)
    return dx, dW, dy[1:].sum(0)


def linear_bwd_column(res, dy):
    dx, dW, db = linear_bwd(res, dy)
    return dx.at[:, -1].set(0), dW, db


linear = twin("linear", linear_fwd, linear_bwd, torch_layers.linear_formula, [(8, 5), (5, 5), (5,)])


def huber_fwd(y, t):
    r = y - t
    size = jnp.abs(r)
    return jnp.mean(jnp.where(size <= losses.DELTA, r * r / 2, losses.DELTA * (size - losses.DELTA / 2))), (r,)


def huber_bwd(res, dy):
    (r,) = res
    d = dy * jnp.clip(r, -losses.DELTA, losses.DELTA) / r.size
    return d, -d


def huber_bwd_sum(res, dy):
    (r,) = res
    return tuple(d * r.size for d in huber_bwd(res, dy))


def huber_bwd_uncut(res, dy):
    (r,) = res
    return dy * r / r.size, -dy * r / r.size


huber = twin("huber", huber_fwd, huber_bwd, losses.huber_formula, losses.draw_outliers)


def cell_fwd(x, h, Wx, Wh, b):
    new = jnp.tanh(x @ Wx + h @ Wh + b)
    return new, (x, h, Wx, Wh, new)


def cell_bwd(res, dy):
    x, h, Wx, Wh, new = res
    da = dy * (1 - new * new)
    return da @ Wx.T, da @ Wh.T, x.T @ da, h.T @ da, da.sum(0)


def cell_bwd_new_state(res, dy):
    x, _, Wx, Wh, new = res
    da = dy * (1 - new * new)
    return da @ Wx.T, da @ Wh.T, x.T @ da, new.T @ da, da.sum(0)


def cell_bwd_swapped(res, dy):
    dx, dh, dWx, dWh, db = cell_bwd(res, dy)
    return dx, dh, dWh, dWx, db


def cell_bwd_slope_lost(res, dy):
    x, h, Wx, Wh, _ = res
    return dy @ Wx.T, dy @ Wh.T, x.T @ dy, h.T @ dy, dy.sum(0)


def cell_formula(xp, params, x, h, Wx, Wh, b):
    return recurrent.rnn_cell_formula(xp, {"Wx": Wx, "Wh": Wh, "b": b}, x, h)


def draw_cell(rng):
    weights = recurrent.draw_weights(rng)
    return rng.standard_normal((6, 4)), rng.standard_normal((6, 4)), weights["Wx"], weights["Wh"], weights["b"]


rnn_cell = twin("rnn_cell", cell_fwd, cell_bwd, cell_formula, draw_cell)

RIGHT = (swish, gelu_erf, softplus, tanh, layer_norm, rms_norm, softmax, linear, huber, rnn_cell)
FAULTS = tuple(
    plant(right, name, bind(forward, backward), causes, why)
    for right, forward, name, backward, causes, why in (
        (swish, swish_fwd, "slope-lost", swish_bwd_two_terms_of_s, "missing-factor", "the second term lacks 1 - s"),
        (swish, swish_fwd, "passed-on", swish_bwd_passed_on, "identity", "dy is handed on"),
        (gelu_erf, gelu_fwd, "constant", gelu_bwd_constant, "constant", "0.4 for 1 / sqrt(2 pi)"),
        (gelu_erf, gelu_fwd, "at-output", gelu_bwd_at_output, "at-output", "the density is taken at y"),
        (softplus, softplus_fwd, "threshold", softplus_bwd_threshold, "mask", "linear from 1.5 on"),
        (softplus, softplus_fwd, "in-bfloat16", softplus_bwd_half, "cast", "the sigmoid is computed in bfloat16"),
        (tanh, tanh_fwd, "at-input", tanh_bwd_at_input, "at-input", "1 - x^2 for 1 - y^2"),
        (tanh, tanh_fwd, "minus", tanh_bwd_minus, "sign", "the whole gradient is negated"),
        (tanh, tanh_fwd, "twice", tanh_bwd_twice, "extra-factor", "the slope is applied twice"),
        (layer_norm, layer_norm_fwd, "no-variance", layer_norm_bwd_no_variance, "missing-term", "the deviation is a constant"),
        (layer_norm, layer_norm_fwd, "beta-zero", layer_norm_bwd_beta_zero, "zero", "dbeta is 0"),
        (layer_norm, layer_norm_fwd, "one-entry", layer_norm_bwd_one_entry, "one-element", "one entry of dgamma is off"),
        (rms_norm, rms_norm_fwd, "rolled", rms_norm_bwd_rolled, "order", "samples are shifted by one"),
        (rms_norm, rms_norm_fwd, "gain-over-batch", rms_norm_bwd_over_batch, "size-factor", "dgain is a mean"),
        (softmax, softmax_fwd, "diagonal", softmax_bwd_diagonal, "diagonal-only", "only the diagonal of the Jacobian"),
        (softmax, softmax_fwd, "upstream-mean", softmax_bwd_mean_upstream, "cotangent-changed", "dy is averaged over the batch"),
        (linear, linear_fwd, "untransposed", linear_bwd_untransposed, "transposed", "W for its transpose in dx"),
        (linear, linear_fwd, "first-lost", linear_bwd_first_lost, "dropped-row", "db sums from the second row"),
        (linear, linear_fwd, "column-zero", linear_bwd_column, "one-slice", "the last column of dx is 0"),
        (huber, huber_fwd, "sum", huber_bwd_sum, "size-factor factor missing-factor", "not divided by the number of entries"),
        (huber, huber_fwd, "uncut", huber_bwd_uncut, "mask", "large residuals are not cut"),
        (rnn_cell, cell_fwd, "new-state", cell_bwd_new_state, "at-output", "dWh by the new state, not the old one"),
        (rnn_cell, cell_fwd, "swapped", cell_bwd_swapped, "swapped", "dWx and dWh stand in each other's place"),
        (rnn_cell, cell_fwd, "slope-lost", cell_bwd_slope_lost, "missing-factor", "the tanh is not differentiated"),
    )
)
