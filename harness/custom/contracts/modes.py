"""Modes of a layer: a layer on the bench comes in, what switches it to training and to evaluation goes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.custom.contracts.contract import NotApplicable
from harness.custom.contracts.subject import Subject
from harness.styles.wrapped import Wrapped

Switch = Callable[[Any], Any]
FLAGS = ("training", "is_training", "train")
WORDS = {"train": ("train", "training"), "eval": ("eval", "test", "evaluation", "inference")}


def find_modes(subject: Subject) -> Mapping[str, Switch]:
    """Return what switches the stranger's object to `train` and to `eval`: what the specification says, or what it has.

    That is methods `train()` and `eval()`, a flag (one of FLAGS), or an attribute `mode` of words. Raises NotApplicable
    where there is none of them.
    """
    if subject.trial.kind.modes:
        return dict(subject.trial.kind.modes)
    layer = unwrap(subject.make().layer)
    if callable(getattr(layer, "train", None)) and callable(getattr(layer, "eval", None)):
        return {"train": lambda one: one.train(), "eval": lambda one: one.eval()}
    for flag in FLAGS:
        if isinstance(getattr(layer, flag, None), bool):
            return {"train": _set(flag, True), "eval": _set(flag, False)}
    mode = getattr(layer, "mode", None)
    if isinstance(mode, str) and any(mode in words for words in WORDS.values()):
        return _read_words(mode)
    raise NotApplicable("the layer has no modes that can be seen; LayerSpec(modes={'train': ..., 'eval': ...}) names them")


def unwrap(layer: Any) -> Any:
    """Return the stranger's object inside the adapters; the adapter of functions itself, for there is none."""
    while isinstance(layer, Wrapped) and layer.inner is not None:
        layer = layer.inner
    return layer


def _set(name: str, value: Any) -> Switch:
    return lambda one: setattr(one, name, value)


def _read_words(mode: str) -> Mapping[str, Switch]:
    """Return switches by the words of which the layer's own is one; for the mode that it is not in, the usual word."""
    return {name: _set("mode", mode if mode in words else words[0]) for name, words in WORDS.items()}
