"""Style 13: graphs of scalars that keep their own gradients, as micrograd's, come in; factories of layers go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harness.styles.wrapped import Make, Wrapped, name_factory


def from_graph_values(
    value: Callable[[float], Any], function: Callable[..., Any], *, params: Mapping[str, Any] | None = None, data: str = "data",
    grad: str = "grad", backward: str = "backward",
) -> Make:  # fmt: skip
    """Return a factory of layers around a function of arrays (dtype object) of graph values.

    `value` makes a graph value of a float; `function(*inputs, **params)` returns an array, list or one of them, of graph
    values, whose numbers are read from the attribute `data`, and whose leaves' gradients from `grad`. The graph is built
    afresh for each backward pass, because gradients add up in it. Numbers are Python's floats, whose rounding noise nothing
    tells apart from any fault of its size: have such a layer judged in float32.
    """

    class GraphValues(Wrapped):
        def forward(self, *inputs: Any) -> Any:
            self.inputs = [np.array(one) for one in inputs]
            return self._build()[2]

        def _build(self) -> tuple[list[Any], dict[str, Any], Any, Any]:
            leaves = [_wrap(one) for one in self.inputs]
            weights = {name: _wrap(one) for name, one in self.params.items()}
            y = np.asarray(function(*leaves, **weights), dtype=object)
            return leaves, weights, _take(y, data, self._dtype), y

        @property
        def _dtype(self) -> Any:
            return next(one.dtype for one in [*self.inputs, *self.params.values()] if one.dtype.kind == "f")

        def backward(self, dy: Any) -> Any:
            leaves, weights, _, y = self._build()
            total = sum((out * float(weight) for out, weight in zip(y.ravel(), np.ravel(dy), strict=True)), start=value(0.0))
            getattr(total, backward)()
            self.grads = {name: _take(one, grad, self._dtype) for name, one in weights.items()}
            return tuple(_take(one, grad, self._dtype) if one.dtype == object else None for one in leaves)

    def _wrap(array: Any) -> Any:
        return np.vectorize(lambda one: value(float(one)), otypes=[object])(array) if array.dtype.kind == "f" else array

    def _take(array: Any, attribute: str, dtype: Any) -> Any:
        return np.array([float(getattr(one, attribute)) for one in array.ravel()], dtype).reshape(array.shape)

    return name_factory(lambda: GraphValues(None, params or {}), function)
