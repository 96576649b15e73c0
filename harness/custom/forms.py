"""Forms: a scene and its gradient written out as an expression come in, the gradient with places of it changed goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.expressions import Change, Expression, Node, Place
from harness.custom.scene import Fault, Scene

FACTORS_FIRST = ("sign", "missing-factor", "missing-term", "extra-factor")
TERMS_FIRST = ("sign", "missing-term", "missing-factor", "extra-factor")
LONGEST = 80  # letters of a whole expression


@dataclass(frozen=True, eq=False)
class Form:
    """One way to write the gradient of a scene, and its name: `scale`, which no mistake touches, times an expression.

    `order` tells which mistakes with terms and factors are thought of first, where several give the same.
    """

    name: str
    scene: Scene
    expression: Expression
    scale: Any = 1.0
    order: Sequence[str] = TERMS_FIRST

    @property
    def root(self) -> Node:
        """The whole expression."""
        return self.expression.root

    @cached_property
    def text(self) -> str:
        """The whole expression as it is written, and what its names stand for."""
        notes = {node.label: replace(node, label="") for node in reversed(self.expression.nodes) if node.label}
        said = ", ".join(f"{name} = {node.write(LONGEST)}" for name, node in notes.items())
        return self.root.write(LONGEST) + (f" with {said}" if said else "")

    @cached_property
    def is_true(self) -> bool:
        """Whether it is the gradient."""
        gradient, truth = self.run(), self.scene.truth
        return bool(np.isfinite(gradient).all() and np.linalg.norm(gradient - truth) <= 1e-9 * np.linalg.norm(truth))

    def rank(self, cause: str) -> int:
        """Return how soon a cause is thought of."""
        return self.order.index(cause) if cause in self.order else 0

    def run(self, *places: Place, change: Change = lambda value: value) -> Array:
        """Return the gradient with some places changed alike; NaN where the shapes then do not fit."""
        return self.run_each([(place, change) for place in places])

    def run_each(self, changes: Sequence[tuple[Place, Change]]) -> Array:
        """Return the gradient with each place changed in its own way."""
        shape = self.scene.truth.shape
        try:
            value = np.broadcast_to(self.scale * self.expression.evaluate_each(changes), shape)
        except (ValueError, TypeError, IndexError):  # reason: an array in the place of another may have any shape
            return np.full(shape, np.nan)
        return np.where(self.scene.free, 0.0, value)

    def tell(self, cause: str, words: str, place: Place, change: Change) -> Fault:
        """Return what one mistake gives."""
        gradient = self.run(place, change=change)
        if cause == "missing-factor" and np.allclose(np.abs(gradient), np.abs(self.scene.truth), rtol=1e-9, atol=0):
            cause = "sign"  # all that the factor did was to give the signs
        return Fault(cause, f"{self.name} {words}", f"{words}, in the derivative {self.text}", gradient)

    def tell_all(self, cause: str, words: str, places: Sequence[Place], change: Change) -> Fault:
        """Return what one mistake gives that is made in several places alike, as within a loop."""
        said = f"{words}, in {len(places)} place{'s'[: len(places) > 1]} of the derivative {self.text}"
        return Fault(cause, f"{self.name} all {words}", said, self.run(*places, change=change))


def always(value: Any) -> Change:
    """Return the change to that value, whatever stood there."""
    return lambda _: value
