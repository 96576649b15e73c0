"""`torch.autograd.gradcheck`: the hand-written layers go in as an autograd Function, and its own answer goes out.

It compares the backward pass with central differences of the layers' own forward pass, in float64 as it demands,
number by number (slow) or along one random direction (fast).
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from harness.core import Array
from harness.rivals.rival import Attempt, Rival, gradients_at, run_at, take_leaves

MOST_NUMBERS = 500


def fails_gradcheck(attempt: Attempt, fast_mode: bool) -> bool:
    """Whether gradcheck, with its default tolerances, fails the layers."""
    torch = import_module("torch")
    leaves = take_leaves(attempt.problem)
    function = _wrap(torch, attempt, list(leaves))
    tensors = [torch.tensor(value).requires_grad_() for value in leaves.values()]
    return not torch.autograd.gradcheck(function, tensors, raise_exception=False, fast_mode=fast_mode)


def _wrap(torch: Any, attempt: Attempt, names: list[str]) -> Any:
    """Return the layers as a function of tensors whose backward pass is the hand-written one."""

    def read(tensors: Any) -> dict[str, Array]:
        return {name: value.detach().numpy() for name, value in zip(names, tensors, strict=True)}

    class HandWritten(torch.autograd.Function):  # type: ignore[misc]  # reason: torch comes as a value, imported when asked for
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            return torch.tensor(run_at(attempt, read(tensors)).y)

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            gradients = gradients_at(attempt, read(ctx.saved_tensors), dy.numpy())
            return tuple(torch.tensor(gradients[name]) for name in names)

    return HandWritten.apply


RIVALS = tuple(
    Rival(
        name, "gradcheck", "torch", why, partial(fails_gradcheck, fast_mode=fast), ("float64",), MOST_NUMBERS, against_itself=True
    )
    for name, why, fast in (
        ("gradcheck", "torch.autograd.gradcheck on the layers, every number", False),
        ("gradcheck-fast", "torch.autograd.gradcheck on the layers, fast_mode", True),
    )
)
