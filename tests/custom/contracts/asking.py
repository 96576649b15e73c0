"""Putting contracts to layers: a layer and its formula come in, which contracts it breaks, and in what words, go out."""

from __future__ import annotations

from typing import Any

from harness import LayerSpec
from harness.custom.contracts.contract import NotApplicable, Note, look
from harness.custom.contracts.subject import Subject
from harness.custom.trials import draw_trial
from harness.discovery import find_contracts
from tests.custom import layers


def draw(layer: Any, formula: Any = layers.swish, inputs: Any = ((6, 5),), dtype: str = "float64", **more: Any) -> Subject:
    """Return a layer on the bench."""
    spec = layer if isinstance(layer, LayerSpec) else LayerSpec(layer, formula, inputs, **more)
    return Subject(draw_trial(spec, dtype, seed=3, index=0))


def ask(name: str, subject: Subject) -> str | Note:
    """Return what one contract says."""
    return look(find_contracts()[name], subject)


def find_broken(subject: Subject) -> dict[str, str]:
    """Return the words by the names of all contracts that are broken."""
    broken = {}
    for name in find_contracts():
        try:
            said = ask(name, subject)
        except NotApplicable:
            continue
        if isinstance(said, str) and said:
            broken[name] = said
    return broken
