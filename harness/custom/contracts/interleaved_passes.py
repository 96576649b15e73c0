"""The contract interleaved_passes: forward A, forward B, and a backward pass still belongs to its own forward pass.

A layer with one cache can answer for its last forward pass alone: after A and B, that is B. Where a forward pass hands its
cache out (a pair of functions, `backward(dy, cache)`, a torch or JAX function), A must be answered for too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.custom.contracts.comparing import list_parted, say
from harness.custom.contracts.contract import Contract
from harness.custom.contracts.subject import Pass, Subject, go_back, run_pass
from harness.styles.wrapped import Wrapped


def find_mixed_up(subject: Subject) -> str:
    """Compare the pass behind B, and the one behind A where its cache can be had, with passes alone."""
    layer = subject.make()
    layer.forward(*subject.others[0])
    last = list_parted(run_pass(layer, subject.inputs, subject.dy), subject.alone)
    if last:
        return f"a forward pass over other numbers, with no backward pass of its own, changes the next pass: {last}"
    first = _go_back_to_first(subject)
    words = "backward with the cache of a forward pass gives other numbers once another forward pass has run"
    return say(list_parted(first, subject.alone), words) if first is not None else ""


def _go_back_to_first(subject: Subject) -> Pass | None:
    """Return forward A, forward B, backward A; None where the layer keeps one cache inside."""
    adopted = subject.make()
    y = np.array(adopted.forward(*subject.inputs))
    if _takes_cache(adopted.layer):
        cache = adopted.layer.cache
        adopted.forward(*subject.others[0])
        return go_back(adopted.layer, y, subject.dy, cache)
    restore = _save(adopted.layer)
    if restore is None:
        return None
    adopted.forward(*subject.others[0])
    restore()
    return go_back(adopted, y, subject.dy)


def _takes_cache(layer: Any) -> bool:
    """Whether the layer leaves an attribute `cache` that its backward takes back as an argument of this name."""
    try:
        return hasattr(layer, "cache") and "cache" in inspect.signature(layer.backward).parameters
    except (TypeError, ValueError):  # some callables written in C do not say
        return False


def _save(layer: Any) -> Callable[[], None] | None:
    """Return what puts the layer back behind this forward pass, None where an object in it keeps what nobody can put back.

    `keeps` names the attributes of an adapter that are all that its backward pass reads; an adapter around another layer
    has that one as `inner`.
    """
    held: list[tuple[Any, dict[str, Any]]] = []
    while isinstance(layer, Wrapped) and layer.keeps is not None:
        held.append((layer, {name: vars(layer)[name] for name in layer.keeps if name in vars(layer)}))
        layer = layer.inner if layer.wraps_layer else None
    if layer is not None:
        return None

    def restore() -> None:
        for one, kept in held:
            vars(one).update(kept)

    return restore


CONTRACTS = (
    Contract(
        "interleaved_passes",
        "passes",
        "a validation pass, or a layer used twice, runs forward between a forward pass and its backward pass",
        find_mixed_up,
    ),
)
