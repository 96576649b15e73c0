"""Cases as JSON come in; equal cases, stable ids and messages that name what is wrong go out."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core import (
    DTYPES,
    LABELS,
    PASSING,
    STORAGES,
    BadInput,
    Case,
    Comparison,
    NetworkSpec,
    NodeSpec,
    case_from_json,
    freeze,
)

NETWORK = NetworkSpec(
    widths={"x": 5, "t": 3},
    nodes=(
        NodeSpec("affine1", "affine", ("x",), 3),
        NodeSpec("relu1", "relu", ("affine1",), 3),
        NodeSpec("loss", "softmax_cross_entropy", ("relu1", "t"), 0),
    ),
    batch=4,
)
CASE = Case(
    NETWORK, "float32", seed=7, scale=0.5, gain=2.0, labels="soft", storage="fortran", hazards=("fortran",), origin="s1n2d3"
)


def _comparison(**changes: Any) -> Comparison:
    values = {field.name: "" for field in fields(Comparison) if field.name not in changes}
    return Comparison(**{**values, "verdict": "ok", "decides": True, **changes})


def test_a_case_survives_json():
    assert case_from_json(CASE.to_json()) == CASE


@given(
    seed=st.integers(0, 2**40),
    scale=st.floats(allow_nan=False, allow_infinity=False),
    dtype=st.sampled_from(DTYPES),
    labels=st.sampled_from(LABELS),
    storage=st.sampled_from(STORAGES),
    hazards=st.lists(st.text(max_size=8), max_size=3).map(tuple),
)
def test_every_case_survives_json_with_its_id(seed, scale, dtype, labels, storage, hazards):
    case = Case(NETWORK, dtype, seed, scale, labels=labels, storage=storage, hazards=hazards)
    again = case_from_json(case.to_json())
    assert again == case
    assert again.id == case.id


def test_an_id_never_changes():
    # Ids stand in reports, in run logs and in lists of known findings: a change that moves them breaks all of these.
    assert CASE.id == "s1n2d3-f32-034b3cde"
    assert NETWORK.digest == "c04b18c2"


def test_an_id_depends_on_the_content_alone():
    assert CASE.id == replace(CASE).id
    assert CASE.id.split("-")[1:] == replace(CASE, origin="other").id.split("-")[1:]


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float64"},
        {"seed": 8},
        {"scale": 0.25},
        {"gain": 1.0},
        {"labels": "one_hot"},
        {"storage": "C"},
        {"hazards": ()},
        {"network": replace(NETWORK, batch=5)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_any_field_changes_the_id(change):
    assert replace(CASE, **change).id.split("-")[2] != CASE.id.split("-")[2]


def test_the_order_of_keys_in_json_does_not_matter():
    record = json.loads(CASE.to_json())
    backwards = json.dumps(dict(reversed(record.items())))
    assert case_from_json(backwards).id == CASE.id


def _changed(**changes: Any) -> str:
    return json.dumps({**json.loads(CASE.to_json()), **changes})


def _changed_network(**changes: Any) -> str:
    return _changed(network={**json.loads(CASE.to_json())["network"], **changes})


def _changed_node(**changes: Any) -> str:
    first, *rest = json.loads(CASE.to_json())["network"]["nodes"]
    return _changed_network(nodes=[{**first, **changes}, *rest])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "case: not valid JSON"),
        ("[]", r"case: \[\]; accepted is an object"),
        (_changed(colour="red"), r"case: unknown fields \['colour'\]"),
        (json.dumps({"dtype": "float32"}), r"missing fields \['network', 'seed'\]"),
        (_changed(dtype="float8"), "case.dtype: 'float8'; accepted are float64, float32, bfloat16, float16"),
        (_changed(labels="loud"), "case.labels: 'loud'; accepted are integer, one_hot, soft"),
        (_changed(storage="tape"), "case.storage: 'tape'; accepted are C, fortran, strided"),
        (_changed(seed=-1), "case.seed: -1; accepted is a whole number"),
        (_changed(seed=True), "case.seed: True; accepted is a whole number"),
        (_changed(scale="large"), "case.scale: 'large'; accepted is a finite number"),
        (_changed(gain=float("nan")), "case.gain: nan; accepted is a finite number"),
        (_changed(network=3), "network: 3; accepted is an object"),
        (_changed_network(nodes=[]), r"network.nodes: \[\]; accepted is a list of at least one node"),
        (_changed_network(batch=-1), "network.batch: -1; accepted is a whole number of at least 0"),
        (_changed_network(widths=[3]), r"network.widths: \[3\]; accepted is an object"),
        (_changed_network(widths={"x": 1.5, "t": 3}), "network.widths.x: 1.5; accepted is a whole number"),
        (_changed(hazards=None), "case.hazards: None; accepted is a list of names"),
        (_changed(origin=1), "case.origin: 1; accepted is a name"),
        (_changed_node(inputs="x"), "node 'affine1': inputs: 'x'; accepted is a list of names"),
        (_changed_node(layer=None), "node.layer: None; accepted is a name"),
        (_changed_node(inputs=["y"]), r"node 'affine1': inputs \['y'\] are unknown; accepted are \['t', 'x'\]"),
        (_changed_node(width="3"), "affine1.width: '3'; accepted is a whole number"),
        (_changed_node(bias=True), r"node: unknown fields \['bias'\]"),
    ],
)
def test_broken_json_is_refused_with_the_name_of_what_is_wrong(text, message):
    with pytest.raises(BadInput, match=message):
        case_from_json(text)


@given(st.text(max_size=40) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_text_gives_anything_but_a_case_or_bad_input(text):
    with pytest.raises(BadInput):
        case_from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=3,
)


@given(change=st.sampled_from([_changed, _changed_network, _changed_node]), value=JSON, data=st.data())
def test_a_field_of_another_type_gives_a_case_or_bad_input(change, value, data):
    kind = {_changed: Case, _changed_network: NetworkSpec, _changed_node: NodeSpec}[change]
    name = data.draw(st.sampled_from([field.name for field in fields(kind)]))
    with suppress(BadInput):
        case = case_from_json(change(**{name: value}))
        assert case_from_json(case.to_json()) == case


def test_the_output_is_the_last_node():
    assert NETWORK.output.name == "loss"


def test_a_frozen_array_is_a_read_only_view_of_a_writable_one():
    mine = np.arange(3.0)
    view = freeze(mine)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    mine[0] = 5
    assert view[0] == 5


@pytest.mark.parametrize(
    "verdict", ["mismatch", "nonfinite", "oracle-nonfinite", "shape", "dtype", "missing", "vacuous", "error"]
)
def test_a_bad_verdict_fails_unless_the_row_is_a_witness(verdict):
    assert _comparison(verdict=verdict).fails
    assert not _comparison(verdict=verdict, decides=False).fails


@pytest.mark.parametrize("verdict", sorted(PASSING))
def test_a_passing_verdict_never_fails(verdict):
    assert not _comparison(verdict=verdict).fails
