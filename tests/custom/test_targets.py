"""Words for where layers stand come in; their specifications, or what is wrong with the words or the file, go out."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core import BadInput
from harness.custom.targets import Address, find_specs, import_place, load, read_target

SOURCE = """
    from harness import LayerSpec
    from beside import swish
    from tests.custom.layers import Swish

    one = LayerSpec(Swish, swish, [(4, 3)], name="one")
    again = one
    more = [LayerSpec(Swish, swish, [(4, 3)], name=name) for name in ("two", "three")]
    number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with a module of layers and its neighbour; what was imported from it is forgotten."""
    modules, path = set(sys.modules), list(sys.path)
    (tmp_path / "mine.py").write_text(textwrap.dedent(SOURCE))
    (tmp_path / "beside.py").write_text("from tests.custom.layers import swish\n")
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("package.module", Address("package.module")),
        ("package.module:name", Address("package.module", "name")),
        ("a/b.py:name[2]", Address("a/b.py", "name", 2)),
        ("a/b.py", Address("a/b.py")),
    ],
)
def test_a_target_says_where(text: str, address: Address) -> None:
    assert read_target(text) == address
    assert str(address) == text


@pytest.mark.parametrize("inputs", ["8x", "a", "8*5", "8x5;3"])
def test_shapes_are_numbers(inputs: str) -> None:
    with pytest.raises(BadInput, match="accepted are shapes, such as 8x5"):
        read_target("a.py:b", "", inputs)


def test_a_formula_belongs_to_a_name() -> None:
    with pytest.raises(BadInput, match="--formula and --inputs belong to one class or factory"):
        read_target("a.py", "swish", "8x5")


def test_every_specification_of_a_file_is_found_once(folder: Path) -> None:
    file = str(folder / "mine.py")
    found = find_specs(Address(file))
    assert [spec.name for _, spec in found] == ["one", "two", "three"]
    assert [str(address) for address, _ in found] == [f"{file}:one", f"{file}:more[0]", f"{file}:more[1]"]
    assert [load(address) for address, _ in found] == [spec for _, spec in found]


def test_one_is_found_by_its_name(folder: Path) -> None:
    file = str(folder / "mine.py")
    assert [spec.name for _, spec in find_specs(read_target(f"{file}:one"))] == ["one"]
    assert [spec.name for _, spec in find_specs(read_target(f"{file}:more"))] == ["two", "three"]
    assert load(read_target(f"{file}:more[1]")).name == "three"


def test_a_class_needs_its_inputs_and_takes_a_formula(folder: Path) -> None:
    file = str(folder / "mine.py")
    with pytest.raises(
        BadInput, match=r"mine.py:Swish': <class .*Swish'> is no LayerSpec; accepted is one, or a layer with --inputs"
    ):
        find_specs(read_target(f"{file}:Swish"))
    for formula in ("", "swish", f"{folder / 'beside.py'}:swish"):
        spec = load(read_target(f"{file}:Swish", formula, "8x5"))
        assert (spec.name, list(spec.inputs), spec.formula is None) == ("Swish", [(8, 5)], not formula)


def test_a_file_that_shares_its_name_with_another_module_is_its_own(folder: Path) -> None:
    (folder / "json.py").write_text((folder / "mine.py").read_text())
    module = import_place(str(folder / "json.py"))
    assert module.__file__ == str(folder / "json.py")
    assert sys.modules["json"] is not module
    assert import_place(str(folder / "json.py")) is module


def test_a_file_of_a_package_is_imported_under_its_name(folder: Path) -> None:
    package = folder / "pack" / "inner"
    package.mkdir(parents=True)
    for place in (package, package.parent):
        (place / "__init__.py").touch()
    (package / "beside.py").write_text("from tests.custom.layers import swish\n")
    (package / "mine.py").write_text(textwrap.dedent(SOURCE).replace("from beside", "from .beside"))
    assert import_place(str(package / "mine.py")).__name__ == "pack.inner.mine"
    assert len(find_specs(Address("pack.inner.mine"))) == 3


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nothing_like_this", r"ModuleNotFoundError: .* \(line 1 of wrong.py, in <module>\)"),
        ("x = 1\ndef f(:", r"SyntaxError: .*wrong.py, line 2"),
        ("x = 1\n\nraise SystemExit(3)", r"SystemExit: 3 \(line 3 of wrong.py, in <module>\)"),
        ("x = 1", "no LayerSpec stands at its top level"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_the_line(folder: Path, source: str, words: str) -> None:
    (folder / "wrong.py").write_text(source)
    with pytest.raises(BadInput, match=words):
        find_specs(Address(str(folder / "wrong.py")))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere.py", "there is no such file"),
        ("no.such.module", "ModuleNotFoundError: No module named 'no'"),
        ("mine.py:two", r"mine has no two; accepted are its LayerSpecs \(one, again, more\)"),
        ("mine.py:number", "3 is no LayerSpec"),
        ("mine.py:more[2]", "0 layers stand there"),
        ("mine.py:more", "2 layers stand there; accepted is the address of one"),
    ],
)
def test_targets_that_lead_nowhere_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: str) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(BadInput, match=words):
        load(read_target(target))


def test_a_specification_keeps_its_own_inputs(folder: Path) -> None:
    with pytest.raises(BadInput, match="a LayerSpec holds formula and inputs itself"):
        find_specs(read_target(f"{folder / 'mine.py'}:one", "", "8x5"))
