"""Cases of layers come in, right ones and broken ones; that JSON brings them back to the last bit, or is refused, goes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import LayerSpec
from harness.core import BadInput
from harness.custom.layer_case import LayerCase, case_from_json, is_case, load_spec, make_case_trial, record_case
from harness.custom.shrink import Reason
from harness.custom.trials import draw_trial
from tests.custom import importable, layers

SPEC = LayerSpec(importable.Averages, layers.linear, [(6, 5)])
REASON = Reason("gradients", "Averages", "db", "mismatch")


def record(spec: LayerSpec = SPEC, dtype: str = "float64") -> LayerCase:
    return record_case(spec, draw_trial(spec, dtype, 1, 1), REASON, Path.cwd())


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_case_comes_back_to_the_last_bit(dtype: str) -> None:
    case = case_from_json(record(dtype=dtype).to_json())
    spec = load_spec(case, Path.cwd())
    trial, before = make_case_trial(case, spec), draw_trial(SPEC, dtype, 1, 1)
    assert trial.problem.inputs["x"].dtype == before.problem.inputs["x"].dtype
    np.testing.assert_array_equal(trial.problem.inputs["x"], before.problem.inputs["x"])
    np.testing.assert_array_equal(trial.problem.dy, before.problem.dy)
    for name, value in before.problem.params[before.node].items():
        np.testing.assert_array_equal(trial.problem.params[trial.node][name], value)


def test_numbers_that_are_none_integers_and_nothing_come_back() -> None:
    odd = replace(record(), inputs=(np.array([np.nan, np.inf, -np.inf, -0.0]), np.array([[3, -1]]), np.zeros((0, 4))))
    again = case_from_json(odd.to_json())
    for one, other in zip(odd.inputs, again.inputs, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one, other)
    assert np.signbit(again.inputs[0][3])
    assert "NaN" not in odd.to_json()


def test_a_specification_and_a_declared_gradient_are_found_again() -> None:
    whole = record(importable.styled)
    assert (whole.spec, whole.layer) == ("tests.custom.importable:styled", "")
    assert load_spec(whole, Path.cwd()) is importable.styled
    declared = record(LayerSpec(importable.Leaks, importable.relu, [(3, 2)], gradient=importable.through))
    assert load_spec(declared, Path.cwd()).gradient is importable.through


def test_a_layer_that_cannot_be_imported_is_said_to_be() -> None:
    class Local(layers.Linear):
        pass

    case = record(LayerSpec(Local, layers.linear, [(6, 5)]))
    assert not case.is_importable
    with pytest.raises(BadInput, match="could not be imported"):
        load_spec(case, Path.cwd())


def test_cases_of_layers_are_told_from_those_of_networks() -> None:
    assert is_case(record().to_json())
    assert not is_case('{"network": {}, "dtype": "float64", "seed": 0}')
    assert not is_case("s1n0d0-f32-00000000")
    assert not is_case("[1]")


BROKEN: dict[str, tuple[str, Any, str]] = {
    "a dtype": ("dtype", "float8", "accepted is float64"),
    "a storage": ("storage", "tape", "accepted is C"),
    "a seed": ("seed", -1, "a whole number"),
    "a truth for a number": ("trial", True, "a whole number"),
    "constants": ("constants", ["a"], "a list of places"),
    "roots": ("roots", [1], "a list of folders"),
    "parameters": ("params", [], "an object of arrays"),
    "inputs": ("inputs", [], "a list of arrays"),
    "a layer": ("layer", 3, "text"),
    "an array": ("dy", [1.0], "an object with dtype, shape and values"),
    "a pickled dtype": ("dy", {"dtype": "object", "shape": [1], "values": [1]}, "an object with dtype"),
    "too few numbers": ("dy", {"dtype": "float64", "shape": [3], "values": [1.0]}, "as many numbers as fit"),
    "words for numbers": ("dy", {"dtype": "float64", "shape": [1], "values": ["one"]}, "is no array"),
    "a negative size": ("dy", {"dtype": "float64", "shape": [-1], "values": [1.0]}, "an object with dtype"),
    "an integer that is too large": ("dy", {"dtype": "int64", "shape": [1], "values": [2**70]}, "is no array"),
}


@pytest.mark.parametrize(("field", "value", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_case_is_refused_with_its_field(field: str, value: Any, words: str) -> None:
    broken = json.loads(record().to_json()) | {field: value}
    with pytest.raises(BadInput, match=rf"case\.{field}: .*{words}"):
        case_from_json(json.dumps(broken))


@pytest.mark.parametrize("text", ["{nope", "[]", "{}", '{"check": "gradients"}'])
def test_what_is_no_object_of_the_fields_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="case: "):
        case_from_json(text)


def test_a_cotangent_of_another_shape_is_refused() -> None:
    with pytest.raises(BadInput, match=r"dy: the shape is \[2\]; accepted is \[6, 3\]"):
        make_case_trial(replace(record(), dy=np.ones(2)), SPEC)
