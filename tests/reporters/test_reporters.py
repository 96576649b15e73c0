"""The package comes in; every reporter in it must be found, keep its contract, and cost no import before it writes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.discovery import find_reporters

HEAVY = ("pandas", "altair", "jinja2", "itables", "vl_convert", "markupsafe")


def test_the_reporters_are_found():
    assert {"csv", "markdown", "html"} <= set(find_reporters())


def test_each_says_in_one_line_what_it_writes():
    for reporter in find_reporters().values():
        assert reporter.summary
        assert "\n" not in reporter.summary


def test_finding_them_imports_nothing_heavy():
    script = f"import sys, harness.discovery as d; d.find_reporters(); print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["csv", "markdown", "html"])
def test_each_writes_the_files_that_it_names(name, make_run, tmp_path):
    paths = find_reporters()[name].write(make_run(rows=50), tmp_path)
    assert paths
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert all(path.stat().st_size for path in paths)
