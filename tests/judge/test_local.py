"""What nodes received and returned comes in; what is wrong with a node, or with the wiring between them, goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.cases import make_problem
from harness.core import Case, NetworkSpec, NodeSpec, NodeTrace
from harness.discovery import find_backends, find_layers
from harness.judge.local import describe_parting, find_parted, judge_nodes, judge_wiring, name_node, same_bits
from harness.judge.rounding import make_rounding
from reference_layers import BackwardBound, LayerBase

LAYERS, NUMPY = find_layers(), find_backends()["numpy"]
FAN = NetworkSpec(
    {"x": 3, "t": 3},
    (
        NodeSpec("affine1", "affine", ("x",), 3),
        NodeSpec("relu1", "relu", ("affine1",), 3),
        NodeSpec("sum1", "add", ("affine1", "relu1"), 3),
        NodeSpec("loss", "mean_squared_error", ("sum1", "t"), 0),
    ),
    4,
)
CASE = Case(FAN, "float64", seed=2)


@pytest.fixture
def problem() -> Any:
    """Return the problem of a network in which a value is used twice."""
    return make_problem(CASE, LAYERS)


@pytest.fixture
def outcome(problem: Any) -> Any:
    """Return what the hand-written layers make of it."""
    return NUMPY.prepare(FAN, "float64", LAYERS).run(problem)


@pytest.fixture
def trace(problem: Any) -> dict[str, NodeTrace]:
    """Return what its nodes received and returned."""
    return dict(NUMPY.prepare(FAN, "float64", LAYERS).trace(problem))


def _judge(problem: Any, trace: Mapping[str, NodeTrace], rule: str = "layer", layers: Any = LAYERS) -> dict[Any, str]:
    rounding = make_rounding(problem.case.dtype, NUMPY.arithmetic, rule)
    measures = judge_nodes(problem, layers, trace, lambda kind: rounding)
    return {key: found.verdict for key, found in measures.items() if found.verdict != "ok"}


def _wire(problem: Any, trace: Mapping[str, NodeTrace], outcome: Any) -> dict[Any, str]:
    found = judge_wiring(problem, trace, outcome.gradients, outcome.y, 2.0**-53)
    return {key: measured.verdict for key, measured in found.items() if measured.verdict != "ok"}


def test_right_nodes_rightly_wired_are_right(problem, trace, outcome):
    assert _judge(problem, trace) == {}
    assert _wire(problem, trace, outcome) == {}


def test_every_quantity_of_every_node_is_measured(problem, trace):
    rounding = make_rounding("float64", NUMPY.arithmetic, "layer")
    measures = judge_nodes(problem, LAYERS, trace, lambda kind: rounding)
    assert set(measures) == {
        ("affine1", "y"), ("affine1", "dx"), ("affine1", "dW"), ("affine1", "db"), ("relu1", "y"), ("relu1", "dx"),
        ("sum1", "y"), ("sum1", "dx0"), ("sum1", "dx1"), ("loss", "y"), ("loss", "dx"),
    }  # fmt: skip
    assert sum(found.n_compared for found in measures.values()) == 12 * 8 + 9 + 3 + 1


@pytest.mark.parametrize(
    ("node", "change", "expected"),
    [
        ("affine1", {"y": 1.01}, {("affine1", "y"): "mismatch"}),
        ("relu1", {"dx": 1.01}, {("relu1", "dx"): "mismatch"}),
        ("sum1", {"dx": (None, 1.01)}, {("sum1", "dx1"): "mismatch"}),
        ("sum1", {"dx": (None, "gone")}, {("sum1", "dx1"): "missing"}),
        ("affine1", {"dparams": {"W": 1.01}}, {("affine1", "dW"): "mismatch"}),
        ("affine1", {"dparams": {"b": "gone"}}, {("affine1", "db"): "missing"}),
        ("affine1", {"dparams": {"c": "new"}}, {("affine1", "dc"): "missing"}),
    ],
)
def test_what_is_wrong_is_named_by_node_and_quantity(problem, trace, node, change, expected):
    assert _judge(problem, {**trace, node: _change(trace[node], change)}) == expected


def _change(seen: NodeTrace, change: Mapping[str, Any]) -> NodeTrace:
    """Return what a node returned with some of it scaled, left out or added."""
    parts: dict[str, Any] = {}
    for name, how in change.items():
        if name == "y":
            parts["y"] = seen.y * how
        elif name == "dx":
            hows = how if isinstance(how, tuple) else (how,)
            parts["dx"] = tuple(_alter(value, one) for value, one in zip(seen.dx, hows, strict=True))
        else:
            kept = {**seen.dparams, **{key: np.zeros(1) for key in how if key not in seen.dparams}}
            parts["dparams"] = {key: _alter(value, how.get(key)) for key, value in kept.items() if how.get(key) != "gone"}
    return replace(seen, **parts)


def _alter(value: Any, how: Any) -> Any:
    return None if how == "gone" else value * how if isinstance(how, float) else value


def test_a_node_is_judged_on_the_values_it_received(problem, trace):
    """A wrong value on its way makes the wiring wrong, not the node that rightly works with it."""
    kind, seen = LAYERS["affine"](**problem.params["affine1"]), trace["affine1"]
    x = seen.inputs[0] * 1.5
    y = kind.forward(x)
    dx = kind.backward(seen.dy)
    wrong = {**trace, "affine1": replace(seen, inputs=(x,), y=y, dx=(dx,), dparams=kind.grads)}
    assert _judge(problem, wrong) == {}


def test_a_node_that_was_never_run_backward_is_missing(problem, trace):
    del trace["relu1"]
    assert _judge(problem, trace) == {("relu1", "y"): "missing"}


def test_a_broken_contract_marks_all_that_the_node_returned(problem, trace):
    trace["relu1"] = replace(trace["relu1"], contract="forward changed its input")
    assert _judge(problem, trace) == {("relu1", "y"): "contract", ("relu1", "dx"): "contract"}


def test_the_wiring_sees_a_value_that_changed_on_its_way(problem, trace, outcome):
    seen = trace["relu1"]
    trace["relu1"] = replace(seen, inputs=(np.nextafter(seen.inputs[0], 9),))
    assert _wire(problem, trace, outcome) == {("relu1", "x0"): "mismatch"}


def test_the_wiring_sees_an_input_that_changed_on_its_way(problem, trace, outcome):
    seen = trace["affine1"]
    trace["affine1"] = replace(seen, inputs=(np.nextafter(seen.inputs[0], 9),))
    assert _wire(problem, trace, outcome) == {("affine1", "x0"): "mismatch"}


def test_the_wiring_sees_uses_that_were_not_summed(problem, trace, outcome):
    trace["affine1"] = replace(trace["affine1"], dy=trace["relu1"].dx[0])
    assert _wire(problem, trace, outcome)[("affine1", "dy")] == "mismatch"


def test_the_wiring_allows_the_sum_its_rounding_and_no_more(problem, trace, outcome):
    right = trace["affine1"].dy
    trace["affine1"] = replace(trace["affine1"], dy=np.nextafter(right, 9))
    assert ("affine1", "dy") in judge_wiring(problem, trace, outcome.gradients, outcome.y, 2.0**-53)
    trace["affine1"] = replace(trace["affine1"], dy=right * (1 + 2.0**-40))
    assert _wire(problem, trace, outcome)[("affine1", "dy")] == "mismatch"


def test_the_wiring_sees_an_upstream_gradient_that_changed(problem, trace, outcome):
    trace["relu1"] = replace(trace["relu1"], dy=trace["relu1"].dy * 2)
    assert _wire(problem, trace, outcome) == {("relu1", "dy"): "mismatch"}


def test_the_wiring_sees_a_cotangent_that_was_not_handed_on(problem, trace, outcome):
    trace["loss"] = replace(trace["loss"], dy=np.ones_like(trace["loss"].dy))
    assert _wire(problem, trace, outcome) == {("loss", "dy"): "mismatch"}


def test_the_wiring_sees_another_output_and_another_input_gradient(problem, trace, outcome):
    assert _wire(problem, trace, replace(outcome, y=outcome.y * 2)) == {("loss", "y"): "mismatch"}
    other = replace(outcome, gradients={**outcome.gradients, "x": 2 * outcome.gradients["x"]})
    assert _wire(problem, trace, other) == {("x", "dy"): "mismatch"}
    del other.gradients["x"]
    assert _wire(problem, trace, other) == {("x", "dy"): "missing"}


def test_runs_that_part_are_named(trace, outcome):
    assert find_parted(trace, outcome.gradients) == []
    wrong = {**outcome.gradients, "affine1.W": np.nextafter(outcome.gradients["affine1.W"], 9)}
    assert find_parted(trace, wrong) == ["affine1.W"]
    more = {**outcome.gradients, "affine1.c": np.zeros(3)}
    less = {name: value for name, value in outcome.gradients.items() if name != "affine1.b"}
    assert find_parted(trace, more) == ["affine1.c"]
    assert find_parted(trace, less) == ["affine1.b"]
    trace["relu1"] = replace(trace["relu1"], contract="forward changed its input")
    said = describe_parting(trace, ["affine1.W"])
    assert said == "two runs on the same arrays gave different gradients: affine1.W; relu1: forward changed its input"


def test_a_framework_may_choose_at_an_exact_kink_and_a_hand_written_layer_may_not(make_lone):
    problem = make_lone("relu")
    x = np.array(problem.inputs["x"])
    x[0, 0] = 0.0
    problem = replace(problem, inputs={"x": x})
    kink = {0.0: ("", ""), 0.5: ("convention", "mismatch"), 1.0: ("convention", "mismatch"), 1.5: ("mismatch", "mismatch")}
    for gate, (framework, layer) in {**kink, -0.1: ("mismatch", "mismatch")}.items():
        dx = np.where(x > 0, problem.dy, 0.0)
        dx[0, 0] = gate * problem.dy[0, 0]
        trace = {"node": NodeTrace((x,), np.maximum(x, 0), problem.dy, (dx,), {})}
        for rule, expected in (("formula", framework), ("layer", layer)):
            assert _judge(problem, trace, rule) == ({("node", "dx"): expected} if expected else {})


def test_beside_a_kink_nobody_may_choose(make_lone):
    problem = make_lone("relu")
    x = np.array(problem.inputs["x"])
    x[0, 0], x[1, 1] = 0.0, 1e-300
    problem = replace(problem, inputs={"x": x})
    dx = np.where(x > 0, problem.dy, 0.0)
    dx[1, 1] = 0.5 * problem.dy[1, 1]
    trace = {"node": NodeTrace((x,), np.maximum(x, 0), problem.dy, (dx,), {})}
    assert _judge(problem, trace, "formula") == {("node", "dx"): "mismatch"}


class Cancelling(LayerBase):
    """x / (1 + |x|): its formula, differentiated, cancels far from 0, the hand-written rule does not."""

    name = "cancelling"
    place = "map"

    def forward(self, x: Any) -> Any:
        self.cache = (x,)
        return x / (1 + np.abs(x))

    def backward(self, dy: Any, cache: Any = None) -> Any:
        (x,) = self.cache
        return dy / (1 + np.abs(x)) / (1 + np.abs(x))

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return x / (1 + xp.abs(x))

    @staticmethod
    def forward_bound(r: Any, params: Any, x: Any) -> Any:
        return 4 * r.u + x.error

    @staticmethod
    def backward_bound(r: Any, params: Any, x: Any, dy: Any) -> BackwardBound:
        far = 1 + np.abs(x.value)
        return BackwardBound(((12 * far if r.rule == "formula" else 6) * r.u * dy.size * far**-2.0 + dy.error,))

    @staticmethod
    def sample_inputs(rng: Any, batch: int, width: int) -> tuple[Any, ...]:
        return (rng.uniform(1, 2, (batch, width)),)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e6])
def test_the_error_of_the_oracle_itself_accuses_no_layer(make_lone, dtype, scale):
    layers = {**LAYERS, "cancelling": Cancelling}
    problem = make_lone(Cancelling, dtype, scale=scale)
    trace = dict(NUMPY.prepare(problem.case.network, dtype, layers).trace(problem))
    assert _judge(problem, trace, layers=layers) == {}
    dx = (1.01 * trace["node"].dx[0]).astype(dtype)
    assert _judge(problem, {"node": replace(trace["node"], dx=(dx,))}, layers=layers) == {("node", "dx"): "mismatch"}


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (np.ones(2), np.ones(2), True),
        (np.ones(2), np.ones(2, np.float32), False),
        (np.ones(2), np.ones((2, 1)), False),
        (np.array([1, np.nan]), np.array([1, np.nan]), True),
        (np.array([1.0]), np.nextafter([1.0], 2), False),
        (None, None, True),
        (None, np.ones(2), False),
        (np.array(["a"]), np.array(["a"]), True),
    ],
)
def test_bits_are_the_same_or_not(a, b, same):
    assert same_bits(a, b) is same
    assert same_bits(b, a) is same


def test_quantities_are_named_by_what_is_differentiated():
    one = np.ones(1)
    assert set(name_node(NodeTrace((one,), one, one, (one,), {"W": one}), frozenset())) == {"y", "dx", "dW"}
    assert set(name_node(NodeTrace((one, one), one, one, (one, one), {}), frozenset())) == {"y", "dx0", "dx1"}
    assert set(name_node(NodeTrace((one, one), one, one, (one, None), {}), frozenset({1}))) == {"y", "dx"}
    assert set(name_node(NodeTrace((one, one), one, one, (one, one), {}), frozenset({1}))) == {"y", "dx"}


def _receive_infinity(problem: Any, trace: dict[str, NodeTrace], dx: list[float]) -> str:
    """Return the verdict on a gate that received an infinity upstream where it is open, closed and open, and returned dx."""
    seen = trace["relu1"]
    inputs, dy = seen.inputs[0].copy(), seen.dy.copy()
    inputs[0], dy[0] = [1.0, -1.0, 1.0], [np.inf, 1.0, np.nan]
    returned = np.where(inputs > 0, dy, 0.0)
    returned[0] = dx
    y = np.maximum(inputs, 0)
    changed = {**trace, "relu1": replace(seen, inputs=(inputs,), y=y, dy=dy, dx=(returned,))}
    return _judge(problem, changed).get(("relu1", "dx"), "ok")


@pytest.mark.parametrize(
    ("dx", "verdict"),
    [
        ([np.inf, 0.0, np.nan], "ok"),
        ([np.nan, 0.0, np.inf], "ok"),
        ([-np.inf, 0.0, -np.inf], "ok"),
        ([np.inf, np.nan, np.nan], "nonfinite"),
        ([1.0, 0.0, np.nan], "mismatch"),
        ([np.inf, 0.0, 1.0], "mismatch"),
    ],
)
def test_what_comes_of_an_infinity_is_none_of_the_nodes_doing_but_the_rest_is(problem, trace, dx, verdict):
    assert _receive_infinity(problem, trace, dx) == verdict
