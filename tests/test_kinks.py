"""The list of operations comes in; each must be complete and the kinks that it names must be kinks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.clarke import find_interval
from harness.kinks import OPERATIONS

WANTED = {"relu", "relu6", "leaky_relu", "hardtanh", "clamp", "abs", "maximum", "minimum", "max over a dim", "max-pool", "norm"}
STRAIGHT = {"sign", "floor", "round"}  # these jump: their slope is 0 on either side


def test_the_operations_are_there_and_named_once():
    names = [operation.name for operation in OPERATIONS]
    assert set(names) >= WANTED | STRAIGHT | {"sqrt", "where(x > 0, sqrt(x), 0)"}
    assert len(names) == len(set(names))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_operation_names_places_and_functions_of_two_frameworks_once(operation):
    assert len({place.name for place in operation.places}) == len(operation.places) > 0
    assert len({function.name for function in operation.functions}) == len(operation.functions)
    assert {function.framework for function in operation.functions} >= {"torch", "jax"}
    assert all(len(place.at) == len(place.along) for place in operation.places)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_operation_has_a_place_where_there_is_something_to_choose(operation):
    with np.errstate(all="ignore"):
        intervals = [find_interval(operation.forward, place) for place in operation.places]
    wide = any(low < high or math.isinf(high) for low, high in intervals)
    # Behind an untaken branch there is nothing to choose, and yet frameworks go wrong; over a jump there is no derivative.
    assert wide or operation.name in STRAIGHT | {"where(x == 0, 1, sin(x) / x)"}
