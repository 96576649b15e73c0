"""Right and wrong layers come in; what torch's own gradcheck says goes out."""

from __future__ import annotations

import pytest

from harness.rivals.gradcheck import fails_gradcheck

SCALED = "dW scaled by 1 + e"


@pytest.mark.parametrize("fast_mode", [False, True])
def test_right_layers_pass_and_a_factor_of_two_fails(fast_mode, attempt):
    assert not fails_gradcheck(attempt(), fast_mode)
    assert fails_gradcheck(attempt(mutation=SCALED, size=1.0), fast_mode)


@pytest.mark.parametrize("fast_mode", [False, True])
def test_an_error_of_half_a_thousandth_passes(fast_mode, attempt):
    assert not fails_gradcheck(attempt(mutation=SCALED, size=5e-4), fast_mode)


def test_a_mistake_in_both_passes_is_invisible(attempt):
    """What it compares with are differences of the layers' own forward pass."""
    assert not fails_gradcheck(attempt(mutation="input moved away from 0 by e", size=1e-2, node="sigmoid1"), fast_mode=False)
