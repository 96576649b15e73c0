"""Style 11: `torch.autograd.Function`s, modules and functions of tensors come in; factories of layers over arrays go out."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory


def from_torch(function: Any, *, extra: Sequence[Any] = (), output: int = 0) -> Make:
    """Return a factory of layers around a `torch.autograd.Function` class, an `nn.Module` or a function of tensors.

    Floats become tensors with gradients, integers tensors without; `extra` are further arguments that are no tensors.
    Where several outputs come, the one at the place `output` is judged. A module is copied for each layer, and its named
    parameters (dots become _) are the layer's. The backward pass is `torch.autograd.grad`, so that what runs is what
    training runs. Raises BadInput on anything that cannot be called.
    """
    call: Any = getattr(function, "apply", None) if isinstance(function, type) else function
    if not callable(call):
        raise BadInput(f"function: {function!r:.80}; accepted are an autograd.Function class, a module, or a function of tensors")

    class Torch(Wrapped):
        follows_dtype = True

        def forward(self, *inputs: Any) -> Any:
            import torch

            self.inputs = [_make_tensor(value) for value in inputs]
            self.weights = {name: _make_tensor(value) for name, value in self.params.items()}
            with torch.enable_grad():
                y = self._call(*self.inputs, *extra)
            self.y = y[output] if isinstance(y, tuple | list) else y
            return self.y.detach().numpy().copy()

        def _call(self, *arguments: Any) -> Any:
            import torch

            if self.inner is None:
                return call(*arguments)
            names = dict(zip(self.weights, (name for name, _ in self.inner.named_parameters()), strict=True))
            return torch.func.functional_call(self.inner, {names[k]: v for k, v in self.weights.items()}, arguments)

        def backward(self, dy: Any) -> Any:
            import torch

            leaves = [one for one in [*self.inputs, *self.weights.values()] if one.requires_grad]
            found = torch.autograd.grad(
                self.y, leaves, torch.from_numpy(np.array(dy)), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            by_leaf = {id(leaf): grad.numpy().copy() for leaf, grad in zip(leaves, found, strict=True)}
            self.grads = {name: by_leaf[id(one)] for name, one in self.weights.items()}
            return tuple(by_leaf.get(id(one)) for one in self.inputs)

    def build() -> Torch:
        module = deepcopy(function) if hasattr(function, "named_parameters") else None
        named = dict(module.named_parameters()) if module is not None else {}
        return Torch(module, {name.replace(".", "_"): value.detach().numpy() for name, value in named.items()})

    return name_factory(build, function if hasattr(function, "__name__") else type(function))


def _make_tensor(value: Any) -> Any:
    """Return a leaf; a copy, for the tensor would share its memory with what the judge still reads."""
    import torch

    tensor = torch.from_numpy(np.array(value))
    return tensor.requires_grad_(tensor.is_floating_point())
