"""Places: an object of the user's comes in, the module and name under which another process imports it go out, and back."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.core import BadInput


@dataclass(frozen=True)
class Place:
    """Where an object is: its module, its name there, and the folder that must be on the path, empty where none must."""

    module: str
    name: str
    root: str = ""

    @property
    def path(self) -> str:
        """The object's address, `module:name`."""
        return f"{self.module}:{self.name}"


def locate(thing: Any) -> Place | None:
    """Return where another process finds the object, None where it does not: in `__main__`, a function, a notebook."""
    if thing is None:
        return None
    own, name = sys.modules.get(str(getattr(thing, "__module__", ""))), str(getattr(thing, "__qualname__", ""))
    if own is not None and name and _get(own, name) is thing:
        return _make_place(own, name)
    for module in list(sys.modules.values()):
        if not _is_ours(module):
            continue
        for found, value in list(vars(module).items()):
            if value is thing and (place := _make_place(module, found)):
                return place
    return None


def load(path: str, field: str) -> Any:
    """Return the object at `module:name`. Raises BadInput, naming the field, where there is none."""
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise BadInput(f"{field}: {path!r}; accepted is module:name")
    try:
        found = _get(importlib.import_module(module), name)
    except Exception as error:  # reason: importing a stranger's module may raise anything
        raise BadInput(f"{field}: {path!r} cannot be imported ({type(error).__name__}: {error})") from None
    if found is None:
        raise BadInput(f"{field}: {path!r}: the module {module} has no {name}")
    return found


@contextmanager
def on_path(folders: list[Path]) -> Iterator[None]:
    """Let modules be imported from the folders too, while inside."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before


def _get(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _is_ours(module: Any) -> bool:
    """Whether a module may be the user's: one with a file that is no installed package's and not Python's own."""
    file = getattr(module, "__file__", None)
    return isinstance(module, ModuleType) and bool(file) and not _is_installed(str(file))


def _is_installed(file: str) -> bool:
    return "site-packages" in file or file.startswith((os.path.dirname(os.__file__), sys.prefix + os.sep + "lib"))


def _make_place(module: ModuleType, name: str) -> Place | None:
    """Return the place of a name in a module, None where no other process can import the module by its name."""
    if module.__name__ == "__main__" or not getattr(module, "__file__", None):
        return None
    file = Path(str(module.__file__)).resolve()
    if _is_installed(str(file)):
        return Place(module.__name__, name)
    parts = module.__name__.split(".")
    tail = [*parts, "__init__.py"] if file.name == "__init__.py" else [*parts[:-1], f"{parts[-1]}.py"]
    if list(file.parts[-len(tail) :]) != tail:
        return None
    return Place(module.__name__, name, str(Path(*file.parts[: -len(tail)])))
