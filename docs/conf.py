"""The pages and the packages they describe come in; Sphinx's settings go out: `make docs` builds with them."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import __version__  # after the path is set, which finds it

logging.getLogger("jax").setLevel(logging.WARNING)  # else it tells of every accelerator that is not there

project = "Backprop Harness"
author = "The Backprop Harness authors"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.duration",
    "myst_parser",
    "cyclopts.ext.sphinx",
    "docs._extensions.running",
    "docs._extensions.check_pages",
    "docs._extensions.offline",
]
exclude_patterns = ["_build", "_extensions"]
myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3

# The docstrings quote names and code in single backticks, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
ARRAY = re.compile(r"~?numpy\.ndarray\[~?tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[~?typing\.Any\]\]")
doctest_test_doctest_blocks = ""  # pytest runs those of the docstrings

nitpicky = True
nitpick_ignore_regex = [
    # Documented elsewhere: the build reads no inventory from the network.
    (r"py:.*", r"(np|npt|numpy|pd|pandas|pytest|collections|typing|types|pathlib|dataclasses|hypothesis|cyclopts)\..*"),
    (r"py:.*", r"(Any|Callable|Mapping|Sequence|Collection|Iterable|Iterator|Literal|Path|Protocol|ClassVar|Namespace)"),
    (r"py:.*", r"(int|str|float|bool|tuple|list|dict|set|frozenset|object|type|None|optional)"),
    (r"py:class", r"harness\.custom\.items\.SharedRun"),  # what the checks of one layer share, no user's matter
    # Aliases of types, which stand for what is written out elsewhere.
    (r"py:.*", r"(.*\.)?(Array|Shape|Make|Verdict|Status|State|OnFail|Run|Params|Place|Pair|Family)"),
]

html_theme = "furo"
html_title = f"Backprop Harness {__version__}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
templates_path = []


def escape_bars(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Keep |A| in a docstring the absolute value that it is: to reStructuredText it is a substitution."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else line.replace("|", r"\|") for line in lines]


def name_arrays(app: Any, what: str, name: str, item: Any, options: Any, arguments: str | None, returned: str | None) -> Any:
    """Write `Array` in signatures, as the code does, for what the alias stands for."""
    return tuple(text and ARRAY.sub("Array", text) for text in (arguments, returned))


def setup(app: Any) -> None:
    """Have autodoc call both for everything that it documents."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", name_arrays)
