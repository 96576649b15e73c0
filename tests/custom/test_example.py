"""Examples come in; the lines that show them go out."""

from __future__ import annotations

import numpy as np

from harness.custom.example import MOST_SHOWN, Example, show_array


def test_a_wrong_value_is_shown_with_all_that_goes_in_and_comes_out() -> None:
    example = Example(
        "gradients", "float64", "dW", "mismatch", "", {"W": np.eye(1)}, {"x": np.ones(1)}, np.ones(1), np.ones(1), np.zeros(1)
    )
    assert example.describe() == [
        "smallest case of gradients (float64): x = [1.0], W = [[1.0]], dy = [1.0]",
        "  dW by the layer [1.0], by the formula [0.0]",
    ]


def test_a_layer_that_gives_nothing_and_a_broken_contract_say_so() -> None:
    raised = Example("gradients", "float64", "dx", "error", "it raises", expected=np.ones(2))
    assert raised.describe()[1] == "  dx by the formula [1.0, 1.0], by the layer nothing"
    contract = Example("deterministic", "float64", "", "contract", "it gives\nother numbers", inputs={"x": np.ones(1)})
    assert contract.describe()[1] == "  it gives other numbers"


def test_long_arrays_are_named_by_shape() -> None:
    assert show_array(np.zeros(MOST_SHOWN)).count("0.0") == MOST_SHOWN
    assert show_array(np.zeros((MOST_SHOWN, 2), np.float32)) == f"float32 of shape [{MOST_SHOWN}, 2]"
    assert show_array(None) == "None"
