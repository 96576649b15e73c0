"""Parameters on the way back: a scene comes in, gradients through a parameter that was wrongly transposed go out."""

from __future__ import annotations

from collections.abc import Iterator

from harness.custom.scene import Fault, Scene

RANK = 60


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients through a square parameter that was not transposed on the way back, or was when it should not be."""
    for name, value in scene.params.items():
        if value.ndim == 2 and value.shape[0] == value.shape[1] > 1:
            words = f"the parameter {name} is transposed where it must not be, or not where it must"
            yield Fault("transposed", f"turned {name}", words, scene.pull(params={**scene.params, name: value.T}))
