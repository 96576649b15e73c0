"""The frameworks' own way: a network comes in, what one would write by hand to differentiate it in each framework goes out.

These programs are what `harness run` is measured against. They are given the same NumPy arrays as the harness's and
return the same: the output, the gradients by name, and in JAX the branches taken. They know these layers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from harness.core import NetworkSpec, NodeSpec, Problem
from reference_layers import Network, Node

Gradients = dict[str, Any]
Ops = Mapping[str, Callable[..., Any]]
LAYERS = ("add", "affine", "mean_squared_error", "multiply", "relu", "sigmoid", "softmax_cross_entropy")


class ByHand(Protocol):
    """A network made ready in one framework."""

    def run(self, problem: Problem) -> tuple[Any, ...]:
        """Return the output and the gradients by name."""
        ...


def write_by_hand(framework: str, native: bool, layers: Mapping[str, Any], problem: Problem) -> ByHand:
    """Return the program of the problem's network in a framework, over its own ops where `native` asks for them."""
    network = problem.case.network
    if framework == "numpy":
        return NumpyByHand(network, layers, problem)
    return TorchByHand(network, native) if framework == "torch" else JaxByHand(network, native)


class NumpyByHand:
    """One `Network` of the reference layers, whose weights are replaced for each problem."""

    def __init__(self, network: NetworkSpec, layers: Mapping[str, Any], problem: Problem) -> None:
        nodes = [Node(node.name, layers[node.layer](**problem.params[node.name]), node.inputs) for node in network.nodes]
        self.graph = Network(nodes, list(network.widths), network.output.name)

    def run(self, problem: Problem) -> tuple[Any, Gradients]:
        for node in self.graph.nodes:
            node.layer.params.update(problem.params[node.name])
        y = self.graph.forward(problem.inputs)
        gradients = self.graph.backward(problem.dy)
        return y, {**self.graph.grads, **gradients}


class TorchByHand:
    """Eager PyTorch and `torch.autograd.grad`, over formulas or over torch's own ops.

    The tensors are copies: the arrays are read-only, and torch cannot share the memory of such.
    """

    def __init__(self, network: NetworkSpec, native: bool) -> None:
        import torch

        self.torch = torch
        self.nodes = _bind(network, _native_torch(torch) if native else _formulas_torch(torch))
        self.output = network.output.name

    def run(self, problem: Problem) -> tuple[Any, Gradients]:
        tensor, constants = self.torch.tensor, problem.constants
        params = {
            node: {key: tensor(value, requires_grad=True) for key, value in group.items()}
            for node, group in problem.params.items()
        }
        inputs = {name: tensor(value, requires_grad=name not in constants) for name, value in problem.inputs.items()}
        values = dict(inputs)
        for name, op, sources in self.nodes:
            values[name] = op(params[name], *[values[source] for source in sources])
        leaves = {f"{node}.{key}": value for node, group in params.items() for key, value in group.items()}
        leaves |= {name: value for name, value in inputs.items() if name not in constants}
        found = self.torch.autograd.grad(values[self.output], list(leaves.values()), tensor(problem.dy))
        gradients = {name: value.numpy() for name, value in zip(leaves, found, strict=True)}
        return values[self.output].detach().numpy(), gradients


class JaxByHand:
    """`jax.vjp` in a jitted function, over formulas or over JAX's own ops, with the branches taken beside the gradients."""

    def __init__(self, network: NetworkSpec, native: bool) -> None:
        import jax

        ops = _native_jax(jax) if native else _formulas_jax(jax.numpy)
        self.nodes = _bind(network, ops)
        self.gates = {node.name: node.inputs[0] for node in network.nodes if node.layer == "relu"}
        self.output = network.output.name
        self.program = jax.jit(self._differentiate)

    def run(self, problem: Problem) -> tuple[Any, Gradients, Gradients]:
        constants = {name: problem.inputs[name] for name in problem.constants}
        inputs = {name: value for name, value in problem.inputs.items() if name not in constants}
        y, d_params, d_inputs, gates = self.program(problem.params, inputs, constants, problem.dy)
        gradients = {f"{node}.{key}": np.asarray(value) for node, group in d_params.items() for key, value in group.items()}
        gradients |= {name: np.asarray(value) for name, value in d_inputs.items()}
        return np.asarray(y), gradients, {name: np.asarray(value) for name, value in gates.items()}

    def _differentiate(self, params: Any, inputs: Any, constants: Any, dy: Any) -> Any:
        import jax

        def forward(params: Any, inputs: Any) -> Any:
            values = {**inputs, **constants}
            for name, op, sources in self.nodes:
                values[name] = op(params[name], *[values[source] for source in sources])
            return values[self.output], {name: values[source] > 0 for name, source in self.gates.items()}

        y, backward, gates = jax.vjp(forward, params, inputs, has_aux=True)
        return y, *backward(dy), gates


def _bind(network: NetworkSpec, ops: Ops) -> list[tuple[str, Callable[..., Any], tuple[str, ...]]]:
    """Return the steps of the network: a name, an op and what it reads."""

    def step(node: NodeSpec) -> tuple[str, Callable[..., Any], tuple[str, ...]]:
        return node.name, ops[node.layer], node.inputs

    return [step(node) for node in network.nodes]


def _formulas_torch(torch: Any) -> Ops:
    def sigmoid(p: Any, x: Any) -> Any:
        zeros = torch.zeros_like(x)
        falling = torch.exp(-torch.where(x >= 0, x, zeros))
        rising = torch.exp(torch.where(x >= 0, zeros, x))
        return torch.where(x >= 0, 1 / (1 + falling), rising / (1 + rising))

    def cross_entropy(p: Any, x: Any, t: Any) -> Any:
        z = x - torch.amax(x, dim=1, keepdim=True)
        log_p = z - torch.log(torch.sum(torch.exp(z), dim=1, keepdim=True))
        if t.ndim == 1:
            chosen = t[:, None] == torch.arange(x.shape[1])
            return -torch.sum(torch.where(chosen, log_p, torch.zeros_like(log_p))) / x.shape[0]
        return -torch.sum(t * log_p) / x.shape[0]

    return {
        "add": lambda p, a, b: a + b,
        "affine": lambda p, x: x @ p["W"] + p["b"],
        "mean_squared_error": lambda p, y, t: torch.sum((y - t) ** 2) / (2 * y.shape[0]),
        "multiply": lambda p, a, b: a * b,
        "relu": lambda p, x: torch.where(x > 0, x, torch.zeros_like(x)),
        "sigmoid": sigmoid,
        "softmax_cross_entropy": cross_entropy,
    }


def _native_torch(torch: Any) -> Ops:
    functional = torch.nn.functional
    return {
        "add": lambda p, a, b: torch.add(a, b),
        "affine": lambda p, x: functional.linear(x, p["W"].T, p["b"]),
        "mean_squared_error": lambda p, y, t: functional.mse_loss(y, t) * (y.shape[1] / 2),
        "multiply": lambda p, a, b: torch.mul(a, b),
        "relu": lambda p, x: functional.relu(x),
        "sigmoid": lambda p, x: torch.sigmoid(x),
        "softmax_cross_entropy": lambda p, x, t: functional.cross_entropy(x, t),
    }


def _formulas_jax(jnp: Any) -> Ops:
    def sigmoid(p: Any, x: Any) -> Any:
        zeros = jnp.zeros_like(x)
        falling = jnp.exp(-jnp.where(x >= 0, x, zeros))
        rising = jnp.exp(jnp.where(x >= 0, zeros, x))
        return jnp.where(x >= 0, 1 / (1 + falling), rising / (1 + rising))

    def cross_entropy(p: Any, x: Any, t: Any) -> Any:
        z = x - jnp.max(x, axis=1, keepdims=True)
        log_p = z - jnp.log(jnp.sum(jnp.exp(z), axis=1, keepdims=True))
        if t.ndim == 1:
            chosen = t[:, None] == jnp.arange(x.shape[1])
            return -jnp.sum(jnp.where(chosen, log_p, jnp.zeros_like(log_p))) / x.shape[0]
        return -jnp.sum(t * log_p) / x.shape[0]

    return {
        "add": lambda p, a, b: a + b,
        "affine": lambda p, x: x @ p["W"] + p["b"],
        "mean_squared_error": lambda p, y, t: jnp.sum((y - t) ** 2) / (2 * y.shape[0]),
        "multiply": lambda p, a, b: a * b,
        "relu": lambda p, x: jnp.where(x > 0, x, jnp.zeros_like(x)),
        "sigmoid": sigmoid,
        "softmax_cross_entropy": cross_entropy,
    }


def _native_jax(jax: Any) -> Ops:
    def cross_entropy(p: Any, x: Any, t: Any) -> Any:
        weights = jax.nn.one_hot(t, x.shape[1], dtype=x.dtype) if t.ndim == 1 else t
        return -(weights * jax.nn.log_softmax(x, axis=1)).sum() / x.shape[0]

    return {
        **_formulas_jax(jax.numpy),
        "affine": lambda p, x: jax.numpy.dot(x, p["W"]) + p["b"],
        "relu": lambda p, x: jax.nn.relu(x),
        "sigmoid": lambda p, x: jax.nn.sigmoid(x),
        "softmax_cross_entropy": cross_entropy,
    }
