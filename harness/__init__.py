"""Judges hand-written backward passes against what rounding can do, side by side with automatic differentiation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.custom.api import check_layer as check_layer
    from harness.custom.isolated import Isolation as Isolation
    from harness.custom.items import layer_checks_generator as layer_checks_generator
    from harness.custom.items import parametrize_with_checks as parametrize_with_checks
    from harness.custom.report import CheckReport as CheckReport
    from harness.custom.report import ConformanceError as ConformanceError
    from harness.custom.spec import LayerSpec as LayerSpec

__version__ = "0.1.0"
_HOMES = {
    "check_layer": "harness.custom.api",
    "CheckReport": "harness.custom.report",
    "ConformanceError": "harness.custom.report",
    "Isolation": "harness.custom.isolated",
    "LayerSpec": "harness.custom.spec",
    "layer_checks_generator": "harness.custom.items",
    "parametrize_with_checks": "harness.custom.items",
}


def __getattr__(name: str) -> Any:
    """Return what the package offers, imported when it is first asked for: the command line starts without it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}; it offers {', '.join(_HOMES)}")
    return getattr(import_module(_HOMES[name]), name)
