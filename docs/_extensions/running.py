"""Code in a page comes in, and with it what it really prints goes into the page: nothing that a page shows can grow stale.

`run` runs a block, `twins` an example of a style. Each says what must be found in the output, and where it is not, the
build fails. The blocks of one page share their names, as the lines of a notebook do.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


class NotSaid(Exception):
    """A page claims something that its own code does not show; the text tells what."""


def run_block(source: str, names: dict[str, Any], says: Iterable[str] = (), raises: str = "") -> str:
    """Return what the code prints, and behind it the error that it ends with where one is expected.

    `names` are those of the page and take those that the code makes. Raises NotSaid where the output lacks something of
    `says`, or where the error is not of the class that `raises` names; an error that nobody expects goes through.
    """
    printed, error = io.StringIO(), None
    names.setdefault("__name__", "__main__")
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            exec(compile(source, "<page>", "exec"), names)
    except Exception as caught:  # reason: what is expected is shown, and anything else is raised again
        if type(caught).__name__ != raises:
            raise
        error = caught
    if raises and error is None:
        raise NotSaid(f"no {raises} was raised")
    text = printed.getvalue() + (f"{type(error).__name__}: {error}" if error else "")
    return require_said(text, says)


def require_said(text: str, says: Iterable[str]) -> str:
    """Return the text. Raises NotSaid where it lacks something of `says`."""
    if missing := [words for words in says if words not in text]:
        raise NotSaid(f"{missing} is not in the output:\n{text}")
    return text.rstrip("\n")


def run_twins(name: str) -> tuple[str, str]:
    """Return what is said about the right and about the wrong layer of an example.

    Raises NotSaid where the right layer does not conform, or the wrong one fails without what its author says it shows.
    """
    from harness import check_layer

    example = import_module(f"examples.{name}")
    settings = {"against": [], "on_fail": "report", **getattr(example, "SETTINGS", {})}
    right, wrong = (check_layer(layer, **settings) for layer in (example.right, example.wrong))
    if not right.passed:
        raise NotSaid(f"the right layer of {name} does not conform:\n{right}")
    check, words = example.FINDS
    if check not in {result.check for result in wrong.failures}:
        raise NotSaid(f"the wrong layer of {name} does not fail {check}:\n{wrong}")
    return str(right), require_said(str(wrong), [words])


def hide_paths(text: str) -> str:
    """Return the text without the folder in which the pages are built: files are named from the repository's root."""
    return re.sub(re.escape(f"{ROOT}/"), "", text)


def make_block(text: str, language: str, kind: str = "") -> nodes.literal_block:
    """Return a block of code, or of what was printed."""
    block = nodes.literal_block(text, text, language=language)
    return block if not kind else nodes.container("", block, classes=[kind])


class Run(SphinxDirective):
    """A block of Python that is run and shown with its output.

    `says` holds what must be found in the output, separated by ` | `; `raises` the class of the error with which it ends;
    `hide` shows the output alone; `markup` takes the output for a part of the page.
    """

    has_content = True
    option_spec = {  # noqa: RUF012  # reason: docutils reads it from the class
        "says": directives.unchanged_required,
        "raises": directives.unchanged_required,
        "hide": directives.flag,
        "markup": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        names = self.env.temp_data.setdefault("names of the page", {})
        says = [words.strip() for words in self.options.get("says", "").split(" | ") if words.strip()]
        try:
            text = hide_paths(run_block(source, names, says, self.options.get("raises", "")))
        except Exception as error:  # reason: whatever the page's code raises is a mistake of the page, told with its line
            raise self.error(f"{type(error).__name__}: {error}") from error
        shown = [] if "hide" in self.options else [make_block(source, "python")]
        if "markup" in self.options:
            return [*shown, *self.parse_text_to_nodes(text)]
        return [*shown, make_block(text, "text", "printed")] if text else shown


class Twins(SphinxDirective):
    """The example of a style: its file, and what is said about its right and its wrong layer."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        (name,) = self.arguments
        path = ROOT / "examples" / f"{name}.py"
        self.env.note_dependency(str(path))
        try:
            right, wrong = run_twins(name)
        except Exception as error:  # reason: as in Run
            raise self.error(f"{type(error).__name__}: {error}") from error
        settings = getattr(import_module(f"examples.{name}"), "SETTINGS", {})
        more = "".join(f", {key}={value!r}" for key, value in settings.items())
        calls = [f"print(check_layer({layer}, on_fail='report', against=[]{more}))" for layer in ("right", "wrong")]
        source = path.read_text(encoding="utf-8").partition("\nif __name__")[0].rstrip()
        return [
            make_block(source, "python"),
            *self.parse_text_to_nodes(f"This is `examples/{name}.py`. What the harness says of the right layer:"),
            make_block(f"from harness import check_layer\n\n{calls[0]}", "python"),
            make_block(right, "text", "printed"),
            *self.parse_text_to_nodes("and of its wrong twin:"),
            make_block(calls[1], "python"),
            make_block(wrong, "text", "printed"),
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Offer both directives to the pages."""
    app.add_directive("run", Run)
    app.add_directive("twins", Twins)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
