"""Style 7: a pair of functions that hand a cache from one to the other, with a dict of options."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_functions


def layernorm_forward(x, gamma, beta, ln_param):
    mu, var = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    inv = 1 / np.sqrt(var + ln_param.get("eps", 1e-5))
    x_hat = (x - mu) * inv
    return gamma * x_hat + beta, (x_hat, inv, gamma)


def layernorm_backward(dout, cache):
    x_hat, inv, gamma = cache
    g = dout * gamma
    dx = inv * (g - g.mean(axis=1, keepdims=True) - x_hat * (g * x_hat).mean(axis=1, keepdims=True))
    return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)


def layernorm_backward_without_mean(dout, cache):
    x_hat, inv, gamma = cache
    g = dout * gamma
    dx = inv * (g - x_hat * (g * x_hat).mean(axis=1, keepdims=True))
    return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)


def formula(xp, params, x):
    centred = x - xp.mean(x, axis=1, keepdims=True)
    var = xp.mean(centred * centred, axis=1, keepdims=True)
    return params["gamma"] * centred / xp.sqrt(var + 1e-3) + params["beta"]


own = {"params": {"gamma": np.linspace(0.5, 2, 6), "beta": np.linspace(-1, 1, 6)}, "extra": [{"eps": 1e-3}]}
right = LayerSpec(from_functions(layernorm_forward, layernorm_backward, **own), formula, inputs=[(7, 6)])
wrong = LayerSpec(from_functions(layernorm_forward, layernorm_backward_without_mean, **own), formula, inputs=[(7, 6)])
FINDS = ("gradients", "the term mean(dy * gamma, axis=1) is missing")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
