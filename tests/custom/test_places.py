"""Objects of modules, of functions and of nothing come in; where another process finds them, and that it does, goes out."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.core import BadInput
from harness.custom.places import load, locate, on_path
from tests.custom import importable, layers


def named_twice() -> None:
    """Nothing."""


known_as = lambda: None  # noqa: E731  # reason: a lambda that has a name all the same


class Outer:
    class Inner:
        """A class in a class."""


def test_what_a_module_holds_is_found_under_its_name() -> None:
    place = locate(importable.Averages)
    assert place is not None
    assert place.path == "tests.custom.importable:Averages"
    assert Path(place.root) == Path(__file__).parents[2]
    assert load(place.path, "layer") is importable.Averages


def test_lambdas_instances_and_what_lies_deeper_are_found_by_name() -> None:
    assert load(locate(importable.styled).path, "spec") is importable.styled  # type: ignore[union-attr]  # reason: it must be there
    assert locate(known_as).name == "known_as"  # type: ignore[union-attr]  # reason: as above
    assert locate(Outer.Inner).name == "Outer.Inner"  # type: ignore[union-attr]  # reason: as above


def test_what_is_installed_needs_no_folder() -> None:
    place = locate(np.sin)
    assert place is None or place.root == ""
    from hypothesis import given

    assert locate(given).root == ""  # type: ignore[union-attr]  # reason: as above


def test_what_no_module_holds_is_found_nowhere(tmp_path: Path) -> None:
    class Local:
        pass

    assert locate(Local) is None
    assert locate(lambda: None) is None
    (tmp_path / "script.py").write_text("class Layer:\n    pass\n")
    assert locate(runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")["Layer"]) is None


def test_a_class_that_hides_behind_the_name_of_another_is_not_taken_for_it() -> None:
    double = type("Swish", (), {"__module__": layers.__name__, "__qualname__": "Swish"})
    assert locate(double) is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", "accepted is module:name"),
        (":name", "accepted is module:name"),
        ("no.such.module:name", "cannot be imported"),
        ("tests.custom.layers:nothing", "has no nothing"),
    ],
)
def test_wrong_addresses_are_named(path: str, words: str) -> None:
    with pytest.raises(BadInput, match=f"layer: .*{words}"):
        load(path, "layer")


def test_a_module_that_raises_is_named(tmp_path: Path) -> None:
    (tmp_path / "raises_when_imported.py").write_text("1 / 0\n")
    before = list(sys.path)
    with on_path([tmp_path]), pytest.raises(BadInput, match="ZeroDivisionError"):
        load("raises_when_imported:x", "layer")
    assert sys.path == before
