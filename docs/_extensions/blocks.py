"""Code of a page comes in, what it really prints goes out; where a page claims something else, that is an error."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any


class NotSaid(Exception):
    """A page claims something that its own code does not show; the text tells what."""


def run_block(
    source: str, names: dict[str, Any], says: Iterable[str] = (), raises: str = "", path: str = "<page>", line: int = 1
) -> str:
    """Return what the code prints, and behind it the error that it ends with where one is expected.

    `names` are those of the page and take those that the code makes; `path` and `line` are where the code stands, for what
    tells of it. Raises NotSaid where the output lacks something of
    `says`, or where the error is not of the class that `raises` names; an error that nobody expects goes through.
    """
    printed, error = io.StringIO(), None
    names.setdefault("__name__", "__main__")
    with warnings.catch_warnings(record=True) as warned, redirect_stdout(printed), redirect_stderr(printed):
        warnings.simplefilter("always")
        try:
            exec(compile("\n" * (line - 1) + source, path, "exec"), names)
        except Exception as caught:  # reason: what is expected is shown, and anything else is raised again
            if type(caught).__name__ != raises:
                raise
            error = caught
    if raises and error is None:
        raise NotSaid(f"no {raises} was raised")
    told = [*warned_words(warned), *([f"{type(error).__name__}: {error}"] if error else [])]
    return require_said(printed.getvalue() + "\n".join(told), says)


def read_settings(name: str) -> dict[str, Any]:
    """Return the settings with which an example is run: its own, one dtype and no framework, which compile for seconds."""
    return {"against": [], "dtypes": ["float64"], **getattr(import_module(f"examples.{name}"), "SETTINGS", {})}


def warned_words(warned: Iterable[warnings.WarningMessage]) -> list[str]:
    """Return each warning once, without the place that it came from, which is another on every machine."""
    return list(dict.fromkeys(f"{one.category.__name__}: {one.message}" for one in warned))


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
    right, wrong = (check_layer(layer, **read_settings(name), on_fail="report") for layer in (example.right, example.wrong))
    if not right.passed:
        raise NotSaid(f"the right layer of {name} does not conform:\n{right}")
    check, words = example.FINDS
    if check not in {result.check for result in wrong.failures}:
        raise NotSaid(f"the wrong layer of {name} does not fail {check}:\n{wrong}")
    return str(right), require_said(str(wrong), [words])
