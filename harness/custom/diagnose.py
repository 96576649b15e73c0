"""Diagnosis: trials, a quantity and the wrong gradient that a layer gave in them come in, the fault that explains it goes out.

Every known fault is a prediction: the gradient that the formula would have if its author had made that mistake. A fault
fits where its prediction comes so near to what the layer gave that next to nothing of the error is left. It must fit in
the trials in which it is looked for, and be refuted by no other; where none does, that is said, for a wrong cause is worse
than none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np

import harness.custom.faults as package
from harness.core import Array
from harness.custom.scene import Family, Fault, Scene, run_once, set_scene
from harness.custom.trials import Trial
from harness.floats import find_format
from harness.isolation import quiet

LEFT, REFUTED = 0.01, 0.1  # shares of the error that what fits leaves, and what does not: rounding leaves some in between
VANISHING = 1e-6
SLIGHT = 1e-11  # the share of the truth that an error is at least
Ask = Callable[[Family, Scene], list[Fault]]
MOST_TRIALS = 3  # in which a fault is looked for; the others may refute it
FEW = 16  # an error of so many roundings leaves nothing to explain


@dataclass(frozen=True)
class Diagnosis:
    """What explains a wrong gradient: one of `harness.custom.faults.CAUSES` and the mistake in words."""

    cause: str
    words: str


NOTHING_FITS = Diagnosis("", "no known fault explains it")


def diagnose_layer(trials: Sequence[Trial], quantity: str, least: float = SLIGHT) -> Diagnosis:
    """Return what explains the gradient that the layer gives in these trials; those of the most various sizes come first.

    An error of less than `least` of the truth is none that could be explained.
    """
    various = list({trial.problem.dy.shape: trial for trial in reversed(trials)}.values())[::-1]
    ordered = [*various, *(trial for trial in trials if trial not in various)]
    got = [run_once(trial).get(quantity) for trial in ordered]
    pairs = [(trial, value) for trial, value in zip(ordered, got, strict=True) if value is not None]
    return diagnose([trial for trial, _ in pairs], quantity, [value for _, value in pairs], least) if pairs else NOTHING_FITS


def diagnose(trials: Sequence[Trial], quantity: str, got: Sequence[Array], least: float = SLIGHT) -> Diagnosis:
    """Return which known fault explains what the layer gave for the quantity in all the trials, or that none does.

    `got` holds an array of the truth's shape for each trial.
    """
    with quiet():
        scenes = [set_scene(trial, quantity, value) for trial, value in zip(trials, got, strict=True)]
        finite = [scene for scene in scenes if np.isfinite(scene.got).all() and np.isfinite(scene.truth).all()]
        wrong = sorted((scene for scene in finite if not _is_right(scene, least)), key=_vanishes)
        return _name(wrong) if wrong else NOTHING_FITS


def err_alike(trial: Trial, other: Trial, quantity: str) -> bool:
    """Whether the layer's gradients err by the same in both, which are one trial in two dtypes: then one fault explains both."""
    with quiet():
        scenes = [set_scene(one, quantity, value) for one in (trial, other) if (value := run_once(one).get(quantity)) is not None]
        if len(scenes) < 2 or any(_is_right(scene, SLIGHT) for scene in scenes):
            return False
        errors = [scene.error for scene in scenes]
        return bool(np.linalg.norm(errors[0] - errors[1]) <= LEFT * np.linalg.norm(errors[1]))


@cache
def find_families() -> tuple[Family, ...]:
    """Return `predict` of each module of `harness.custom.faults`, in the order of their ranks."""
    modules = [importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return tuple(module.predict for module in sorted(modules, key=lambda module: module.RANK))


def _name(scenes: Sequence[Scene]) -> Diagnosis:
    """Return the first fault that fits in all scenes, in the words of the first; without one the first that fits in most.

    It is looked for in a few scenes; where it would show in another one, and does not, in that one as well.
    """

    @cache
    def ask(predict: Family, scene: Scene) -> list[Fault]:
        return [fault for fault, left in _offer(predict, scene) if left <= LEFT]

    looked, partly = list(scenes[:MOST_TRIALS]), list[tuple[Family, Fault]]()
    while (found := _find_common(looked, ask)) is not None:
        rest = [scene for scene in scenes if scene not in looked]
        if (other := next((scene for scene in rest if _is_refuted(*found, scene)), None)) is None:
            return Diagnosis(found[1].cause, found[1].words)
        looked.append(other)
        partly.append(found)
    return _name_partly(*partly[0], scenes, ask) if partly else NOTHING_FITS


def _find_common(scenes: Sequence[Scene], ask: Ask) -> tuple[Family, Fault] | None:
    """Return the first fault that fits in these scenes, as the first has it; the smallest costs least, and is asked first."""
    smallest, *others = sorted(scenes, key=lambda scene: scene.truth.size)
    for predict in find_families():
        for fault in ask(predict, smallest):
            if all(fault.name in {one.name for one in ask(predict, scene)} for scene in others):
                return predict, next(one for one in ask(predict, scenes[0]) if one.name == fault.name)
    return None


def _is_refuted(predict: Family, told: Fault, scene: Scene) -> bool:
    """Whether the fault would show in a scene, and plainly does not; one that cannot be thought of there is not refuted."""
    found = False
    for fault, left in _offer(predict, scene):
        if fault.name == told.name and left <= REFUTED:
            return False
        found |= fault.name == told.name and left > REFUTED
    return found


def _name_partly(predict: Family, told: Fault, scenes: Sequence[Scene], ask: Ask) -> Diagnosis:
    """Return a fault that some scenes refute, and in how many it is; nothing where those are not most."""
    count = sum(told.name in {fault.name for fault in ask(predict, scene)} for scene in scenes)
    words = f"{told.words} (so it is in {count} of {len(scenes)} trials, and not quite so in the others)"
    return Diagnosis(told.cause, words) if 2 * count > len(scenes) else NOTHING_FITS


def _offer(predict: Family, scene: Scene) -> Iterator[tuple[Fault, float]]:
    """Yield the predictions of one family, each with what it leaves; where a formula is more than it can take, up to there."""
    with suppress(ArithmeticError, LookupError, RecursionError, TypeError, ValueError):  # a formula is a stranger's code
        for fault in predict(scene):
            yield fault, _measure_left(scene, fault.gradient)


def _measure_left(scene: Scene, gradient: Array) -> float:
    """Return the share of the error that a prediction leaves: infinite where it has another shape, NaN where it is no number."""
    if np.shape(gradient) != scene.got.shape:
        return float("inf")
    if not np.isfinite(gradient).all():
        return float("nan")
    left, error = np.linalg.norm((scene.got - gradient)[~scene.free]), np.linalg.norm(scene.error)
    return float(left / error)


def _vanishes(scene: Scene) -> bool:
    """Whether next to nothing should have come, as behind the mean of a batch of 1: there many faults look alike."""
    return bool(np.linalg.norm(scene.truth) <= VANISHING * np.linalg.norm(scene.error))


def _is_right(scene: Scene, least: float) -> bool:
    """Whether the truth itself is what came, to a share of what a fault is at least, or to a few roundings of the dtype."""
    rounded = FEW * find_format(scene.trial.problem.case.dtype).u
    return bool(np.linalg.norm(scene.error) <= max(least, rounded) * np.linalg.norm(scene.truth))
