"""The repository comes in; what a wheel of it ships, and whether its settings fit one another, goes out."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
import tomllib
import types
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import harness
from reference_layers import Layer

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "reference_layers")
FRAMEWORKS = ("torch", "jax", "altair", "itables", "vl_convert", "sklearn", "hypothesis")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def _module_names() -> list[str]:
    paths = [path.relative_to(ROOT).with_suffix("") for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__")


def _shipped() -> list[str]:
    """Return the files of both packages that belong in a wheel, by their paths in it."""
    files = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    return sorted(file.as_posix() for file in files if "__pycache__" not in file.parts)


def _requirements() -> list[Requirement]:
    """Return what the project and its extras ask for directly, without the extras that only name other extras."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != PROJECT["name"]]


def _pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def _version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def distribution(wheel) -> Distribution:
    return PathDistribution(next(path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info")))


def test_the_wheel_ships_every_file_of_the_packages_and_no_other(wheel):
    names = sorted(name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name)
    assert names == _shipped()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_ships_py_typed(wheel, package):
    assert f"{package}/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_the_wheel_ships_the_templates(wheel):
    assert any(name.startswith("harness/reporters/templates/") for name in zipfile.ZipFile(wheel).namelist())


def test_the_wheel_says_what_the_project_says(distribution):
    assert distribution.metadata["Name"] == "backprop-harness"
    assert distribution.version == harness.__version__
    assert distribution.metadata["License-Expression"] == "MIT"
    assert distribution.metadata["Requires-Python"] == ">=3.11"


def test_the_command_starts_a_function_that_exists(distribution):
    (script,) = distribution.entry_points.select(group="console_scripts", name="harness")
    assert callable(script.load())


def test_the_changelog_tells_of_this_version():
    assert f"## [{harness.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def _read_guide(number):
    sources = re.findall(r"^```python\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    guide = types.ModuleType("guide")
    sys.modules["guide"] = guide  # where a dataclass looks for its annotations
    exec(sources[number], guide.__dict__)
    return guide


def test_the_report_in_the_guide_works(tmp_path):
    run = types.SimpleNamespace(comparisons=pd.DataFrame({"verdict": ["ok", "ok", "mismatch"]}))
    (path,) = _read_guide(1).REPORTER.write(run, tmp_path)
    assert re.findall(r"(\w+) +(\d)", path.read_text("utf-8")) == [("ok", "2"), ("mismatch", "1")]


def test_the_example_in_the_readme_says_what_the_readme_says():
    text = (ROOT / "README.md").read_text("utf-8")
    source = re.search(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE).group(1)
    with pytest.raises(AssertionError) as raised:
        exec(source, {"__name__": "readme"})
    told = re.search(r"^harness.custom.report.ConformanceError: (.*?)^```$", text, re.DOTALL | re.MULTILINE).group(1)
    digits = re.compile(r"[-+.e\d]+")
    before = "times what rounding can do"
    assert digits.sub("#", str(raised.value).split(before)[0]) == digits.sub("#", told.split(before)[0])
    smallest = "  smallest case of "
    assert digits.sub("#", str(raised.value).split(smallest)[1]).strip() == digits.sub("#", told.split(smallest)[1]).strip()
    assert "40 of 40 entries" in str(raised.value)
    fault = " * 1.000001  # wrong by one part in a million"
    assert fault in source
    right = {"__name__": "readme"}
    exec(source.replace(fault, "").replace("check_layer(Swish", "report = check_layer(Swish"), right)
    assert f"```\n{right['report']}\n```" in text


def test_the_suite_in_the_readme_names_the_checks_that_the_readme_names(tmp_path):
    text = (ROOT / "README.md").read_text("utf-8")
    layer, suite = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[:2]
    source = layer.replace(" * 1.000001", "").partition("\n\ncheck_layer(")[0] + "\n\n" + suite
    (tmp_path / "test_mine.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "harness.pytest_plugin", "-p", "no:cacheprovider", "test_mine.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    named = re.findall(r"`(test_layers\[[\w-]+\])`", text)
    assert named
    assert all(f"{name} PASSED" in ran.stdout for name in named)


def test_the_layer_in_the_guide_works():
    guide = _read_guide(0)
    results = doctest.testmod(guide)
    assert results.attempted > 0
    assert results.failed == 0
    assert isinstance(guide.Square(), Layer)


@pytest.mark.parametrize("name", _module_names())
def test_every_module_imports_and_says_what_it_does(name):
    module = importlib.import_module(name)
    assert module.__doc__


def test_discovery_imports_no_framework():
    program = (
        "import sys; from harness.discovery import find_backends, find_layers, find_reporters; "
        "assert find_layers() and find_backends() and find_reporters(); print(*sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert set(FRAMEWORKS) & set(found.stdout.split()) == set()


@pytest.mark.parametrize("requirement", _requirements(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement):
    pin = _pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(_version(pin))


def test_every_pin_is_a_plain_version():
    pins = _pins()
    assert pins
    assert [str(pin) for pin in pins.values() if pin.url or pin.marker or "+" in _version(pin)] == []
