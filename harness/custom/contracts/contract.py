"""The form of a contract: a layer on the bench comes in, what it breaks goes out in words, or that it cannot be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from harness.custom.contracts.subject import Subject
from harness.isolation import quiet
from harness.strangers import RAISED, tell

Theme = Literal["arrays", "passes", "cotangent", "results", "sizes", "points", "modes", "orders"]
THEMES: tuple[Theme, ...] = get_args(Theme)


class NotApplicable(Exception):
    """The contract cannot be put to this layer; the text says why."""


@dataclass(frozen=True)
class Note:
    """What is no failure and worth knowing, in words: the layer keeps the contract."""

    text: str


@dataclass(frozen=True)
class Contract:
    """One thing that a layer must keep: its name, what it is about, why it matters in one sentence, and what finds it broken.

    `find` returns what is broken in words, nothing where all is well, or a Note; it raises NotApplicable where the contract
    cannot be put to the layer. Contracts stand in the order of their themes, and by their names in each.
    """

    name: str
    theme: Theme
    why: str
    find: Callable[[Subject], str | Note]


def look(contract: Contract, subject: Subject) -> str | Note:
    """Return what is broken in words, nothing where the contract is kept, or a note; what the layer raises breaks it.

    Raises NotApplicable where the contract cannot be put to the layer.
    """
    try:
        with quiet():
            return contract.find(subject)
    except NotApplicable:
        raise
    except RAISED as error:  # reason: it is a stranger's code; what it raises is what there is to report
        return f"it raises {describe_error(error)}"


def describe_error(error: BaseException) -> str:
    """Return the kind and text of an error, and the last line of a stranger's file that it passed through."""
    return tell(error)
