"""The pages come in; whether each thing has its page, and each page's examples say what it says, goes out."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import get_args

import pytest

import harness
from harness import styles
from harness.core import PASSING, Verdict
from harness.custom.api import CHECKS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs"
PAGES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.md"))
ADAPTERS = sorted(name for name in vars(styles) if name == "adjust" or name.startswith("from_"))


def _read(page):
    return (FOLDER / page).read_text(encoding="utf-8")


def _list_doctests(page):
    """Return the doctests of a page as Sphinx runs them: all in one, with the names that each block makes."""
    blocks = re.findall(r"^```\{doctest\}\n(.*?)^```$", _read(page), re.DOTALL | re.MULTILINE)
    return doctest.DocTestParser().get_doctest("\n".join(blocks), {"__name__": "__main__"}, page, page, 0)


WITH_DOCTESTS = [page for page in PAGES if ">>> " in _read(page)]


def test_every_check_has_a_page_and_every_page_a_check():
    pages = {Path(page).stem for page in PAGES if page.startswith("checks/")} - {"index"}
    assert pages == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_of_a_check_shows_a_layer_that_breaks_it_and_how_to_mend_it(check):
    text = _read(f"checks/{check}.md")
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == ["A layer that breaks it", "How to mend it"]
    assert "```{doctest}" in text.partition("## How to mend it")[0].partition("## A layer that breaks it")[2]
    assert f'checks=["{check}"' in text


def test_every_style_has_a_page_with_its_example():
    examples = sorted(path.stem.removeprefix("style_") for path in (ROOT / "examples").glob("style_*.py"))
    pages = [Path(page).stem for page in PAGES if re.match(r"styles/\d", page)]
    assert pages == examples
    assert len(pages) == 13
    assert all(f"```{{twins}} style_{name}\n```" in _read(f"styles/{name}.md") for name in pages)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_is_documented_once(adapter):
    found = [page for page in PAGES if f".. autofunction:: harness.styles.{adapter}\n" in _read(page)]
    assert len(found) == 1
    assert found[0].startswith("styles/")


@pytest.mark.parametrize("name", sorted(harness._HOMES))
def test_every_name_that_the_package_offers_is_in_the_reference(name):
    assert re.search(rf"\.\. auto(function|class|exception):: harness\.{name}\n", _read("api.md"))


def test_every_verdict_is_explained_with_whether_it_fails():
    rows = re.findall(r"^\| (`[^|]*`) \|[^|]*\| ([^|]*) \|$", _read("judging.md"), re.MULTILINE)
    fails = {verdict: fate for verdicts, fate in rows for verdict in re.findall(r"`([\w-]+)`", verdicts)}
    assert set(fails) == set(get_args(Verdict))
    assert {verdict for verdict, fate in fails.items() if fate == "yes"} == set(get_args(Verdict)) - PASSING


def test_there_are_pages_with_doctests():
    assert len(WITH_DOCTESTS) >= len(CHECKS)


@pytest.mark.parametrize("page", WITH_DOCTESTS)
def test_the_examples_in_a_page_say_what_it_says(page, capsys):
    test = _list_doctests(page)
    assert len(test.examples) == _read(page).count(">>> ")
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert result.failed == 0, capsys.readouterr().out
    assert result.attempted == len(test.examples)
