"""Settings, right and wrong, come in; that a specification reads them or names what is wrong must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.core import BadInput
from harness.custom.spec import LayerSpec
from tests.custom import layers


def test_a_class_a_factory_and_a_layer_make_fresh_layers() -> None:
    for layer in (layers.Linear, lambda: layers.Linear(), layers.Linear()):
        spec = LayerSpec(layer, layers.linear, [(2, 5)])
        first, second = spec.make(), spec.make()
        assert first is not second
        assert first.params["W"] is not second.params["W"]
        assert isinstance(first, layers.Linear)


def test_names_come_from_the_layer_and_fit_a_graph() -> None:
    assert LayerSpec(layers.Swish, layers.swish, [(2, 2)]).name == "Swish"
    assert LayerSpec(layers.Swish(), layers.swish, [(2, 2)]).name == "Swish"
    assert LayerSpec(lambda: layers.Swish(), layers.swish, [(2, 2)]).name == "layer"
    assert LayerSpec(layers.Swish, layers.swish, [(2, 2)], name="my.swish 2").name == "my_swish_2"


def test_inputs_are_shapes_arrays_or_a_function() -> None:
    rng = np.random.default_rng(0)
    whole = np.array([1, 2], np.int32)
    spec = LayerSpec(layers.Bilinear, layers.swish, [(2, 3), whole])
    drawn, given = spec.draw_inputs(rng)
    assert drawn.shape == (2, 3)
    assert drawn.dtype == np.float64
    assert given is whole
    assert not spec.is_drawn
    assert LayerSpec(layers.Swish, layers.swish, [(2, 3)]).is_drawn
    called = LayerSpec(layers.Swish, layers.swish, lambda rng: rng.random((3, 1)))
    assert called.draw_inputs(rng)[0].shape == (3, 1)


def test_parameters_are_the_layers_own_unless_given() -> None:
    rng = np.random.default_rng(0)
    own = LayerSpec(layers.Linear, layers.linear, [(2, 5)]).draw_params(rng)
    assert np.array_equal(own["W"], layers.Linear().W)
    given = LayerSpec(layers.Linear, layers.linear, [(2, 5)], params={"W": np.ones((5, 3), np.float32)}).draw_params(rng)
    assert given["W"].dtype == np.float64
    assert list(given) == ["W"]
    drawn = LayerSpec(layers.Linear, layers.linear, [(2, 5)], params=lambda rng: {"b": rng.random(3)}).draw_params(rng)
    assert drawn["b"].shape == (3,)


def use(**settings: Any) -> None:
    """Make a specification and everything that it describes."""
    spec = LayerSpec(**settings)
    spec.draw_inputs(np.random.default_rng(0))
    spec.draw_params(np.random.default_rng(0))
    spec.make()


class NeedsSize:
    def __init__(self, size: int) -> None:
        self.size = size


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"formula": 3}, "formula: 3; accepted is a function"),
        ({"inputs": []}, "inputs: []; accepted are a list"),
        ({"inputs": 3}, "inputs: 3; accepted are a list"),
        ({"inputs": [(2, -1)]}, "accepted are shapes of sizes 0 and above"),
        ({"inputs": [np.array(["a"])]}, "inputs[0]:"),
        ({"params": {"W": np.array([1j])}}, "params['W']:"),
        ({"layer": NeedsSize}, "layer: NeedsSize needs size; accepted is a factory without arguments"),
        ({"layer": object}, "has no method forward"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], words: str) -> None:
    wanted: dict[str, Any] = {"layer": layers.Swish, "formula": layers.swish, "inputs": [(2, 2)], **settings}
    with pytest.raises(BadInput) as raised:
        use(**wanted)
    assert words in str(raised.value)
