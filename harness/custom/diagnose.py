"""Diagnosis: trials, a quantity and the wrong gradient that a layer gave in them come in, the fault that explains it goes out.

Every known fault is a prediction: the gradient that the formula would have if its author had made that mistake. A fault
fits where its prediction comes so near to what the layer gave that next to nothing of the error is left. It must fit in
every trial that is looked at; where none does, that is said, for a wrong cause is worse than none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np

import harness.custom.faults as package
from harness.core import Array
from harness.custom.scene import Family, Fault, Scene, run_once, set_scene
from harness.custom.trials import Trial
from harness.isolation import quiet

LEFT = 0.01
SLIGHT = 1e-11  # the share of the truth that an error is at least
MOST_TRIALS = 3


@dataclass(frozen=True)
class Diagnosis:
    """What explains a wrong gradient: one of `harness.custom.faults.CAUSES` and the mistake in words."""

    cause: str
    words: str


NOTHING_FITS = Diagnosis("", "no known fault explains it")


def diagnose_layer(trials: Sequence[Trial], quantity: str, least: float = SLIGHT) -> Diagnosis:
    """Return what explains the gradient that the layer gives in these trials; those of the most various sizes are run.

    An error of less than `least` of the truth is none that could be explained.
    """
    various = list({trial.problem.dy.shape: trial for trial in reversed(trials)}.values())[::-1]
    chosen = [*various, *(trial for trial in trials if trial not in various)][:MOST_TRIALS]
    got = [run_once(trial).get(quantity) for trial in chosen]
    pairs = [(trial, value) for trial, value in zip(chosen, got, strict=True) if value is not None]
    return diagnose([trial for trial, _ in pairs], quantity, [value for _, value in pairs], least) if pairs else NOTHING_FITS


def diagnose(trials: Sequence[Trial], quantity: str, got: Sequence[Array], least: float = SLIGHT) -> Diagnosis:
    """Return which known fault explains what the layer gave for the quantity in all the trials, or that none does.

    `got` holds an array of the truth's shape for each trial.
    """
    with quiet():
        scenes = [set_scene(trial, quantity, value) for trial, value in zip(trials, got, strict=True)]
        wrong = [scene for scene in scenes if not _is_right(scene, least)]
        if not wrong or not all(np.isfinite(scene.got).all() and np.isfinite(scene.truth).all() for scene in wrong):
            return NOTHING_FITS
        return _name(wrong)


@cache
def find_families() -> tuple[Family, ...]:
    """Return `predict` of each module of `harness.custom.faults`, in the order of their ranks."""
    modules = [importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return tuple(module.predict for module in sorted(modules, key=lambda module: module.RANK))


def _name(scenes: Sequence[Scene]) -> Diagnosis:
    """Return the first fault that fits in all scenes, in the words of the first; the smallest costs least, and is asked first."""
    order = sorted(scenes, key=lambda scene: scene.truth.size)
    for predict in find_families():
        fitting = [_list_fitting(predict, order[0])]
        fitting += [_list_fitting(predict, scene) for scene in (order[1:] if fitting[0] else ())]
        names = [fault.name for fault in fitting[0] if all(fault.name in [one.name for one in some] for some in fitting)]
        if names:
            told = next(fault for fault in fitting[order.index(scenes[0])] if fault.name == names[0])
            return Diagnosis(told.cause, told.words)
    return NOTHING_FITS


def _list_fitting(predict: Family, scene: Scene) -> list[Fault]:
    """Return the predictions of one family that fit; where a formula is more than it can take, those up to there."""
    found: list[Fault] = []
    with suppress(ArithmeticError, LookupError, RecursionError, TypeError, ValueError):  # a formula is a stranger's code
        found.extend(fault for fault in predict(scene) if _fits(scene, fault.gradient))
    return found


def _fits(scene: Scene, gradient: Array) -> bool:
    """Whether the prediction leaves next to nothing of the error."""
    if np.shape(gradient) != scene.got.shape or not np.isfinite(gradient).all():
        return False
    left, error = np.linalg.norm((scene.got - gradient)[~scene.free]), np.linalg.norm(scene.error)
    return bool(left <= LEFT * error)


def _is_right(scene: Scene, least: float) -> bool:
    """Whether the truth itself is what came, to a share of what a fault is at least."""
    return bool(np.linalg.norm(scene.error) <= least * np.linalg.norm(scene.truth))
