"""Styles 9 and 10: losses with their gradients, as two functions, one function or an object, come in; factories go out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from harness.core import BadInput
from harness.styles.wrapped import Make, Wrapped, name_factory, spread


def from_loss_pair(loss: Callable[..., Any], grad: Callable[..., Any], *, target_first: bool = False) -> Make:
    """Return a factory of layers with the inputs x and t around `loss(x, t)` and `grad(x, t)`, the gradient of the loss by x.

    `target_first` says that both take t first. The loss may be a sum, a mean, one for each row or one for each element: the
    cotangent is multiplied onto the gradient accordingly.
    """

    class LossPair(Wrapped):
        keeps = ("given",)

        def forward(self, x: Any, t: Any) -> Any:
            self.given = (t, x) if target_first else (x, t)
            return loss(*self.given)

        def backward(self, dy: Any) -> Any:
            dx = grad(*self.given)
            return spread(dy, dx) * dx, None

    return name_factory(lambda: LossPair(None, {}), loss)


def from_loss(loss: Callable[..., Any]) -> Make:
    """Return a factory of layers with the inputs x and t around a function `loss(x, t)` that returns the loss and dx."""

    class Loss(Wrapped):
        keeps = ("dx",)

        def forward(self, x: Any, t: Any) -> Any:
            y, self.dx = loss(x, t)
            return y

        def backward(self, dy: Any) -> Any:
            return spread(dy, self.dx) * self.dx, None

    return name_factory(lambda: Loss(None, {}), loss)


def from_loss_layer(make: Make, *, target_first: bool = False) -> Make:
    """Return a factory of layers with the inputs x and t around objects with `forward(x, t)` and `backward(dout=1)`.

    A backward that takes no argument gives the gradient of the loss itself, which is multiplied by the cotangent here.
    Raises BadInput where backward takes more than one argument without a default.
    """

    class LossLayer(Wrapped):
        def forward(self, x: Any, t: Any) -> Any:
            return self.inner.forward(t, x) if target_first else self.inner.forward(x, t)

        def backward(self, dy: Any) -> Any:
            wanted = inspect.signature(self.inner.backward).parameters.values()
            if sum(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in wanted) > 1:
                raise BadInput(
                    f"backward: it takes {', '.join(one.name for one in wanted)}; accepted is backward(dout), or backward()"
                )
            if wanted:
                return self._give(self.inner.backward(dy))
            dx = self.inner.backward()
            return spread(dy, dx) * dx, None

        def _give(self, dx: Any) -> Any:
            return dx if isinstance(dx, tuple) else (dx, None)

    return name_factory(lambda: LossLayer(make(), {}), make)
