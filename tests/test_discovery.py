"""Folders and entry points come in; what is found there, no more and no less, goes out."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness
import reference_layers
from harness import discovery
from harness.core import BadInput
from harness.discovery import choose, find_backends, find_layers, find_reporters

FRAMEWORKS = {"torch", "jax", "pandas", "autograd"}
LAYERS = {"add", "affine", "mean_squared_error", "multiply", "relu", "sigmoid", "softmax_cross_entropy"}
BACKENDS = {
    "autograd",
    "jax",
    "jax:eager",
    "jax:native",
    "jax:tapped",
    "numerical",
    "numerical:central",
    "numpy:native",
    "numpy",
    "torch",
    "torch:native",
}


def _files(package: str) -> list[Path]:
    root = Path(reference_layers.__file__).parent if package == "reference_layers" else Path(harness.__file__).parent / package
    return sorted(path for path in root.glob("*.py") if path.stem != "__init__")


def _assigns(path: Path, name: str) -> bool:
    """Whether the module gives the name a value at its top level."""
    targets = [
        target for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.Assign) for target in node.targets
    ]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def test_the_layers_found_are_those_of_the_files_and_those_that_are_tested():
    files = {path.stem for path in _files("reference_layers") if "formula(" in path.read_text("utf-8")}
    assert set(find_layers()) == files - {"layer"} == LAYERS


def test_the_backends_found_are_those_of_the_files_and_those_that_are_tested():
    modules = {path.stem for path in _files("backends") if _assigns(path, "BACKENDS")}
    found = {type(backend).__module__.rpartition(".")[2] for backend in find_backends().values()}
    assert found == modules
    assert set(find_backends()) == BACKENDS


def test_the_reporters_found_are_those_of_the_files():
    modules = {path.stem for path in _files("reporters") if _assigns(path, "REPORTER")}
    assert len(find_reporters()) == len(modules)


def test_names_are_those_that_things_give_themselves(layers, backends):
    assert all(kind.name == name for name, kind in layers.items())
    assert all(backend.name == name for name, backend in backends.items())


def test_every_framework_has_a_default_backend_of_its_own_name(backends):
    for framework in {backend.framework for backend in backends.values()}:
        assert backends[framework].default


def test_looking_imports_no_framework():
    look = "from harness.discovery import *; find_layers(), find_backends(); import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert "reference_layers.affine" in loaded
    assert not FRAMEWORKS & set(loaded)


@pytest.fixture
def fresh_discovery():
    """Let discovery look again, before the test and after it."""
    find_layers.cache_clear()
    find_backends.cache_clear()
    yield
    find_layers.cache_clear()
    find_backends.cache_clear()


@pytest.fixture
def entry(monkeypatch, fresh_discovery):
    """Offer objects as entry points of other distributions."""

    def offer(kind: str, **objects: object) -> None:
        for name, thing in objects.items():
            monkeypatch.setitem(sys.modules, f"outside_{name}", SimpleNamespace(thing=thing))
        points = [EntryPoint(name, f"outside_{name}:thing", f"harness.{kind}") for name in objects]
        found = {f"harness.{kind}": points}
        monkeypatch.setattr(discovery, "entry_points", lambda group: found.get(group, []))

    return offer


def test_layers_of_entry_points_are_found_beside_ours(entry):
    toy = SimpleNamespace(name="toy")
    entry("layers", toy=toy)
    assert find_layers()["toy"] is toy
    assert set(find_layers()) == {*LAYERS, "toy"}


def test_an_entry_point_of_backends_may_be_one_or_many(entry):
    one, *many = (SimpleNamespace(name=name) for name in ("one", "two", "three"))
    entry("backends", one=one, many=many)
    assert set(find_backends()) == {*BACKENDS, "one", "two", "three"}


def test_choosing_takes_lists_and_text_in_order_without_doubles():
    known = {"a": 1, "b": 2, "c": 3}
    assert choose("thing", "c, a,c", known) == ["c", "a"]
    assert choose("thing", ("b",), known) == ["b"]
    assert choose("thing", None, known) == choose("thing", "all", known) == ["a", "b", "c"]


def test_choosing_an_unknown_name_says_which_are_accepted():
    with pytest.raises(BadInput, match="unknown thing 'd'; accepted are a, b"):
        choose("thing", "a,d", {"a": 1, "b": 2})
