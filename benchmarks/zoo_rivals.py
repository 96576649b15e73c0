"""Rivals on one layer: a trial of a layer comes in, whether each other tool's own check fails on it goes out.

Each tool runs with its defaults, in float64, on the very arrays that `check_layer` gives the layer. It is wrapped as its
users wrap a layer: a `torch.autograd.Function` that keeps the layer of a forward pass for the backward passes behind it, a
`jax.custom_vjp` that calls back, an autograd primitive. What a layer raises fails any of them. A layer that is JAX itself
goes to the check of a vjp that check_grads runs, for JAX cannot be called from a callback of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from harness.custom.trials import Trial
from harness.discovery import find_backends
from harness.isolation import quiet
from harness.rivals.autograd_check import fails_autograd
from harness.rivals.check_grads import fails_check_grads, fails_check_vjp
from harness.rivals.rival import Attempt, take_leaves
from harness.shards import guard


def fails_gradcheck(trial: Trial, framework: str, fast_mode: bool = False) -> bool:
    """Whether `torch.autograd.gradcheck` fails the layer."""
    import torch

    leaves = take_leaves(trial.problem)
    tensors = [torch.tensor(value).requires_grad_() for value in leaves.values()]
    return not torch.autograd.gradcheck(_wrap(trial, list(leaves)), tensors, raise_exception=False, fast_mode=fast_mode)


def _wrap(trial: Trial, names: list[str]) -> Any:
    """Return the layer as a function of tensors, each forward pass a fresh layer."""
    import torch

    class HandWritten(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            given = {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}
            ctx.layer = trial.kind(**{name: given[f"{trial.node}.{name}"] for name in trial.problem.params[trial.node]})
            y = ctx.layer.forward(*[given.get(name, value) for name, value in trial.problem.inputs.items()])
            return torch.tensor(np.array(y))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            gradients = _name_gradients(trial, ctx.layer.backward(dy.numpy()), ctx.layer.grads)
            return tuple(torch.tensor(np.array(gradients[name])) for name in names)

    return HandWritten.apply


def _name_gradients(trial: Trial, dx: Any, grads: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gradients by name; constants at the end, such as labels, may lack one."""
    parts = dx if isinstance(dx, tuple) else (dx,)
    return {**dict(zip(trial.problem.inputs, parts, strict=False)), **{f"{trial.node}.{k}": v for k, v in grads.items()}}


def fails_jax(trial: Trial, framework: str) -> bool:
    """Whether `jax.test_util.check_grads` fails the layer, in reverse mode and first order."""
    return (fails_check_vjp if framework == "jax" else fails_check_grads)(_attempt(trial))


def fails_hips(trial: Trial, framework: str) -> bool:
    """Whether `autograd.test_util.check_grads` fails the layer, in reverse mode and first order."""
    return fails_autograd(_attempt(trial))


def _attempt(trial: Trial) -> Attempt:
    """Return what the rivals of a selftest are given. Raises RuntimeError where the layer does not run."""
    case = trial.problem.case
    program: Any = find_backends()["numpy"].prepare(case.network, case.dtype, {trial.node: trial.kind})
    outcome = guard(program.run, trial.problem)
    if outcome.status != "ok":
        raise RuntimeError(outcome.message)
    return Attempt(trial.problem, program.run, outcome, outcome)


RIVALS: Mapping[str, Callable[[Trial, str], bool]] = {
    "gradcheck": fails_gradcheck,
    "gradcheck, fast": partial(fails_gradcheck, fast_mode=True),
    "jax check_grads": fails_jax,
    "autograd check_grads": fails_hips,
}


def ask(tool: str, trial: Trial, framework: str) -> bool:
    """Whether the tool fails the layer; what is raised, by the layer or for the layer, fails it."""
    try:
        with quiet():
            return RIVALS[tool](trial, framework)
    except Exception:  # reason: a stranger's layer may raise anything, and a test that raises is red
        return True
