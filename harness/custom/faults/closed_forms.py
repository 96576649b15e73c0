"""Closed forms: a scene of an elementwise layer comes in, its derivative written out, with one mistake in it, goes out."""

from __future__ import annotations

from collections.abc import Iterator

from harness.custom.expressions import Expression
from harness.custom.forms import FACTORS_FIRST, Form
from harness.custom.mistakes import list_mistakes
from harness.custom.scene import Fault, Scene
from harness.custom.slopes import list_slopes

RANK = 65


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of closed forms with a sign, a term, a factor, a number, a variable or a dtype that is another."""
    if not (scene.y.shape == scene.truth.shape == scene.dy.shape) or not scene.is_of_first_input or len(scene.inputs) > 1:
        return
    if scene.params or (scene.dy == 0).any() or not scene.operations:
        return
    slopes = list_slopes(scene.operations, scene.inputs[0], scene.y, scene.truth / scene.dy, scene.free)
    forms = [Form(f"form {i}", scene, Expression(root), scene.dy, FACTORS_FIRST) for i, root in enumerate(slopes)]
    yield from list_mistakes(forms)
