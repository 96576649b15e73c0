"""MeanSquaredError: outputs and targets of shape (N, D) come in, half the squared error per row goes out as a scalar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from reference_layers.layer import Array, BackwardBound, Hazard, LayerBase, Pair, Params, Place, Rounding, Worked


class MeanSquaredError(LayerBase):
    """Identity-with-loss: L = sum((y - t)^2) / (2 N), half the squared error summed over outputs, mean over the batch.

    With upstream scalar dL the gradient is dL (y - t) / N, just as softmax-with-loss gives
    dL (p - T) / N. It is D / 2 times `torch.nn.functional.mse_loss`, which takes the mean over all
    N D numbers and no half. Targets of another dtype are rounded to that of the outputs. The mean
    over an empty batch is NaN, and its gradient is empty. Raises ValueError when the shapes differ.

    >>> layer = MeanSquaredError()
    >>> layer.forward(np.array([[3.0, 1.0]]), np.array([[1.0, 1.0]]))
    np.float64(2.0)
    >>> layer.backward(1.0)
    array([[2., 0.]])
    """

    name = "mean_squared_error"
    place: ClassVar[Place] = "loss"
    differentiable = (True, False)

    def forward(self, y: Array, t: Array) -> Array:
        if y.shape != t.shape:
            raise ValueError(f"targets have shape {list(t.shape)}; accepted is the shape of the outputs, {list(y.shape)}")
        difference = y - t.astype(y.dtype, copy=False)
        self.cache = (difference,)
        total = np.square(difference).sum()
        loss: Array = total / (2 * len(y)) if len(y) else total.dtype.type(np.nan)
        return loss

    def backward(self, dy: Array | float = 1.0, cache: tuple[Any, ...] | None = None) -> Array:
        (difference,) = self._recall(cache)
        dx: Array = np.multiply(difference, dy / max(len(difference), 1), dtype=difference.dtype)
        return dx

    @staticmethod
    def formula(xp: Any, params: Params, y: Any, t: Any) -> Any:
        return xp.sum((y - t) ** 2) / (2 * y.shape[0])

    @staticmethod
    def forward_bound(r: Rounding, params: Params, y: Pair, t: Pair) -> Array:
        """A sum of N D squares, each with the rounding of its difference twice and of its product, stored before it is summed.

        A framework's own op may overflow where a square, or the mean over all entries that it scales then, is too large.
        """
        if not len(y.value):
            return np.zeros(())
        difference = np.abs(y.value - t.value)
        carried = (difference * y.error + y.error**2 / 2).sum()
        each = np.square(difference + y.error)
        if r.rule == "native" and max(each.max(initial=0.0), each.mean()) * (1 + r.gamma(each.size)) >= r.largest:
            return np.asarray(np.inf)
        squares = each.sum() / 2
        rounded = r.gamma(difference.size + 6) + (6 * r.u if r.u > r.ua else 0.0)
        return np.asarray((carried + rounded * squares) / len(difference) + r.tiny * (1 + difference.size))

    @staticmethod
    def backward_bound(r: Rounding, params: Params, y: Pair, t: Pair, dy: Pair) -> BackwardBound:
        """Four roundings for (y - t) * (dy / N), up to eight where a framework scales on its way."""
        if not len(y.value):
            return BackwardBound((np.zeros_like(y.value), None))
        difference, batch = np.abs(y.value - t.value), len(y.value)
        carried = (y.error * dy.size + difference * dy.error) / batch
        roundings = 4 if r.rule == "layer" else 8
        rounded = roundings * r.u * (difference + y.error) * dy.size / batch
        scaled = 1.0 if r.rule == "layer" else difference.shape[1]  # a framework scales what it has rounded by D / 2
        return BackwardBound((carried + rounded + r.tiny * (2 + scaled * (dy.size + difference)), None))

    @staticmethod
    def sample_inputs(rng: np.random.Generator, batch: int, width: int) -> tuple[Array, ...]:
        return rng.standard_normal((batch, width)), rng.standard_normal((batch, width))

    native: ClassVar[Mapping[str, Callable[..., Any]]] = {
        "torch": lambda torch, params, y, t: torch.nn.functional.mse_loss(y, t) * (y.shape[1] / 2),
    }
    hazards = (
        Hazard(
            "squared-error-cancels",
            "outputs a million times the size of the targets: y - t loses the targets to rounding",
            lambda rng, columns: columns * np.where(rng.random(columns.shape[1]) < 0.5, 1.0, 1e6),
            reach=1e6,
        ),
    )
    worked = (
        Worked(
            inputs=(((3.0, 1.0, 5.0), (0.0, 2.0, -1.0)), ((1.0, 1.0, 4.0), (4.0, -1.0, 1.0))),
            dy=6.0,
            y=8.5,
            dx=(((6.0, 0.0, 3.0), (-12.0, 9.0, -6.0)), None),
            source="by hand: y - t = (2, 0, 1), (-4, 3, -2); (4 + 0 + 1 + 16 + 9 + 4) / (2 * 2 rows) = 34/4; dx = 6 (y - t) / 2",
        ),
    )
