"""The tests come in; a Hypothesis profile without deadlines and the things that many tests need go out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from harness.discovery import find_backends, find_layers

settings.register_profile(
    "harness", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("harness")


@pytest.fixture(scope="session")
def layers() -> Mapping[str, Any]:
    """Return every layer class by its name."""
    return find_layers()


@pytest.fixture(scope="session")
def backends() -> Mapping[str, Any]:
    """Return every backend by its name."""
    return find_backends()


@pytest.fixture
def fresh_discovery() -> Iterator[None]:
    """Let discovery look again, before the test and after it."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    find_layers.cache_clear()
    find_backends.cache_clear()
