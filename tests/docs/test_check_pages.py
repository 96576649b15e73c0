"""The page of a check comes in; its head, and the list of all checks, as the code has them, go out."""

from __future__ import annotations

from docs._extensions.check_pages import complete
from harness.custom.api import CHECKS


def test_a_page_gets_the_name_and_the_reason_of_its_check():
    source = ["what it does"]
    complete(None, "checks/no_stale_state", source)
    why = CHECKS["no_stale_state"]
    assert source[0].startswith("# `no_stale_state`\n")
    assert why[1:] in source[0]
    assert source[0].endswith("what it does")


def test_the_index_lists_every_check_with_its_reason():
    source = ["# The checks\n"]
    complete(None, "checks/index", source)
    assert all(f"| [`{name}`]({name}.md) | {why} |" in source[0] for name, why in CHECKS.items())


def test_another_page_is_left_alone():
    source = ["something"]
    complete(None, "index", source)
    assert source == ["something"]
