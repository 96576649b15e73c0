"""A folder comes in; a function that runs the command line in this process, without pages and timings, goes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import cli

Caller = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def call_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Return a function of words for `harness run` that returns the exit code and what `run.json` holds."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, dict[str, Any]]:
        fixed = ["--jobs", "0", "--reporters", "none", "--no-timings", "--quiet", "--out", "run"]
        code = cli.call(["run", *fixed, *words])
        path = tmp_path / "run" / "run.json"
        return code, json.loads(path.read_text()) if path.exists() else {}

    return call
