"""The tests come in; a Hypothesis profile without deadlines and the things that many tests need go out."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from harness.discovery import find_backends, find_layers

ROOT = Path(__file__).parents[1]
Words = Callable[..., "subprocess.CompletedProcess[str]"]
PlugIn = Callable[..., None]

settings.register_profile(
    "harness", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("harness")


@pytest.fixture(autouse=True)
def outside_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what tests run from telling the workflow in which they run themselves."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def layers() -> Mapping[str, Any]:
    """Return every layer class by its name."""
    return find_layers()


@pytest.fixture(scope="session")
def backends() -> Mapping[str, Any]:
    """Return every backend by its name."""
    return find_backends()


@pytest.fixture
def plug_in(tmp_path: Path) -> PlugIn:
    """Return a function that installs a module of plug-ins where `run_harness` finds it.

    Call it with the module's name, its source, and the entry points by group: `layers="toy = toy_layer:Toy"`.
    """

    def install(name: str, source: str, **groups: str) -> None:
        folder = tmp_path / "site"
        described = folder / f"{name}-1.0.dist-info"
        described.mkdir(parents=True)
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"[harness.{group}]\n{point}\n" for group, point in groups.items())
        (described / "entry_points.txt").write_text(lines)

    return install


@pytest.fixture
def run_harness(tmp_path: Path) -> Words:
    """Return a function of words that runs the command line in a process of its own, in a fresh folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness", *words]
        return subprocess.run(
            command, cwd=tmp_path, env=make_environment(tmp_path), capture_output=True, text=True, timeout=120, check=False
        )

    return run


@pytest.fixture
def run_python(tmp_path: Path) -> Words:
    """Return a function of a program's text and its words that runs it in a process of its own, beside the plug-ins."""

    def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "program.py"
        path.write_text(program)
        command = [sys.executable, str(path), *words]
        return subprocess.run(
            command, cwd=tmp_path, env=make_environment(tmp_path), capture_output=True, text=True, timeout=120, check=False
        )

    return run


def make_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which Python finds the harness and the plug-ins of the folder, and prints nothing in colour."""
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONWARNINGS": "error"}
