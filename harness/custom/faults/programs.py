"""Backward programs: a scene comes in, its gradient gone back through operation by operation, with one mistake, goes out."""

from __future__ import annotations

from collections.abc import Iterator

from harness.custom.adjoints import write_adjoint
from harness.custom.expressions import Expression, Node
from harness.custom.forms import FACTORS_FIRST, Form
from harness.custom.mistakes import list_mistakes
from harness.custom.probe import Call
from harness.custom.scene import Fault, Scene, find_vjp

RANK = 119


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients of the program with one of its operations done otherwise."""
    root = write_program(scene)
    if root is not None:
        form = Form("program", scene, Expression(root), order=FACTORS_FIRST)
        if form.is_true:
            yield from list_mistakes([form])


def write_program(scene: Scene) -> Node | None:
    """Return the gradient as the author of a computational graph writes it, None where there is no formula to go back through."""
    kind, calls = scene.trial.declared, list[Call]()
    if kind.formula is None:
        return None
    varying = [i for i in range(len(scene.inputs)) if kind.differentiable[i]]
    names = ["x"] if len(scene.inputs) == 1 else [f"x{i}" for i in range(len(scene.inputs))]
    wanted = names[varying[0]] if scene.quantity == "dx" and varying else scene.quantity.removeprefix("d")
    leaves = {**scene.params, **dict(zip(names, scene.inputs, strict=True))}
    if wanted not in leaves:
        return None
    try:
        find_vjp(kind, scene.params, scene.inputs, scene.dy, calls.append)
        return write_adjoint(calls, leaves, scene.dy, wanted, closed=("xp.max",) if scene.shifted else ())
    except Exception:  # reason: a stranger's formula may do anything with its arrays; then nothing is predicted
        return None
