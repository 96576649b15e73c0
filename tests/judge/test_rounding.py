"""A dtype and a backend's arithmetic come in; the constants of the bounds go out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core import Arithmetic
from harness.judge.rounding import make_rounding, oracle_margin, oracle_share


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_unit_roundoff_is_half_the_spacing_at_one(dtype):
    found = make_rounding(dtype, Arithmetic(elementary=3.0), "native")
    assert found.u == found.ua == np.spacing(np.ones((), dtype)) / 2
    assert found.tiny == np.finfo(dtype).tiny
    assert (found.elementary, found.rule, found.typical) == (3.0, "native", False)


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 29), ("float64", 11)])
def test_the_oracle_takes_little_of_the_bounds(dtype, bits):
    if dtype == "float64" and np.finfo(np.longdouble).eps != 2.0**-63:
        pytest.skip("this machine's longdouble has another precision")
    assert oracle_share(dtype) == 2.0 ** (1 - bits)
    assert 1 < oracle_margin(dtype) < 1.005
