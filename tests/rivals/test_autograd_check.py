"""Right and wrong layers come in; what HIPS autograd's own check_grads says goes out."""

from __future__ import annotations

import numpy as np

from harness.rivals.autograd_check import fails_autograd

SCALED = "dW scaled by 1 + e"


def test_right_layers_pass_and_a_factor_of_two_fails(attempt):
    assert not fails_autograd(attempt())
    assert fails_autograd(attempt(mutation=SCALED, size=1.0))


def test_an_error_of_a_ten_millionth_passes(attempt):
    assert not fails_autograd(attempt(mutation=SCALED, size=1e-7))


def test_its_step_is_lost_in_single_precision(attempt):
    assert fails_autograd(attempt("float32"))


def test_it_draws_the_same_directions_each_time_and_leaves_the_generator_as_it_was(attempt):
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    answers = {fails_autograd(attempt(mutation=SCALED, size=1e-5)) for _ in range(3)}
    assert len(answers) == 1
    assert np.array_equal(np.random.get_state()[1], before)
