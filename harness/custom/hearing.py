"""Hearing: a layer of a stranger's runs, what it prints and warns of comes in, one finding for each kind goes out."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass

from harness.strangers import is_strange, one_line

KEPT = 200


class Ear(io.TextIOBase):
    """A stream that swallows what is written to it, and keeps how many lines there were and the first of them."""

    def __init__(self) -> None:
        self.lines = 0
        self.first = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        if len(self.first) < KEPT and not self.first.endswith("\n"):
            head, end, _ = text[: KEPT + 1].partition("\n")
            self.first += head + end
        return len(text)

    def sum_up(self) -> tuple[int, str]:
        """Return how many lines were written, one that never ended among them, and the first of them."""
        return max(self.lines, bool(self.first)), one_line(self.first, KEPT)


@dataclass(frozen=True)
class Said:
    """What layers said: for each stream how many lines and the first, and how many warnings and the first in words."""

    out: tuple[int, str] = (0, "")
    err: tuple[int, str] = (0, "")
    warned: tuple[int, str] = (0, "")

    def __add__(self, more: Said) -> Said:
        pairs = ((self.out, more.out), (self.err, more.err), (self.warned, more.warned))
        return Said(*((a[0] + b[0], a[1] or b[1]) for a, b in pairs))

    def tell(self) -> tuple[str, ...]:
        """Return a sentence for each stream that was written to, and one for the warnings."""
        kinds = (("prints to stdout", "line", self.out), ("prints to stderr", "line", self.err), ("warns", "time", self.warned))
        return tuple(
            f"it {does}, {number} {noun}{'s' if number > 1 else ''} in all; the first: {first}"
            for does, noun, (number, first) in kinds
            if number
        )


@dataclass
class Heard:
    """What is being said: an ear on each stream, and the warnings so far."""

    out: Ear
    err: Ear
    warned: int = 0
    warning: str = ""

    def take(self, seen: Sequence[warnings.WarningMessage]) -> None:
        """Count warnings."""
        self.warned += len(seen)
        if seen and not self.warning:
            one = seen[0]
            place = f" (line {one.lineno} of {os.path.basename(one.filename)})" if is_strange(one.filename) else ""
            self.warning = f"{one.category.__name__}: {one_line(str(one.message), KEPT)}{place}"

    def sum_up(self) -> Said:
        """Return what was said until now."""
        return Said(self.out.sum_up(), self.err.sum_up(), (self.warned, self.warning))


_HEARD: ContextVar[Heard | None] = ContextVar("heard", default=None)


@contextmanager
def listen() -> Iterator[Heard]:
    """Collect what layers say inside `heed` while this lasts; outside of it they are let speak."""
    heard = Heard(Ear(), Ear())
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)


@contextmanager
def heed() -> Iterator[None]:
    """Keep what a layer prints and warns of from whoever reads the report; streams and filters come back."""
    heard = _HEARD.get()
    if heard is None:
        yield
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            with redirect_stdout(heard.out), redirect_stderr(heard.err):
                yield
        finally:
            heard.take(seen)
