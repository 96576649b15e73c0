"""Names of dtypes come in; the constants of their arithmetic go out, as the standards give them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core import DTYPES
from harness.floats import NARROW, find_format, find_spacing, is_float


@pytest.mark.parametrize(
    ("name", "digits", "lowest", "largest"),
    [
        ("float64", 53, -1074, (2 - 2.0**-52) * 2.0**1023),
        ("float32", 24, -149, (2 - 2.0**-23) * 2.0**127),
        ("bfloat16", 8, -133, (2 - 2.0**-7) * 2.0**127),
        ("float16", 11, -24, 65504.0),
    ],
)
def test_the_constants_are_those_of_the_standard(name, digits, lowest, largest):
    kind = find_format(name)
    assert (kind.digits, kind.u, kind.least, kind.largest) == (digits, 2.0**-digits, 2.0**lowest, largest)
    assert kind.tiny == kind.least * 2 ** (digits - 1)


def test_narrow_formats_compute_in_float32_and_the_others_in_themselves():
    assert {name for name in DTYPES if find_format(name).is_narrow} == set(NARROW)
    assert {find_format(name).compute for name in NARROW} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", DTYPES)
@given(size=st.floats(1e-30, 1e4))
def test_one_ulp_is_the_distance_to_the_next_number(name, size):
    kind = find_format(name)
    stored = np.asarray(size).astype(kind.dtype)
    following = np.nextafter(stored, np.asarray(np.inf, kind.dtype))
    assert find_spacing(stored.astype(np.float64), name) == float(following) - float(stored)


def test_bfloat16_is_a_float_and_labels_are_none():
    assert is_float(np.zeros(2, ml_dtypes.bfloat16))
    assert is_float(np.zeros(2, np.float16))
    assert not is_float(np.zeros(2, np.int64))
    assert not is_float(np.zeros(2, bool))
