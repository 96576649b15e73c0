"""The built pages come in; a warning, with which the build fails, for everything that they would load from the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LOADED = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["'](?:https?:)?//[^"']+"""
                    r"""|<link\b(?![^>]*\brel=["'](?:canonical|author))[^>]*?\bhref=["'](?:https?:)?//[^"']+"""
                    r"""|url\(["']?(?:https?:)?//[^)]+|@import\s+["'](?:https?:)?//[^"']+""")  # fmt: skip


def find_loaded(text: str) -> list[str]:
    """Return what a page or style sheet loads from the network; links that a reader may follow are none of it.

    >>> find_loaded('<a href="https://a.example"> <script src="https://b.example/c.js">')
    ['<script src="https://b.example/c.js']
    """
    return LOADED.findall(text)


def look(app: Sphinx, error: Exception | None) -> None:
    """Warn of every page and style sheet that loads something from the network."""
    from sphinx.util import logging

    if error is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := find_loaded(path.read_text(encoding="utf-8"))):
            logging.getLogger(__name__).warning("%s loads %s from the network", path.name, ", ".join(found))


def setup(app: Sphinx) -> dict[str, Any]:
    """Look once all pages are written."""
    app.connect("build-finished", look)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
