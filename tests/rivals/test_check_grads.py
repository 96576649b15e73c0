"""Right and wrong layers come in; what JAX's own check_grads says, asked in both ways, goes out."""

from __future__ import annotations

import pytest

from harness.rivals.check_grads import fails_check_grads, fails_check_vjp
from harness.rivals.rival import LayerFailed

SCALED = "dW scaled by 1 + e"


@pytest.mark.parametrize("fails", [fails_check_vjp, fails_check_grads])
def test_right_layers_pass_and_a_factor_of_two_fails(fails, attempt):
    assert not fails(attempt())
    assert fails(attempt(mutation=SCALED, size=1.0))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0])
def test_the_part_and_the_whole_tool_say_the_same(dtype, size, attempt):
    made = attempt(dtype, SCALED, size)
    assert fails_check_vjp(made) == fails_check_grads(made)


def test_one_direction_for_all_gradients_lets_a_tenth_of_one_pass_in_single_precision(attempt):
    assert not fails_check_vjp(attempt("float32", SCALED, 0.1))
    assert fails_check_vjp(attempt("float64", SCALED, 0.1))


def test_what_the_layers_raise_in_a_callback_comes_back_as_theirs(attempt):
    with pytest.raises(LayerFailed, match="the gradient of affine1"):
        fails_check_grads(attempt(mutation="gradient of a parameter left out"))


def test_a_callback_may_return_no_other_dtype(attempt):
    with pytest.raises(LayerFailed, match="is float32"):
        fails_check_grads(attempt(mutation="another dtype"))
