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
from harness.custom.faults import CAUSES
from harness.custom.spec import LayerSpec
from harness.custom.trials import draw_trials
from tests.custom.layers import Swish, swish

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
