"""Style 11: `torch.autograd.Function`s, modules and functions of tensors come in; factories of layers over arrays go out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
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

    def build() -> TorchLayer:
        module = deepcopy(function) if hasattr(function, "named_parameters") else None
        return TorchLayer(TorchCall(function, call, tuple(extra), output), module)

    return name_factory(build, function if hasattr(function, "__name__") else type(function))


@dataclass(frozen=True, eq=False)
class TorchCall:
    """What was given, how it is called, what it is called with beside its inputs, and which of its outputs is judged."""

    function: Any
    call: Callable[..., Any]
    extra: tuple[Any, ...]
    output: int

    @property
    def is_function(self) -> bool:
        """Whether it is an autograd.Function, with a backward pass of its own."""
        return isinstance(self.function, type) and hasattr(self.function, "setup_context")

    def pick(self, y: Any) -> Any:
        """Return the output that is judged."""
        return y[self.output] if isinstance(y, tuple | list) else y


class TorchLayer(Wrapped):
    """A layer of arrays whose forward pass is the call, of a module or without one, and whose backward pass is autograd's."""

    follows_dtype = True
    keeps = ("inputs", "weights", "y")

    def __init__(self, call: TorchCall, module: Any) -> None:
        named = {} if module is None else dict(module.named_parameters())
        super().__init__(module, {name.replace(".", "_"): value.detach().numpy() for name, value in named.items()})
        self.call = call

    def forward(self, *inputs: Any) -> Any:
        """Return y."""
        import torch

        self.inputs = [_make_tensor(value) for value in inputs]
        self.weights = {name: _make_tensor(value) for name, value in self.params.items()}
        with torch.enable_grad():
            self.y = self._run(*(one.clone() for one in self.inputs))  # no leaf may be changed in place
        return self.y.detach().numpy().copy()

    def _run(self, *inputs: Any) -> Any:
        import torch

        arguments = (*inputs, *self.call.extra)
        if self.inner is None:
            return self.call.pick(self.call.call(*arguments))
        floats = [one.dtype for one in (*arguments, *self.weights.values()) if _is_float(one)]
        self.inner.to(floats[0] if floats else None)  # for its buffers, such as running means
        names = dict(zip(self.weights, (name for name, _ in self.inner.named_parameters()), strict=True))
        weights = {names[k]: v for k, v in self.weights.items()}
        return self.call.pick(torch.func.functional_call(self.inner, weights, arguments))

    def backward(self, dy: Any) -> Any:
        """Return dx, None for each input of integers."""
        import torch

        leaves = [one for one in [*self.inputs, *self.weights.values()] if one.requires_grad]
        found = torch.autograd.grad(
            self.y, leaves, torch.from_numpy(np.array(dy)), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        by_leaf = {id(leaf): grad.numpy().copy() for leaf, grad in zip(leaves, found, strict=True)}
        self.grads = {name: by_leaf[id(one)] for name, one in self.weights.items()}
        return tuple(by_leaf.get(id(one)) for one in self.inputs)

    def differentiate_forward(self, dy: Any, *inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return dx by torch's autodiff of the forward code of a Function; None where there is no Function."""
        call = self.call
        return (differentiate_code(call.function, dy, inputs, call.extra, call.output), {}) if call.is_function else None

    @property
    def is_autodiff(self) -> bool:
        """Whether no Function took part in the last forward pass."""
        return not _holds_custom(self.y.grad_fn)

    def pull_twice(self, inputs: Sequence[Any], dy: Any, weights: Sequence[Any]) -> tuple[Any, ...]:
        """Return the gradients, by the inputs of floats and by dy, of the sum of dx times the weights."""
        import torch

        given = [_make_tensor(value) for value in inputs]
        self.weights = {name: _make_tensor(value) for name, value in self.params.items()}
        leaves, upstream = [one for one in given if one.requires_grad], _make_tensor(dy)
        with torch.enable_grad():
            y = self._run(*given)
            dx = torch.autograd.grad(y, leaves, upstream, create_graph=True, allow_unused=True, materialize_grads=True)
            total: Any = sum((part * torch.from_numpy(np.array(w))).sum() for part, w in zip(dx, weights, strict=True))
            total.backward()  # `grad` would leave out what leads to none of the leaves: the refusal of once_differentiable
        return tuple(np.zeros(one.shape) if one.grad is None else one.grad.numpy().copy() for one in (*leaves, upstream))


class ForwardContext:
    """What a Function's forward is given as `ctx` when it is run for its code alone, with no backward pass behind it."""

    def __init__(self, needs_input_grad: Sequence[bool]) -> None:
        self.needs_input_grad = tuple(needs_input_grad)
        self.saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep the tensors, as `saved_tensors`."""
        self.saved_tensors = tensors

    save_for_forward = save_for_backward

    def mark_dirty(self, *tensors: Any) -> None:
        """Take note of nothing: autograd sees itself what is changed in place."""

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Take note of nothing: what is not differentiated is not asked for."""

    def set_materialize_grads(self, value: bool) -> None:
        """Take note of nothing: this is about a backward pass."""


def differentiate_code(
    function: Any, dy: Any, inputs: Sequence[Any], extra: Sequence[Any] = (), output: int = 0
) -> tuple[Any, ...]:
    """Return dx of a Function by torch's autodiff of its forward code, None for each input that holds no floats.

    Raises whatever that code raises without a backward pass behind it, RuntimeError where it leaves torch.
    """
    import torch

    tensors = [_make_tensor(value) for value in inputs]
    leaves = [one for one in tensors if one.requires_grad]
    with torch.enable_grad():
        y = run_forward(function, [*(one.clone() for one in tensors), *extra])  # clones may be changed in place
    y = y[output] if isinstance(y, tuple | list) else y
    found = torch.autograd.grad(y, leaves, torch.from_numpy(np.array(dy)), allow_unused=True, materialize_grads=True)
    rest = iter(found)
    return tuple(next(rest).numpy().copy() if one.requires_grad else None for one in tensors)


def run_forward(function: Any, arguments: Sequence[Any]) -> Any:
    """Return what the code of a Function's forward makes of the arguments, recorded operation by operation."""
    import torch

    if function.setup_context is not torch.autograd.Function.setup_context:
        return function.forward(*arguments)
    return function.forward(ForwardContext([bool(getattr(one, "requires_grad", False)) for one in arguments]), *arguments)


def _holds_custom(node: Any) -> bool:
    """Whether a graph of torch's holds a Function with a backward pass of its own."""
    import torch

    waiting, seen = [node], set()
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        if isinstance(one, torch.autograd.function.BackwardCFunction):
            return True
        waiting += [following for following, _ in one.next_functions]
    return False


def _is_float(value: Any) -> bool:
    return bool(hasattr(value, "is_floating_point") and value.is_floating_point())


def _make_tensor(value: Any) -> Any:
    """Return a leaf; a copy, for the tensor would share its memory with what the judge still reads."""
    import torch

    tensor = torch.from_numpy(np.array(value))
    return tensor.requires_grad_(tensor.is_floating_point())
