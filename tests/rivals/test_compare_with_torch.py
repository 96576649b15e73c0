"""Right and wrong layers come in; what the close-enough rules accuse and what they let pass goes out."""

from __future__ import annotations

import pytest

from harness.rivals.compare_with_torch import fails_allclose, fails_assert_close, fails_gradcheck_rule

SCALED = "dW scaled by 1 + e"


@pytest.mark.parametrize("fails", [fails_allclose, fails_assert_close, fails_gradcheck_rule])
def test_right_layers_pass_and_a_factor_of_two_fails(fails, attempt):
    assert not fails(attempt())
    assert fails(attempt(mutation=SCALED, size=1.0))


def test_an_error_of_a_tenth_of_a_percent_passes_gradchecks_tolerances(attempt):
    assert not fails_gradcheck_rule(attempt(mutation=SCALED, size=5e-4))
    assert fails_allclose(attempt(mutation=SCALED, size=5e-4))
    assert fails_assert_close(attempt(mutation=SCALED, size=5e-4))


def test_an_error_of_a_ten_millionth_passes_all_of_them(attempt):
    wrong = attempt(mutation=SCALED, size=1e-8)
    assert [fails(wrong) for fails in (fails_allclose, fails_assert_close, fails_gradcheck_rule)] == [False] * 3


def test_tolerances_go_by_the_dtype_in_assert_close_alone(attempt):
    wrong = attempt("float32", SCALED, 1e-6)
    assert not fails_assert_close(wrong)
    assert fails_assert_close(attempt("float64", SCALED, 1e-6))


@pytest.mark.parametrize(
    "mutation", ["another dtype", "one axis too many", "gradients of two parameters under each other's names"]
)
def test_another_dtype_shape_or_name_fails(mutation, attempt):
    assert fails_allclose(attempt(mutation=mutation))


def test_a_wrong_output_fails(attempt):
    assert fails_allclose(attempt(mutation="y scaled by 1 + e", size=1e-2, node="loss"))
