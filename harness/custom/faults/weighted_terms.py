"""Weighted terms: a scene comes in, gradients with a factor too many or too few in what flows through one argument go out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.faults.products import is_divisor, list_arrays
from harness.custom.faults.terms import cut_flows
from harness.custom.probe import Call, detach
from harness.custom.scene import Fault, Scene

RANK = 115
MOST_OPERATIONS = 24


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients in which one term of a product, quotient, sum or difference has an array too much or too few."""
    for one, place, _ in cut_flows(scene):
        for name, value in list_arrays(scene, np.shape(one.value)).items() if one.index < MOST_OPERATIONS else ():
            for cause, words, factor in _list_factors(scene, name, value):
                said = f"the term that flows through {one.texts[place]} in {one.text} {words}"
                gradient = scene.pull(tamper=partial(_weigh, one.index, place, factor))
                yield Fault(cause, f"{one.index} {place} {words}", said, gradient)


def _list_factors(scene: Scene, name: str, value: Array) -> Iterator[tuple[str, str, Array]]:
    divides = is_divisor(scene, value)
    yield ("missing-factor" if divides else "extra-factor"), f"has the factor {name} too much, or is not divided by it", value
    yield ("extra-factor" if divides else "missing-factor"), f"lacks the factor {name}, or is divided by it", 1 / value


def _weigh(index: int, place: int, factor: Array, call: Call) -> Any:
    if call.operation.index != index:
        return None
    kept = call.repeat(*[detach(value) if i == place else value for i, value in enumerate(call.arguments)])
    moved = call.repeat(*[value if i == place else detach(value) for i, value in enumerate(call.arguments)])
    return kept + factor * (moved - detach(moved))
