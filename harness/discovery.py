"""Discovery: the name of a kind of thing comes in, the things found beside it and in entry points go out.

Layers are the classes of the modules of `reference_layers`, and the classes and specifications (whatever has a method
`as_layer`) of the entry points `harness.layers`;
backends, reporters and contracts are the `BACKENDS`, `REPORTER` and `CONTRACTS` of the modules of their packages and what
the entry points `harness.backends`, `harness.reporters` and `harness.contracts` load. Looking imports no framework.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import reference_layers
from harness.core import BadInput


@cache
def find_layers() -> dict[str, Any]:
    """Return every layer class by its `name`; a specification of an entry point gives one. Raises BadInput where it cannot."""
    classes = [kind for module in _modules(reference_layers) for kind in _layers_in(module)]
    outside = [_as_layer(point, found) for point in _points("layers") for found in _many(point.load())]
    return {kind.name: kind for kind in [*classes, *outside]}


def _as_layer(point: EntryPoint, found: Any) -> Any:
    """Return the class that takes a layer's part in networks: itself, or what a specification makes of itself."""
    try:
        return found.as_layer() if hasattr(found, "as_layer") else found
    except BadInput as error:
        raise BadInput(f"entry point {point.name} = {point.value!r} of harness.layers: {error}") from None


@cache
def find_backends() -> dict[str, Any]:
    """Return every backend by its `name`; the framework behind it is imported only when it is prepared."""
    import harness.backends as package

    found = [backend for module in _modules(package) for backend in getattr(module, "BACKENDS", ())]
    outside = [backend for point in _points("backends") for backend in _many(point.load())]
    return {backend.name: backend for backend in [*found, *outside]}


@cache
def find_reporters() -> dict[str, Any]:
    """Return every reporter by its `name`."""
    import harness.reporters as package

    found = [module.REPORTER for module in _modules(package) if hasattr(module, "REPORTER")]
    return {reporter.name: reporter for reporter in [*found, *(point.load() for point in _points("reporters"))]}


@cache
def find_contracts() -> dict[str, Any]:
    """Return every contract by its `name`, in the order of their themes."""
    import harness.custom.contracts as package
    from harness.custom.contracts.contract import THEMES

    found = [contract for module in _modules(package) for contract in getattr(module, "CONTRACTS", ())]
    outside = [contract for point in _points("contracts") for contract in _many(point.load())]
    ordered = sorted([*found, *outside], key=lambda contract: (THEMES.index(contract.theme), contract.name))
    return {contract.name: contract for contract in ordered}


def choose(kind: str, wanted: str | list[str] | tuple[str, ...] | None, known: Mapping[str, Any]) -> list[str]:
    """Return the known names that are wanted, in order; None or "all" means all. Raises BadInput on an unknown one, or none.

    >>> choose("layer", "relu,add", {"add": 1, "relu": 2, "affine": 3})
    ['relu', 'add']
    """
    names = wanted.split(",") if isinstance(wanted, str) else list(wanted or ["all"])
    names = [name.strip() for name in names if name.strip()]
    if names == ["all"]:
        return list(known)
    if not names:
        raise BadInput(f"no {kind} is named; accepted are all or {', '.join(sorted(known))}")
    for name in names:
        if name not in known:
            raise BadInput(f"unknown {kind} {name!r}; accepted are {', '.join(sorted(known))}")
    return list(dict.fromkeys(names))


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        yield importlib.import_module(f"{package.__name__}.{found.name}")


def _layers_in(module: ModuleType) -> Iterator[Any]:
    for _, kind in inspect.getmembers(module, inspect.isclass):
        if kind.__module__ == module.__name__ and hasattr(kind, "formula") and hasattr(kind, "name"):
            yield kind


def _points(kind: str) -> list[EntryPoint]:
    return sorted(entry_points(group=f"harness.{kind}"), key=lambda point: point.name)


def _many(loaded: Any) -> list[Any]:
    return list(loaded) if isinstance(loaded, list | tuple) else [loaded]
