"""The families of known faults come in; that each has a place, and names its causes in the words that are agreed, must hold."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import harness.custom.faults as package
from harness.custom.diagnose import find_families
from harness.custom.faults import CAUSES

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
