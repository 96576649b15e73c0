"""Faulty layers in networks that store in 16 bits come in; a run that is red, and names the layer, goes out."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.discovery import find_layers
from harness.floats import NARROW
from tests.meta.layer_faults import FAULTS
from tests.meta.planting import cases_with, find_red, rows_of, small_cases

GRAPHS = 200
COMPUTED = "a network that stores in 16 bits computes in float32"
COPIED = "the layer is given a float32 copy of what is stored: what it does to it, nobody else sees"
# What is no fault in a network that stores in 16 bits, or cannot be reached in these, and why.
NO_FAULT: Mapping[str, str] = {
    "input gradient 1e-4 too large in float32": "it is gone one precision up, and less than 16 bits can store",
    "float32 inside, input gradient": COMPUTED,
    "float32 inside, forward": COMPUTED,
    "float32 inside, weight gradient": COMPUTED,
    "mutated input": COPIED,
    "overwritten upstream gradient": COPIED,
    "wrong on strided weights alone": "the float32 copy of what is stored is contiguous",
    "largest logit not subtracted": "no logit of these cases reaches the 88 from which exp overflows",
}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in NO_FAULT])
def test_a_fault_in_a_layer_turns_a_narrow_run_red_and_names_the_layer(fault, dtype):
    faulty = FAULTS[fault]
    red = find_red(cases_with(faulty.name, (dtype,), GRAPHS), layers={**find_layers(), faulty.name: faulty})
    assert red, f"{fault}: nothing failed in {dtype}"
    assert {row.culprit for row in red} == {"your layer"}


@pytest.mark.parametrize("fault", NO_FAULT)
def test_what_is_no_fault_in_bfloat16_is_not_called_one(fault):
    faulty = FAULTS[fault]
    assert find_red(cases_with(faulty.name, ("bfloat16",), GRAPHS)[::3], layers={**find_layers(), faulty.name: faulty}) == []


@pytest.mark.parametrize("dtype", NARROW)
def test_the_right_layers_stay_green_on_the_same_cases(dtype):
    rows = [row for rows in rows_of(small_cases((dtype,), GRAPHS)) for row in rows]
    assert len(rows) > 200
    assert [row for row in rows if row.fails] == []


def test_few_faults_are_none_in_a_narrow_dtype():
    assert len(NO_FAULT) < len(FAULTS) / 8
    assert set(NO_FAULT) <= set(FAULTS)
