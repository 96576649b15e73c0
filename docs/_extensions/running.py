"""Code in a page comes in, and with it what it really prints goes into the page: nothing that a page shows can grow stale.

`run` runs a block, `twins` an example of a style. Each says what must be found in the output, and where it is not, the
build fails. The blocks of one page share their names, as the lines of a notebook do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs._extensions.blocks import read_settings, run_block, run_twins

ROOT = Path(__file__).parents[2]


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
    option_spec = {
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
            path, raises = self.env.doc2path(self.env.docname), self.options.get("raises", "")
            text = run_block(source, names, says, raises, str(path), self.lineno + 1 + self.content_offset)
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
        given = ", ".join(f"{key}={value!r}" for key, value in read_settings(name).items())
        calls = [f"print(check_layer({layer}, {given}, on_fail='report'))".replace("'", '"') for layer in ("right", "wrong")]
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
