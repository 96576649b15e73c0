"""`harness list`: a kind of thing comes in, what discovery finds of it goes out."""

from __future__ import annotations

from typing import Any, Literal

from harness.commands.console import CONFORMS, escape, say


def list_(kind: Literal["layers", "backends", "hazards", "reporters"]) -> int:
    """List what discovery finds.

    Parameters
    ----------
    kind
        layers, backends, hazards or reporters.
    """
    from harness import cases, discovery

    if kind == "layers":
        lines = {name: (found.__doc__ or "").split("\n")[0] for name, found in discovery.find_layers().items()}
    elif kind == "hazards":
        lines = {name: hazard.why for name, hazard in cases.list_hazards(discovery.find_layers()).items()}
    elif kind == "reporters":
        lines = {name: reporter.summary for name, reporter in discovery.find_reporters().items()}
    else:
        lines = {name: _describe(backend) for name, backend in discovery.find_backends().items()}
    for name, text in lines.items():
        say(f"[bold]{escape(name)}[/]  {escape(text)}")
    return CONFORMS


def _describe(backend: Any) -> str:
    try:
        state = backend.version()
    except ImportError as error:
        state = f"not installed ({error})"
    kind = "judged" if backend.decides else "a witness, decides nothing"
    asked = "default" if backend.default else "only by its own name"
    return f"{state}; {backend.variant}; {kind}; {asked}; threads: {backend.threads}"
