"""Networks that are wired wrong come in, though every layer in them is right; a run that is red goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from harness.backends import numpy_reference
from harness.core import Array
from reference_layers import Network
from tests.meta.planting import find_red, rows_of, small_cases


class _Wired(Network):
    """A network whose backward pass calls `hand_on` where the right one sums what arrives at a value."""

    def backward(self, dy: Any) -> dict[str, Any]:
        gradients: dict[str, Any] = {self.output: dy}
        for node in reversed(self.nodes):
            if node.name in gradients:
                returned = node.layer.backward(gradients[node.name])
                parts = returned if isinstance(returned, tuple) else (returned,)
                self.hand_on(gradients, node, list(zip(node.inputs, parts, strict=False)))
        return {name: gradients[name] for name in self.inputs if name in gradients}

    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        for name, part in parts:
            gradients[name] = gradients[name] + part if name in gradients else part


class _LastWins(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        gradients.update(parts)


class _FirstWins(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        for name, part in parts:
            gradients.setdefault(name, part)


class _AddsTwice(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        for name, part in parts:
            gradients[name] = gradients[name] + 2 * part if name in gradients else part


class _Averages(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        for name, part in parts:
            gradients[name] = (gradients[name] + part) / 2 if name in gradients else part


class _WrongInput(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in parts][::-1]
        super().hand_on(gradients, node, list(zip(names, [part for _, part in parts], strict=True)))


class _FirstInputAlone(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        super().hand_on(gradients, node, parts[:1])


class _Clips(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        super().hand_on(gradients, node, [(name, np.clip(part, -0.5, 0.5).astype(part.dtype)) for name, part in parts])


class _DamagesGradients(_Wired):
    def hand_on(self, gradients: dict[str, Any], node: Any, parts: list[tuple[str, Any]]) -> None:
        super().hand_on(gradients, node, parts)
        for name, _ in parts:
            gradients[name] = gradients[name].astype(np.float16).astype(gradients[name].dtype)


class _WrongOrder(_Wired):
    """Goes backward in an order in which a value may be handed on before all its gradients are there."""

    def backward(self, dy: Any) -> dict[str, Any]:
        gradients: dict[str, Any] = {self.output: dy}
        waiting, done = [self.output], set()
        makers = {node.name: node for node in self.nodes}
        while waiting:
            node = makers[waiting.pop()]
            if node.name in done:
                continue
            done.add(node.name)
            returned = node.layer.backward(gradients[node.name])
            parts = returned if isinstance(returned, tuple) else (returned,)
            self.hand_on(gradients, node, list(zip(node.inputs, parts, strict=False)))
            waiting += [name for name in node.inputs if name in makers and name in gradients]
        return {name: gradients[name] for name in self.inputs if name in gradients}


class _Forward(Network):
    """A network whose forward pass asks `choose` for what a node reads."""

    def forward(self, inputs: Mapping[str, Array]) -> Any:
        values = dict(inputs)
        for node in self.nodes:
            node.layer.cache, node.layer.grads = (), {}
            values[node.name] = node.layer.forward(*[self.choose(values, name) for name in node.inputs])
        return values[self.output]

    def choose(self, values: dict[str, Any], name: str) -> Any:
        return values[name]


class _Stale(_Forward):
    """Reads the oldest value of the same shape and dtype, as a buffer that was not written yet."""

    def choose(self, values: dict[str, Any], name: str) -> Any:
        wanted = values[name]
        return next(value for value in values.values() if (value.shape, value.dtype) == (wanted.shape, wanted.dtype))


class _Casts(_Forward):
    def choose(self, values: dict[str, Any], name: str) -> Any:
        value = values[name]
        return value.astype(np.float32).astype(value.dtype) if value.dtype.kind == "f" else value


class _SwapsInputs(Network):
    def backward(self, dy: Any) -> dict[str, Any]:
        found = super().backward(dy)
        return dict(zip(found, list(found.values())[::-1], strict=True))


class _ForgetsInput(Network):
    def backward(self, dy: Any) -> dict[str, Any]:
        return dict(list(super().backward(dy).items())[1:])


class _SeedsWithOnes(Network):
    def backward(self, dy: Any) -> dict[str, Any]:
        return super().backward(np.ones_like(dy))


class _ReturnsAnother(Network):
    def forward(self, inputs: Mapping[str, Array]) -> Any:
        return super().forward(inputs) * 1


class _ReturnsMore(Network):
    def forward(self, inputs: Mapping[str, Array]) -> Any:
        y = super().forward(inputs)
        return y + np.asarray(1e-3, y.dtype)


WIRINGS: Mapping[str, Callable[..., Network]] = {
    "the last use of a value wins": _LastWins,
    "the first use of a value wins": _FirstWins,
    "residual added twice": _AddsTwice,
    "uses averaged, not summed": _Averages,
    "gradient handed to the wrong input": _WrongInput,
    "gradient handed to the first input alone": _FirstInputAlone,
    "gradients clipped on their way": _Clips,
    "gradients in half precision on their way": _DamagesGradients,
    "backward in another order than the reverse": _WrongOrder,
    "forward reads a stale value": _Stale,
    "values in float32 on their way": _Casts,
    "gradients of the inputs swapped": _SwapsInputs,
    "gradient of an input left out": _ForgetsInput,
    "cotangent replaced by ones": _SeedsWithOnes,
    "output that is not the last node's": _ReturnsMore,
}


@pytest.mark.parametrize("fault", WIRINGS)
def test_a_fault_in_the_wiring_turns_the_run_red(fault, monkeypatch):
    monkeypatch.setattr(numpy_reference, "Network", WIRINGS[fault])
    assert find_red(small_cases()), f"{fault}: nothing failed in {len(small_cases())} cases"


@pytest.mark.parametrize("right", [_Wired, _Forward, _ReturnsAnother])
def test_a_network_wired_as_it_should_be_stays_green(right, monkeypatch):
    monkeypatch.setattr(numpy_reference, "Network", right)
    rows = [row for rows in rows_of(small_cases()[::4]) for row in rows]
    assert len(rows) > 500
    assert [row for row in rows if row.fails] == []


def test_the_wiring_names_the_value_whose_uses_were_not_summed(monkeypatch):
    monkeypatch.setattr(numpy_reference, "Network", _LastWins)
    red = find_red(small_cases())
    assert {("fan-out", "dy")} <= {(row.layer, row.quantity) for row in red}
