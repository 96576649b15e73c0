"""Isolation of one layer: pieces of its check come in, their results go out of a guarded process that may hang or die.

The process is a spawned one with a limit of time for each piece, and on Linux one of memory. What hangs, dies or asks for
too much is told of that piece alone; a new process takes the next.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

from harness.core import BadInput
from harness.custom.spec import LayerSpec
from harness.custom.targets import Address
from harness.discovery import find_backends
from harness.engines import run_guarded
from harness.isolation import can_limit_memory, limit_memory, quiet, settle_worker, silence_streams
from harness.strangers import RAISED, show, tell

ENOUGH = 2048.0  # MiB; compiling small formulas takes JAX some 100
MOST_POOLS = 3
FIELDS = ("layer", "formula", "gradient", "inputs", "params")


@dataclass(frozen=True)
class Isolation:
    """The limits of the guarded process: `seconds` for each trial or contract, `memory` in MiB besides what libraries hold.

    `memory` None is no limit; only Linux holds a process to one. Raises BadInput on anything but numbers above 0.
    """

    seconds: float = 30.0
    memory: float | None = ENOUGH if can_limit_memory() else None

    def __post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("memory", self.memory)):
            if name == "memory" and value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
                raise BadInput(f"{name}: {value!r}; accepted is a number above 0")
        if self.memory is not None and not can_limit_memory():
            raise BadInput(f"memory: {self.memory!r}; {sys.platform} holds no process to a limit of memory; accepted is None")


def read_isolation(isolate: bool | Isolation) -> Isolation | None:
    """Return the limits, None where there are to be none. Raises BadInput on anything but a boolean and an Isolation."""
    if isinstance(isolate, Isolation):
        return isolate
    if not isinstance(isolate, bool):
        raise BadInput(f"isolate: {isolate!r:.80}; accepted are True, False, and Isolation(seconds=..., memory=...)")
    return Isolation() if isolate else None


def run_isolated(works: Iterable[Any], isolation: Isolation, backends: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Yield each piece with its result, from one guarded process that has the backends' frameworks loaded.

    Raises BadInput where no process comes up at all.
    """
    if multiprocessing.parent_process() is not None:
        raise BadInput("isolate: this is a guarded process itself, or a script that started one without `if __name__ == ...`")
    done = 0
    try:
        settings = [isolation.memory, tuple(backends)]
        for work, result in run_guarded(works, 1, isolation.seconds, settle_guarded, settings, MOST_POOLS):
            done += 1
            yield work, result
    except RuntimeError as error:
        if done:
            raise
        advice = "a script that isolates keeps what it does under `if __name__ == '__main__':`, for the new process reads it too"
        raise BadInput(f"isolate: no guarded process came up ({error}); {advice}") from None


def settle_guarded(folder: str, with_torch: bool, memory: float | None, backends: Sequence[str]) -> None:
    """Settle a worker, load the frameworks, so that neither counts against the limits, and hold it to them."""
    settle_worker(folder, with_torch)
    for name in backends:
        with suppress(ImportError), quiet():
            find_backends()[name].version()
    if memory is not None:
        limit_memory(memory)
    silence_streams()


def find_way(spec: LayerSpec) -> LayerSpec | Address:
    """Return what another process can make of the specification: itself, or the address of the module that holds it.

    Raises BadInput where neither leads there, with what to do.
    """
    barred = [f"{name} ({why})" for name in FIELDS if (why := _bar(getattr(spec, name)))]
    if not barred:
        try:
            ForkingPickler.dumps(spec)
        except RAISED as error:  # reason: what a stranger's object holds may refuse to travel
            barred = [f"what it holds ({tell(error)})"]
        else:
            return spec
    address = _find_address(spec)
    if address is None:
        raise BadInput(
            f"isolate: another process cannot import {', '.join(barred)} of {spec.name}; accepted are functions and classes at "
            "the top level of a module that is no script and no notebook, or a LayerSpec there: move it to a file of its own"
        )
    return address


def _bar(value: Any) -> str:
    """Return why another process cannot import a function or class by its name, nothing where it can."""
    owner = value if callable(value) and hasattr(value, "__qualname__") else type(value)
    module, name = getattr(owner, "__module__", ""), getattr(owner, "__qualname__", "")
    if module == "__main__":
        return f"{name} of __main__"
    return f"{show(name)[1:-1]} of {module}" if "<lambda>" in name or "<locals>" in name else ""


def _find_address(spec: LayerSpec) -> Address | None:
    """Return where a module that can be imported holds the specification, by itself or in a list."""
    for name, module in list(sys.modules.items()):
        if name in ("__main__", "__mp_main__"):
            continue
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            entries = value if type(value) in (list, tuple) else [value]  # isinstance would ask objects that warn when asked
            at = next((i for i, one in enumerate(entries) if one is spec), None)
            if at is not None and (place := _find_place(name, module)):
                return Address(place, attribute, at if entries is value else -1)
    return None


def _find_place(name: str, module: Any) -> str:
    """Return the name under which another process imports the module, or its file; nothing where there is neither."""
    file = getattr(module, "__file__", None)
    with suppress(ImportError, ValueError, AttributeError):
        if (found := importlib.util.find_spec(name)) is not None and found.origin == file:
            return name
    return file if isinstance(file, str) and file.endswith(".py") else ""
