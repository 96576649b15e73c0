"""The pytest plug-in: options on the command line come in, a fixture that checks layers with these settings goes out.

pytest imports it at every start, so it imports nothing of the harness, and no framework, until a test asks for it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

OPTIONS = (
    ("seed", int, "the seed of the trials"),
    ("cases", int, "how many trials are run in each dtype"),
    ("dtypes", str, "which dtypes are checked, separated by commas"),
    ("against", str, "which frameworks differentiate the formula, separated by commas; `none` for none of them"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings of `check_layer` as options: --harness-seed and so on."""
    group = parser.getgroup("harness", "checks of hand-written layers")
    for name, kind, words in OPTIONS:
        group.addoption(f"--harness-{name}", type=kind, default=None, help=f"{words} (of the `check_layer` fixture)")


@pytest.fixture
def check_layer(request: pytest.FixtureRequest) -> Any:
    """`harness.check_layer` with the settings of the command line; what a test gives itself comes first."""
    from harness.custom.api import check_layer as check

    return partial(check, **read_settings(request.config))


def read_settings(config: pytest.Config) -> dict[str, Any]:
    """Return the settings that the command line gives."""
    given = {name: config.getoption(f"--harness-{name}") for name, _, _ in OPTIONS}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in ("dtypes", "against"):
        if name in settings:
            settings[name] = [part.strip() for part in settings[name].split(",") if part.strip() and part.strip() != "none"]
    return settings
