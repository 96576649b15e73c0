"""The sources of both packages come in; a list of imports that point to a later layer goes out, and must be empty."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("reference_layers", "harness")

# Earlier first. A name ending in .* is a package with its modules, which may import one another without a circle;
# any other is one module. A module that stands nowhere here fails the test: place it.
ORDER = (
    "reference_layers.*",
    "harness",
    "harness.core",
    "harness.floats",
    "harness.strangers",
    "harness.styles.*",
    "harness.discovery",
    "harness.composed",
    "harness.array_api",
    "harness.networks",
    "harness.cases",
    "harness.strategies",
    "harness.isolation",
    "harness.minimise",
    "harness.kinks",
    "harness.clarke",
    "harness.backends.*",
    "harness.judge.*",
    "harness.timing",
    "harness.table",
    "harness.atlas",
    "harness.reporters.*",
    "harness.training",
    "harness.findings",
    "harness.shards",
    "harness.engines",
    "harness.custom.*",
    "harness.mutations.*",
    "harness.rivals.*",
    "harness.runner",
    "harness.shrink",
    "harness.selftest.*",
    "harness.commands.*",
    "harness.cli",
    "harness.pytest_plugin",
    "harness.__main__",
)

# Discovery looks at the modules beside these packages, so it names the packages, inside the functions that look.
EXCEPTIONS = frozenset(
    ("harness.discovery", name)
    for name in (
        "harness.backends",
        "harness.reporters",
        "harness.custom.contracts",
        "harness.custom.contracts.contract",
    )
)


@dataclass(frozen=True)
class Import:
    """One import: the module that does it, the name it imports, the line, and whether a function does it when called."""

    module: str
    name: str
    line: int
    in_function: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}, imports {self.name}"


def read_sources() -> dict[str, str]:
    """Return the source of every module of both packages by its dotted name, packages under their own names."""
    paths = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): (ROOT / path).read_text("utf-8") for path in paths}


def find_imports(sources: Mapping[str, str]) -> list[Import]:
    """Return what every module imports, resolved to the module that is meant where that is one of `sources`."""
    packages = {name.rpartition(".")[0] for name in sources} | set(PACKAGES)
    return [
        Import(module, _nearest(name, sources), line, in_function)
        for module, source in sources.items()
        for name, line, in_function in _walk(ast.parse(source), module if module in packages else module.rpartition(".")[0])
    ]


def find_backward(sources: Mapping[str, str]) -> list[str]:
    """Return a sentence for each import of ours that does not point to an earlier layer."""
    ours = [found for found in find_imports(sources) if _is_ours(found.name) and not _is_excepted(found)]
    return [f"{found}, which is no earlier layer" for found in ours if not _points_back(found)]


def find_circle(sources: Mapping[str, str]) -> list[str]:
    """Return the modules of a circle of imports, or nothing; functions' imports count, the documented exceptions do not."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for found in find_imports(sources):
        # A package's __init__ runs before its modules do, so that a module imports its own package is nothing new.
        if found.name in sources and not _is_excepted(found) and not found.module.startswith(f"{found.name}."):
            graph[found.module].add(found.name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def find_outside(sources: Mapping[str, str], package: str) -> set[str]:
    """Return the top-level names, besides the standard library and itself, that a package imports."""
    names = {found.name.partition(".")[0] for found in find_imports(sources) if found.module.partition(".")[0] == package}
    return names - set(sys.stdlib_module_names) - {package}


def _walk(node: ast.AST, package: str, in_function: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Yield the dotted name, the line and whether inside a function, for each import that happens when the program runs."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno, in_function) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
        yield from ((f"{base}.{alias.name}", node.lineno, in_function) for alias in node.names)
    elif (name := _imported_by_call(node)) is not None:
        yield name, node.lineno, in_function
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in node.orelse if _is_for_types(node) else ast.iter_child_nodes(node):
        yield from _walk(child, package, inside)


def _imported_by_call(node: ast.AST) -> str | None:
    """Return the name that `importlib.import_module("a.b")` or `__import__("a.b")` imports, where it stands there."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return str(node.args[0].value) if called in ("import_module", "__import__") else None


def _is_for_types(node: ast.AST) -> bool:
    """Tell whether the node is an `if TYPE_CHECKING:`, whose imports do not happen when the program runs."""
    return isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def _nearest(name: str, sources: Mapping[str, str]) -> str:
    """Return the longest beginning of the name that is a module: `from a.b import c` means a.b.c or a.b."""
    parts = name.split(".")
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if beginning in sources), name)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def _is_excepted(found: Import) -> bool:
    return found.in_function and (found.module, found.name) in EXCEPTIONS


def _place(module: str) -> int | None:
    """Return where in the order the module stands."""
    for place, entry in enumerate(ORDER):
        package = entry.removesuffix(".*")
        if module == package or (entry.endswith(".*") and module.startswith(f"{package}.")):
            return place
    return None


def _points_back(found: Import) -> bool:
    importer, imported = _place(found.module), _place(found.name)
    if importer is None or imported is None:
        return False
    return imported < importer or (imported == importer and ORDER[importer].endswith(".*"))


def test_every_module_has_a_place_in_the_order():
    assert [name for name in read_sources() if _place(name) is None] == []


def test_imports_point_to_earlier_layers():
    assert find_backward(read_sources()) == []


def test_imports_run_in_no_circle():
    assert find_circle(read_sources()) == []


def test_the_layers_import_numpy_alone():
    assert find_outside(read_sources(), "reference_layers") == {"numpy"}


def test_the_core_imports_nothing_of_ours():
    assert [str(found) for found in find_imports(read_sources()) if found.module == "harness.core" and _is_ours(found.name)] == []


def test_the_exceptions_are_still_needed():
    used = {(found.module, found.name) for found in find_imports(read_sources()) if found.in_function}
    assert used >= EXCEPTIONS


BACKWARD = {
    "at the top": ("harness.core", "import harness.judge.verdict"),
    "of a name": ("harness.judge.verdict", "from harness.runner import run"),
    "of a module from its package": ("harness.judge.verdict", "from harness import runner"),
    "relative": ("harness.judge.verdict", "from ..runner import run"),
    "relative, in a package": ("harness.judge", "from ..runner import run"),
    "in a function": ("harness.cases", "def draw():\n    from harness.cli import main\n"),
    "in a try": ("harness.cases", "try:\n    import harness.cli\nexcept ImportError:\n    pass\n"),
    "by its name in text": ("harness.cases", "importlib.import_module('harness.cli')"),
    "beside a type's": ("harness.cases", "if TYPE_CHECKING:\n    pass\nelse:\n    import harness.cli\n"),
    "out of the layers": ("reference_layers.affine", "from harness.core import Case"),
    "of the excepted, at the top": ("harness.discovery", "import harness.backends"),
    "of a module in the excepted": ("harness.discovery", "def find():\n    import harness.backends.torch_autograd\n"),
}
FORWARD = {
    "earlier": ("harness.cli", "from harness.core import Case"),
    "within a package": ("harness.judge.verdict", "from harness.judge import oracle"),
    "for types alone": ("harness.core", "if typing.TYPE_CHECKING:\n    from harness.cli import main\n"),
    "excepted": ("harness.discovery", "def find():\n    import harness.backends as package\n"),
    "of a stranger": ("harness.core", "import numpy"),
}


def _plant(module: str, source: str) -> dict[str, str]:
    """Return a small set of empty modules with one source in one of them."""
    names = ("core", "discovery", "cases", "backends", "backends.torch_autograd", "judge", "judge.oracle", "judge.verdict")
    others = [*(f"harness.{name}" for name in names), "harness.runner", "harness.cli", "harness", "reference_layers"]
    return {**dict.fromkeys(others, ""), module: source}


@pytest.mark.parametrize(("module", "source"), BACKWARD.values(), ids=BACKWARD)
def test_a_planted_backward_import_is_found(module, source):
    (sentence,) = find_backward(_plant(module, source))
    assert sentence.startswith(f"{module}, line ")


@pytest.mark.parametrize(("module", "source"), FORWARD.values(), ids=FORWARD)
def test_a_forward_import_passes(module, source):
    assert find_backward(_plant(module, source)) == []


def test_a_planted_circle_within_a_package_is_found():
    sources = _plant("harness.judge.verdict", "import harness.judge.oracle")
    assert find_circle(sources) == []
    sources["harness.judge.oracle"] = "def weigh():\n    from harness.judge.verdict import decide\n"
    assert {"harness.judge.verdict", "harness.judge.oracle"} <= set(find_circle(sources))


def test_a_planted_stranger_in_the_layers_is_found():
    assert find_outside(_plant("reference_layers.affine", "import math\nimport scipy.special"), "reference_layers") == {"scipy"}


def test_a_planted_module_without_a_place_is_found():
    assert _place("harness.utils") is None
    assert _place("harness.corecore") is None
