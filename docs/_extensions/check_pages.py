"""The page of a check comes in without its head; with the check's name and reason, as the code has them, it goes out.

A page holds what no code knows: what the check does, a layer that breaks it, how to mend it. So a new check needs one new
file, `docs/checks/NAME.md`, and no other page is touched: the list of all checks is written here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.custom.api import CHECKS, VALUES

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "checks/"
INDEX = f"{FOLDER}index"


def write_head(name: str) -> str:
    """Return the head of a check's page: its name as the title, and why the check is made."""
    kind = "values" if name in VALUES else "a contract"
    return f"# `{name}`\n\n{{.why}}\n{_start(CHECKS[name])}.\n\nThis is a check of {kind}.\n\n"


def write_list() -> str:
    """Return the tables of both kinds of checks, and the list of their pages."""
    tables = []
    for title, names in (("Values", [*VALUES]), ("Contracts", [name for name in CHECKS if name not in VALUES])):
        rows = "\n".join(f"| [`{name}`]({name}.md) | {CHECKS[name]} |" for name in names)
        tables.append(f"## {title}\n\n| check | why |\n|---|---|\n{rows}\n")
    pages = "\n".join(CHECKS)
    return "\n".join([*tables, f"```{{toctree}}\n:hidden:\n\n{pages}\n```\n"])


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]


def complete(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the head onto a check's page, and the list onto that of all checks."""
    if docname == INDEX:
        source[0] += "\n" + write_list()
    elif docname.startswith(FOLDER) and docname.removeprefix(FOLDER) in CHECKS:
        source[0] = write_head(docname.removeprefix(FOLDER)) + source[0]


def setup(app: Sphinx) -> dict[str, Any]:
    """Have Sphinx call `complete` for every page it reads."""
    app.connect("source-read", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
