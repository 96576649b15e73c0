"""Strangers' code: what it raised or returned comes in, one line of words that says it and where it was goes out."""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path
from typing import Any

import reference_layers

RAISED = (Exception, SystemExit)  # what strangers' code may raise and the work goes on; only an interruption passes through
WIDEST = 500
_NUMERIC = frozenset(
    "numpy scipy torch jax jaxlib autograd ml_dtypes array_api_compat mpmath pandas _pytest pluggy hypothesis pebble".split()
)
_FRAME = re.compile(r'^\s*File "(?P<path>.*)", line (?P<line>\d+) in (?P<name>.*)$', re.MULTILINE)


def tell(error: BaseException, widest: int = WIDEST) -> str:
    r"""Return kind, text and place of an error in one line, its text cut; whatever its own methods do, this raises nothing.

    >>> tell(ValueError("two\nlines"))
    'ValueError: two lines'
    """
    words = one_line(_read(error), widest)
    return f"{type(error).__name__}: {words}".removesuffix(": ") + find_place(error)


def show(value: object, widest: int = 80) -> str:
    """Return the repr of a stranger's object in one line, cut; the name of its class where it has none."""
    try:
        return one_line(repr(value), widest)
    except RAISED:
        return f"<{type(value).__name__}>"


def find(thing: Any, attribute: str) -> Any:
    """Return an attribute of a stranger's object, None where it has none or raises when it is asked."""
    try:
        return getattr(thing, attribute, None)
    except RAISED:
        return None


def one_line(text: str, widest: int = WIDEST) -> str:
    r"""Return text in one line, cut, with an escape for what no terminal should be sent.

    >>> one_line("red \x1b[31m\nalarm")
    'red \\x1b[31m alarm'
    """
    words = " ".join(text[: 4 * widest].split())
    safe = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in words)
    return safe if len(safe) <= widest else safe[: widest - 3] + "..."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that there was no memory left; torch and JAX say so in words of their own."""
    return isinstance(error, MemoryError) or any(said in _read(error) for said in ("can't allocate memory", "RESOURCE_EXHAUSTED"))


def find_place(error: BaseException) -> str:
    """Return the last line of a stranger's file that the error passed through, in words; nothing where it passed none.

    A file among the installed packages counts where no other does: a layer may be installed.
    """
    frames = [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    return _describe(frames[::-1])


def read_place(text: str) -> str:
    """Return the same from what `faulthandler` wrote of a process that died or hung; its frames come last first."""
    return _describe([(found["path"], int(found["line"]), found["name"]) for found in _FRAME.finditer(text)])


def is_strange(path: str) -> bool:
    """Whether a file is neither ours nor of an installed package or of Python itself."""
    is_typed_in = path.startswith("<") and not path.startswith(("<frozen", "<__array_function__"))
    return is_typed_in or (os.path.isabs(path) and not path.startswith(_KNOWN) and "site-packages" not in path)


def _describe(frames: list[tuple[str, int, str]]) -> str:
    for wanted in (is_strange, _is_installed):
        for path, line, name in frames:
            if wanted(path):
                return f" (line {line} of {os.path.basename(path)}, in {name})"
    return ""


def _is_installed(path: str) -> bool:
    """Whether a file is of an installed package that has no part in the judging."""
    if "site-packages" not in path or path.startswith(_OURS):
        return False
    inside = Path(path).parts
    return inside[inside.index("site-packages") + 1].removesuffix(".py") not in _NUMERIC if "site-packages" in inside else False


def _read(error: BaseException) -> str:
    try:
        return str(error)
    except RAISED:
        return "(its text cannot be read)"


_OURS = tuple(os.path.dirname(os.path.abspath(file)) + os.sep for file in (__file__, reference_layers.__file__))
_KNOWN = (*_OURS, os.path.realpath(os.path.dirname(os.__file__)), os.path.dirname(os.__file__))
