"""Settings of a test runner: what options and code ask for comes in, checked settings of `check_layer` go out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from harness.core import USUAL_DTYPES, BadInput
from harness.custom.api import CHECKS, FRAMEWORKS, check_layer, is_installed, list_frameworks, read_checks, read_sizes
from harness.custom.spec import LayerSpec

# What a specification holds is given there alone, and what a runner of tests decides itself nowhere.
GIVEN = {"on_fail", "again", *(one.name for one in fields(LayerSpec))}
ACCEPTED = tuple(name for name in inspect.signature(check_layer).parameters if name not in GIVEN)


@dataclass(frozen=True)
class Frameworks:
    """The frameworks that are asked for, and of those that are not installed what to do about it.

    `excused` says that nobody asked for them by name, so that their checks may be skipped, with a reason.
    """

    asked: tuple[str, ...]
    lacking: Mapping[str, str]
    excused: bool

    @property
    def ready(self) -> list[str]:
        """Those that can differentiate a formula here."""
        return [name for name in self.asked if name not in self.lacking]


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise BadInput where a setting is none of `check_layer`'s, or has a value that it does not accept."""
    if unknown := sorted(set(settings) - set(ACCEPTED)):
        raise BadInput(f"settings: {', '.join(unknown)}; accepted are {', '.join(ACCEPTED)}")
    read_sizes(settings.get("dtypes", USUAL_DTYPES), settings.get("cases", 1), settings.get("seed", 0))
    read_checks(settings.get("checks"), settings.get("expected_failures") or {})
    choose_frameworks(settings)


def choose_frameworks(settings: Mapping[str, Any]) -> Frameworks:
    """Return the frameworks of the setting `against`: the usual ones without it, those that are installed where it is None.

    Raises BadInput on an unknown one, and where it is None and none is installed.
    """
    known, against = list_frameworks(), settings.get("against", FRAMEWORKS)
    if isinstance(against, str) or not isinstance(against, Sequence | None):
        raise BadInput(f"against: {against!r}; accepted is a list of {', '.join(known)}, or None for all that are installed")
    if against is None:
        found = tuple(name for name in FRAMEWORKS if is_installed(known[name]))
        if not found:
            raise BadInput(f"against: None, but none of {', '.join(FRAMEWORKS)} is installed: pip install torch, or jax")
        return Frameworks(found, {}, excused=False)
    if unknown := [name for name in against if name not in known]:
        raise BadInput(f"against: {unknown[0]!r}; accepted are {', '.join(known)}")
    absent = {name: known[name].framework for name in against if not is_installed(known[name])}
    lacking = {name: f"{name} is not installed: pip install {framework}" for name, framework in absent.items()}
    return Frameworks(tuple(against), lacking, excused="against" not in settings)


def find_lack(name: str, settings: Mapping[str, Any]) -> str:
    """Return why frameworks that `settings` names under `name`, against or require, cannot take part; nothing where all can.

    Raises BadInput on an unknown one.
    """
    try:
        found = choose_frameworks({"against": settings[name]})
    except BadInput as error:
        raise BadInput(str(error).replace("against", name, 1)) from None
    asked = choose_frameworks(settings).asked
    left_out = [f"{one} is required, and against leaves it out" for one in found.asked if one not in asked]
    return "; ".join([*found.lacking.values(), *left_out])


def choose_checks(settings: Mapping[str, Any]) -> list[str]:
    """Return the checks that run, in their order."""
    chosen = settings.get("checks")
    return [name for name in CHECKS if chosen is None or name in chosen]
