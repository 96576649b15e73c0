"""The families of known faults come in; that each has a place, and names its causes in the words that are agreed, must hold."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness.custom.faults as package
from harness.custom import diagnose
from harness.custom.diagnose import Diagnosis, diagnose_layer, find_families
from harness.custom.faults import CAUSES, jacobians, local
from harness.custom.spec import LayerSpec
from harness.custom.trials import draw_trials
from tests.custom import formulas
from tests.custom.layers import Swish, swish
from tests.custom.spoilt import FORMULAS, Cumulative

ROOT = Path(__file__).parents[2]
MODULES = [importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]


def test_families_are_found_in_the_order_of_their_ranks():
    ranks = [module.RANK for module in MODULES]
    assert len(set(ranks)) == len(ranks) == len(find_families()) > 10
    assert [predict.__module__ for predict in find_families()] == [
        module.__name__ for module in sorted(MODULES, key=lambda module: module.RANK)
    ]


def test_every_cause_that_a_family_names_is_one_that_is_agreed():
    said = set()
    for module in MODULES:
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Fault"]
        said |= {one.value for call in calls for one in ast.walk(call.args[0]) if isinstance(one, ast.Constant)}
    assert said
    assert said <= set(CAUSES)


class CrossEntropy:
    """Softmax with its loss; `after` spoils the gradient of the scores."""

    def forward(self, x: Any, t: Any) -> Any:
        e = np.exp(x - x.max(1, keepdims=True))
        self.p, self.t = e / e.sum(1, keepdims=True), t
        return -np.mean(np.log(self.p[np.arange(len(t)), t]))

    def backward(self, dy: Any) -> Any:
        return self.after(dy * (self.p - np.eye(self.p.shape[1])[self.t]) / len(self.t)), None

    def after(self, d: Any) -> Any:
        return d


class SoftmaxAgain(CrossEntropy):
    def after(self, d: Any) -> Any:
        return self.p * (d - (self.p * d).sum(1, keepdims=True))


class SlopeAgain(CrossEntropy):
    def after(self, d: Any) -> Any:
        return self.p * (1 - self.p) * d


@pytest.mark.parametrize(("kind", "words"), [(SoftmaxAgain, "the softmax once more"), (SlopeAgain, "the softmax's diagonal")])
def test_an_activation_gone_back_through_twice_is_named(kind: Any, words: str) -> None:
    trials = list(draw_trials(LayerSpec(kind, formulas.cross_entropy, formulas.draw_labels), "float64", 7, 0))
    found = diagnose_layer(trials, "dx")
    assert found.cause == "extra-factor"
    assert words in found.words


def draw_bags(rng: np.random.Generator) -> tuple[Any]:
    return (np.array([[0, 2, 2], [1, 2, 4], [3, 3, 3], [0, 1, 4]]),)


class Bags:
    """The sum of the rows of E that each bag names; `scatter` brings what comes back to those rows."""

    def __init__(self) -> None:
        self.params = {"E": np.random.default_rng(0).standard_normal((5, 3))}
        self.grads: dict[str, Any] = {}

    def forward(self, ids: Any) -> Any:
        self.ids = ids
        return self.params["E"][ids].sum(1)

    def backward(self, dy: Any) -> None:
        self.grads["E"] = np.zeros_like(self.params["E"])
        self.scatter(self.grads["E"], dy)

    def scatter(self, dE: Any, dy: Any) -> None:
        np.add.at(dE, self.ids, dy[:, None])


class AssignedBags(Bags):
    def scatter(self, dE: Any, dy: Any) -> None:
        dE[self.ids] = dy[:, None]


class BagsRowByRow(Bags):
    def scatter(self, dE: Any, dy: Any) -> None:
        for ids, d in zip(self.ids, dy, strict=True):
            dE[ids] += d


def bags(xp: Any, params: Any, ids: Any) -> Any:
    chosen = ids[:, :, None] == xp.arange(5)
    rows = xp.where(chosen[:, :, :, None], params["E"], xp.zeros_like(params["E"]))
    return xp.sum(xp.sum(rows, axis=2), axis=1)


@pytest.mark.parametrize(
    ("kind", "words"), [(AssignedBags, "used several times of"), (BagsRowByRow, "used several times in one row of")]
)
def test_what_is_assigned_is_told_from_what_is_assigned_row_by_row(kind: Any, words: str) -> None:
    trials = list(draw_trials(LayerSpec(kind, bags, draw_bags), "float64", 7, 0))
    found = diagnose_layer(trials, "dE")
    assert found.cause == "missing-term"
    assert words in found.words
    assert "assigned, not added" in found.words


def weigh(xp: Any, params: Any, x: Any) -> Any:
    return xp.sum(params["g"] * x)


@pytest.mark.parametrize(("limit", "clipped"), [(1.2, True), (1.5, False), (2.5, True)])
def test_a_limit_that_right_entries_have_is_none_at_which_it_is_clipped(limit: float, clipped: bool) -> None:
    spec = formulas.make_spec(weigh, [(6, 5)], {"g": np.array([1.0, 1.5, 2.0, 3.0, -4.0])})
    scene = formulas.make_scene(spec, "dx", lambda scene: np.clip(scene.truth / scene.dy, -limit, limit) * scene.dy)
    found = [fault for fault in local.predict(scene) if fault.cause == "clipped"]
    assert bool(found) is clipped
    assert all(np.array_equal(fault.gradient, scene.got) for fault in found)


@pytest.mark.parametrize(("formula", "axes"), [(formulas.softmax, []), (FORMULAS[Cumulative], [1])])
def test_a_wrong_direction_is_thought_of_only_where_gradients_run_one_way(formula: Any, axes: list[int]) -> None:
    scene = formulas.make_scene(formulas.make_spec(formula, [(6, 4)]), "dx")
    found = [fault.words for fault in jacobians.predict(scene) if fault.cause == "order"]
    assert found == [f"it runs along axis {axis} in the wrong direction, from its other end" for axis in axes]


class Whole(Swish):
    """Four times Swish, with its gradient kept in an array of integers."""

    def forward(self, x: Any) -> Any:
        return 4 * super().forward(x)

    def backward(self, dy: Any) -> Any:
        return np.trunc(4 * super().backward(dy))


def test_the_fault_in_the_guide_is_named_where_it_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Add a known fault")[2]
    guide = types.ModuleType("guide")
    exec(text.split("```python\n")[1].partition("```")[0], guide.__dict__)

    def fourfold(xp: Any, params: Any, x: Any) -> Any:
        return 4 * swish(xp, params, x)

    trials = list(draw_trials(LayerSpec(Whole, fourfold, [(8, 5)]), "float64", 7, 0))
    assert guide.RANK not in {module.RANK for module in MODULES}
    assert diagnose_layer(trials, "dx").cause == ""
    monkeypatch.setattr(diagnose, "find_families", lambda: (*find_families(), guide.predict))
    assert diagnose_layer(trials, "dx") == Diagnosis("cast", "it was written into an array of integers")
