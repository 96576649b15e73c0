"""Targets: `package.module:name` or `file.py:name` comes in, the specifications of layers that stand there go out."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.core import BadInput
from harness.custom.spec import LayerSpec, Shape
from harness.strangers import RAISED, show, tell

ACCEPTED = "package.module:name or path/to/file.py:name"


@dataclass(frozen=True)
class Address:
    """Where a layer stands: a module or file, a name in it, which entry where that names a list.

    Where a class or factory stands there and no LayerSpec, `formula` names its formula (in the same module, or as another
    target), and `inputs` are the shapes of its inputs.
    """

    place: str
    name: str = ""
    entry: int = -1
    formula: str = ""
    inputs: tuple[Shape, ...] = ()

    def __str__(self) -> str:
        entry = f"[{self.entry}]" if self.entry >= 0 else ""
        return f"{self.place}:{self.name}{entry}" if self.name else self.place


def read_target(text: str, formula: str = "", inputs: str = "") -> Address:
    """Return the address that a target of the command line gives, `inputs` as in 8x5,8x3. Raises BadInput on none.

    >>> read_target("layers.py:Swish", "swish", "8x5,8x3")
    Address(place='layers.py', name='Swish', entry=-1, formula='swish', inputs=((8, 5), (8, 3)))
    """
    match = re.fullmatch(r"(?P<place>.+?)(?::(?P<name>[^\W\d]\w*)(?:\[(?P<entry>\d+)\])?)?", text)
    if match is None:
        raise BadInput(f"target {text!r}; accepted is {ACCEPTED}")
    entry = int(match["entry"]) if match["entry"] else -1
    if (formula or inputs) and not match["name"]:
        raise BadInput(f"target {text!r}: --formula and --inputs belong to one class or factory; accepted is {ACCEPTED}")
    return Address(match["place"], match["name"] or "", entry, formula, _read_shapes(inputs))


def _read_shapes(text: str) -> tuple[Shape, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"\d+(x\d+)*", part) for part in parts):
        raise BadInput(f"--inputs {text!r}; accepted are shapes, such as 8x5 or 8x5,8x3")
    return tuple(tuple(map(int, part.split("x"))) for part in parts)


def find_specs(address: Address) -> list[tuple[Address, LayerSpec]]:
    """Return every LayerSpec at an address, of a whole module each at its top level, with the address of it alone.

    The module is imported, a file with its folder on `sys.path`. Raises BadInput where that fails, with the line, and where
    no layer stands.
    """
    module = import_place(address.place)
    if address.name:
        return list(_read_value(address, module, _find_value(module, address.name, str(address))))
    found = [
        pair
        for name, value in vars(module).items()
        if _is_spec_or_list(value)
        for pair in _read_value(replace(address, name=name), module, value)
    ]
    if not found:
        raise BadInput(f"target {str(address)!r}: no LayerSpec stands at its top level; accepted is one, or {ACCEPTED}")
    return list({id(spec): (where, spec) for where, spec in reversed(found)}.values())[::-1]


def load(address: Address) -> LayerSpec:
    """Return the one LayerSpec of an address. Raises BadInput where there is none, or more."""
    found = find_specs(address)
    if len(found) != 1:
        raise BadInput(f"target {str(address)!r}: {len(found)} layers stand there; accepted is the address of one")
    return found[0][1]


def import_place(place: str) -> ModuleType:
    """Return the module of a dotted name or a file. Raises BadInput where it cannot be imported, with the line."""
    is_file = place.endswith(".py") or os.sep in place
    try:
        return _import_file(Path(place).resolve()) if is_file else _import_name(place)
    except BadInput:
        raise
    except RAISED as error:  # reason: whatever stands in the module runs, and may raise anything
        raise BadInput(f"target {place!r} cannot be imported: {tell(error)}; accepted is {ACCEPTED}") from None


def _import_name(name: str) -> ModuleType:
    _put_on_path(Path.cwd())
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    """Import a file as Python would from its folder, one of a package under the package's name."""
    if not path.is_file():
        raise BadInput(f"target {str(path)!r}: there is no such file; accepted is {ACCEPTED}")
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        root, parts = root.parent, [root.name, *parts]
    _put_on_path(root)
    name = ".".join(parts)
    return importlib.import_module(name) if _leads_to(name, path) else _import_alone(path)


def _leads_to(name: str, path: Path) -> bool:
    """Whether the name is that of the file, and not of another module that was found before it."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return found is not None and found.origin is not None and Path(found.origin).resolve() == path


def _import_alone(path: Path) -> ModuleType:
    """Import a file whose name another module has, under one of its own."""
    name = re.sub(r"\W", "_", path.stem) + blake2b(str(path).encode(), digest_size=4).hexdigest()
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise BadInput(f"target {str(path)!r} is no Python file; accepted is {ACCEPTED}")
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _find_value(module: ModuleType, name: str, target: str) -> Any:
    if not hasattr(module, name):
        known = ", ".join(key for key, value in vars(module).items() if _is_spec_or_list(value)) or "none"
        raise BadInput(f"target {target!r}: {module.__name__} has no {name}; accepted are its LayerSpecs ({known}) and layers")
    return getattr(module, name)


def _is_spec_or_list(value: Any) -> bool:
    return isinstance(value, LayerSpec) or (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(one, LayerSpec) for one in value)
    )


def _read_value(address: Address, module: ModuleType, value: Any) -> Iterator[tuple[Address, LayerSpec]]:
    if _is_spec_or_list(value):
        if address.formula or address.inputs:
            raise BadInput(f"target {str(address)!r}: a LayerSpec holds formula and inputs itself; accepted is it without them")
        yield from _list_entries(address, value)
        return
    if not address.inputs:
        raise BadInput(f"target {str(address)!r}: {show(value)} is no LayerSpec; accepted is one, or a layer with --inputs 8x5")
    yield address, LayerSpec(value, _find_formula(address, module), list(address.inputs), name=address.name)


def _list_entries(address: Address, value: LayerSpec | Sequence[LayerSpec]) -> Iterator[tuple[Address, LayerSpec]]:
    if isinstance(value, LayerSpec):
        yield address, value
        return
    for entry, spec in enumerate(value):
        if address.entry in (-1, entry):
            yield replace(address, entry=entry), spec


def _find_formula(address: Address, module: ModuleType) -> Any:
    if not address.formula:
        return None
    other = read_target(address.formula)
    if other.name:
        return _find_value(import_place(other.place), other.name, address.formula)
    return _find_value(module, address.formula, address.formula)
