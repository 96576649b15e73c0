"""Style 12: a `jax.custom_vjp` with a numerically stable backward written by hand."""

import jax
import jax.numpy as jnp

from harness import LayerSpec
from harness.styles import from_jax


@jax.custom_vjp
def log1pexp(x):
    return jnp.log1p(jnp.exp(x))


def forward(x):
    return log1pexp(x), x


log1pexp.defvjp(forward, lambda x, dy: (dy / (1 + jnp.exp(-x)),))


@jax.custom_vjp
def log1pexp_wrong(x):
    return jnp.log1p(jnp.exp(x))


log1pexp_wrong.defvjp(forward, lambda x, dy: (1 / (1 + jnp.exp(-x)),))


def formula(xp, params, x):
    return xp.log(1 + xp.exp(x))


right = LayerSpec(from_jax(log1pexp), formula, inputs=[(8, 5)], name="log1pexp")
wrong = LayerSpec(from_jax(log1pexp_wrong), formula, inputs=[(8, 5)], name="log1pexp_wrong")
FINDS = ("gradients", "dy is ignored")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
