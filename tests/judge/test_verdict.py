"""Outcomes come in; one row for every quantity, with the verdict that it deserves, goes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from harness.backends.numerical import Numerical
from harness.backends.torch_autograd import TorchAutograd
from harness.cases import make_problem
from harness.core import PROJECTIONS, Case, NetworkSpec, NodeSpec, Outcome
from harness.discovery import find_backends, find_layers
from harness.judge import verdict as judging
from harness.judge.measure import Measure
from harness.judge.verdict import Bench, describe, judge, split_name
from harness.shards import run_shard
from tests.meta.planting import cases_with, rows_of

LAYERS, BACKENDS = find_layers(), find_backends()
NUMPY, HIPS = BACKENDS["numpy"], BACKENDS["autograd"]
GRAPH = NetworkSpec(
    {"x": 4, "t": 3},
    (
        NodeSpec("affine1", "affine", ("x",), 3),
        NodeSpec("sigmoid1", "sigmoid", ("affine1",), 3),
        NodeSpec("loss", "softmax_cross_entropy", ("sigmoid1", "t"), 0),
    ),
    5,
)


def _rows(case: Case, change: Callable[[Outcome], Outcome] = lambda outcome: outcome, backend: Any = HIPS) -> Any:
    """Return the rows of a changed, untraced outcome by node and quantity."""
    problem = make_problem(case, LAYERS)
    outcome = change(backend.prepare(case.network, case.dtype, LAYERS).run(problem))
    return {(row.node, row.quantity): row for row in judge(Bench(problem, LAYERS), backend, outcome, None)}


def _replaced(name: str, value: Callable[[Any], Any]) -> Callable[[Outcome], Outcome]:
    return lambda outcome: replace(outcome, gradients={**outcome.gradients, name: value(outcome.gradients[name])})


CASE = Case(GRAPH, "float64", seed=1)


def test_a_right_outcome_has_a_row_for_the_output_and_each_gradient():
    rows = _rows(CASE)
    assert set(rows) == {("loss", "y"), ("affine1", "dW"), ("affine1", "db"), ("x", "dx")}
    assert {row.verdict for row in rows.values()} == {"ok"}
    assert {row.check for row in rows.values()} == {"network"}
    assert rows["x", "dx"].layer == "input"
    assert rows["affine1", "dW"].layer == "affine"


@pytest.mark.parametrize(
    ("change", "key", "verdict"),
    [
        (_replaced("affine1.W", lambda value: 1.01 * value), ("affine1", "dW"), "mismatch"),
        (_replaced("affine1.W", lambda value: value.T), ("affine1", "dW"), "shape"),
        (_replaced("affine1.W", lambda value: value.astype(np.float32)), ("affine1", "dW"), "dtype"),
        (_replaced("affine1.b", lambda value: value * np.nan), ("affine1", "db"), "nonfinite"),
        (_replaced("x", lambda value: None), ("x", "dx"), "missing"),
        (lambda outcome: replace(outcome, y=outcome.y + 1), ("loss", "y"), "mismatch"),
        (lambda outcome: replace(outcome, gradients={**outcome.gradients, "t": outcome.y}), ("t", "dx"), "missing"),
    ],
)
def test_what_is_wrong_fails_in_its_row_alone(change, key, verdict):
    rows = _rows(CASE, change)
    assert rows[key].verdict == verdict
    assert rows[key].fails
    assert rows[key].message
    assert [other for other, row in rows.items() if row.fails] == [key]


def test_without_gradients_all_are_missing():
    rows = _rows(CASE, lambda outcome: replace(outcome, gradients={}))
    assert {key: row.verdict for key, row in rows.items() if row.fails} == dict.fromkeys(
        [("affine1", "dW"), ("affine1", "db"), ("x", "dx")], "missing"
    )


def test_the_message_says_how_many_are_wrong_and_where():
    row = _rows(CASE, _replaced("affine1.W", lambda value: value * np.where(np.arange(12).reshape(4, 3) == 7, 1.5, 1)))[
        "affine1", "dW"
    ]
    assert (row.n_wrong, row.n_compared, row.worst_index) == (1, 12, "2 1")
    assert row.message.startswith(
        "affine1.dW: 1 of 12 entries are further from the truth than rounding moves them; worst dW[2][1] = "
    )
    assert row.got == pytest.approx(1.5 * row.expected)


@pytest.mark.parametrize("status", ["error", "unsupported", "unavailable", "crash", "timeout"])
def test_a_failed_outcome_is_one_row_with_its_failure(status):
    (row,) = judge(Bench(make_problem(CASE, LAYERS), LAYERS), NUMPY, Outcome(status, message="why"), None)
    assert (row.node, row.quantity, row.layer, row.verdict, row.message) == ("network", "all", "network", status, "why")
    assert row.fails == (status not in ("unsupported", "unavailable"))


def _empty(*nodes: NodeSpec, **widths: int) -> Case:
    return Case(NetworkSpec(widths, nodes, 0), "float64", seed=1, hazards=("batch-0",))


EMPTY_LOSS = _empty(
    NodeSpec("affine1", "affine", ("x",), 3), NodeSpec("loss", "mean_squared_error", ("affine1", "t"), 0), x=4, t=3
)
EMPTY_MAP = _empty(NodeSpec("affine1", "affine", ("x",), 3), x=4)


def test_what_an_empty_batch_declares_is_asserted():
    loss, mapped = _rows(EMPTY_LOSS, backend=NUMPY), _rows(EMPTY_MAP, backend=NUMPY)
    said = {key: row.message for key, row in {**loss, **mapped}.items()}
    assert {row.verdict for row in (*loss.values(), *mapped.values())} == {"ok"}
    assert said["loss", "y"] == "declared NaN: the mean over an empty batch"
    assert said["affine1", "y"] == said["x", "dx"] == "declared empty"
    assert said["affine1", "dW"] == said["affine1", "db"] == "declared exactly zero"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (_replaced("affine1.W", lambda value: value + 1e-300), ("affine1", "dW")),
        (_replaced("affine1.b", lambda value: value * np.nan), ("affine1", "db")),
        (_replaced("x", lambda value: np.zeros((1, 4))), ("x", "dx")),
        (_replaced("x", lambda value: None), ("x", "dx")),
        (lambda outcome: replace(outcome, y=np.float64(0)), ("loss", "y")),
        (lambda outcome: replace(outcome, y=np.float64(np.inf)), ("loss", "y")),
    ],
)
def test_what_an_empty_batch_declares_and_is_not_so_fails(change, key):
    assert _rows(EMPTY_LOSS, change, NUMPY)[key].fails


@pytest.mark.parametrize("case", [EMPTY_LOSS, EMPTY_MAP])
def test_nothing_to_compare_fails_where_no_hazard_declares_it(case):
    rows = _rows(replace(case, hazards=()), backend=NUMPY)
    assert rows["x", "dx"].verdict == "vacuous"
    assert rows["x", "dx"].fails


def test_a_witness_never_fails_the_run():
    witness = Numerical()
    rows = _rows(CASE, _replaced("affine1.W", lambda value: -value), witness)
    assert rows["affine1", "dW"].verdict == "mismatch"
    assert not any(row.fails for row in rows.values())
    assert ("loss", "y") not in rows


def test_projections_of_a_witness_are_one_row():
    large = Case(NetworkSpec({"x": 20}, (NodeSpec("affine1", "affine", ("x",), 60),), 8), "float64", seed=1)
    (row,) = _rows(large, backend=Numerical()).values()
    assert (row.node, row.quantity, row.verdict, row.decides) == ("network", PROJECTIONS, "ok", False)
    wrong = _rows(
        large, lambda outcome: replace(outcome, gradients={PROJECTIONS: 1.1 * outcome.gradients[PROJECTIONS]}), Numerical()
    )
    assert wrong["network", PROJECTIONS].verdict == "mismatch"


@dataclass(frozen=True)
class Halving(TorchAutograd):
    """PyTorch with a rectifier whose slope at 0 is `slope`, as jnp.maximum's is one half."""

    name: str = "halving"
    slope: float = 0.5

    def prepare(self, network: Any, dtype: str, layers: Any) -> Any:
        slope = self.slope

        class Other(layers["relu"]):
            @staticmethod
            def formula(xp: Any, params: Any, x: Any, decisions: Any = None) -> Any:
                return xp.where(x > 0, x, xp.where(x == 0, slope * x, xp.zeros_like(x)))

        return super().prepare(network, dtype, {**layers, "relu": Other})


TIES = [case for case in cases_with("relu") if "relu-zeros" in case.hazards]


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_another_subgradient_of_a_framework_is_a_convention_all_the_way_up(slope):
    pytest.importorskip("torch")
    rows = [row for rows in rows_of(TIES, [Halving(slope=slope)]) for row in rows]
    assert len(rows) > 50
    assert [row for row in rows if row.fails] == []
    conventions = [row for row in rows if row.verdict == "convention"]
    assert bool(conventions) == (slope > 0)
    assert all("kink" in row.message for row in conventions)


@pytest.mark.parametrize("slope", [-0.5, 1.5])
def test_what_is_no_subgradient_is_a_mismatch(slope):
    pytest.importorskip("torch")
    rows = [row for rows in rows_of(TIES, [Halving(slope=slope)]) for row in rows]
    assert {"mismatch"} <= {row.verdict for row in rows if row.layer == "relu"}


def test_a_hand_written_layer_has_no_choice_at_a_kink():
    class Other(LAYERS["relu"]):
        def backward(self, dy: Any, cache: Any = None) -> Any:
            return dy * self.kept

        def forward(self, x: Any) -> Any:
            self.kept = np.heaviside(x, 0.5).astype(x.dtype)
            return super().forward(x)

    rows = [row for case in TIES for row in run_shard([case], [NUMPY], {**LAYERS, "relu": Other}, {}).comparisons]
    assert "convention" not in {row.verdict for row in rows}
    assert {"relu"} <= {row.layer for row in rows if row.fails}


def test_a_fault_beside_a_convention_still_fails():
    pytest.importorskip("torch")

    @dataclass(frozen=True)
    class Wrong(Halving):
        def prepare(self, network: Any, dtype: str, layers: Any) -> Any:
            class Steep(layers["affine"]):
                @staticmethod
                def formula(xp: Any, params: Any, x: Any) -> Any:
                    return 1.01 * (x @ params["W"]) + params["b"]

            return super().prepare(network, dtype, {**layers, "affine": Steep})

    cases = [case for case in TIES if any(node.layer == "affine" for node in case.network.nodes)]
    for rows in rows_of(cases, [Wrong()]):
        assert {"affine"} <= {row.layer for row in rows if row.fails}


def _measure(verdict: str, error: float = 0.5, power: float = 1e-6) -> Measure:
    return Measure(verdict, error_in_bounds=error, power=power, n_compared=1, got=1.0, expected=1.0)


@pytest.mark.parametrize(
    ("local", "network", "noise", "verdict", "power"),
    [
        (_measure("ok"), _measure("ok"), None, "ok", 1e-6),
        (_measure("ok"), _measure("mismatch", 2.0), None, "mismatch", 1e-6),
        (_measure("mismatch", 2.0), _measure("ok"), None, "mismatch", 1e-6),
        (_measure("ok", power=1e-9), _measure("powerless", power=3.0), None, "ok", 1e-9),
        (None, _measure("powerless", power=3.0), None, "powerless", 3.0),
        (None, _measure("powerless", power=3.0), _measure("ok", power=1e-3), "ok", 1e-3),
        (None, _measure("powerless", power=3.0), _measure("mismatch", 2.0, 1e-3), "mismatch", 1e-3),
        (_measure("powerless", power=3.0), _measure("mismatch", 2.0, 1e-3), None, "mismatch", 1e-3),
        (_measure("contract"), _measure("mismatch", 2.0), None, "contract", 1e-6),
        (_measure("convention"), _measure("ok"), None, "convention", 1e-6),
    ],
)
def test_the_worse_check_decides_and_the_sharper_gives_the_power(local, network, noise, verdict, power):
    bench = Bench(make_problem(CASE, LAYERS), LAYERS)
    checks = {"local": local, "network": network, "noise": noise}
    row = judging._join(bench, NUMPY, ("affine1", "dW"), {name: value for name, value in checks.items() if value is not None})
    assert (row.verdict, row.power) == (verdict, power)
    checks = {"local": local, "network": network, "noise": noise}
    assert row.check == "+".join(name for name, value in checks.items() if value is not None)
    assert row.network_error_in_bounds == network.error_in_bounds


def test_a_right_row_needs_no_words():
    assert describe(("a", "dW"), _measure("ok")) == describe(("a", "dW"), _measure("powerless")) == ""


@pytest.mark.parametrize(("name", "key"), [("affine1.W", ("affine1", "dW")), ("x", ("x", "dx")), ("a.b", ("a", "db"))])
def test_names_of_gradients_are_node_and_quantity(name, key):
    assert split_name(name) == key


def test_true_values_are_found_once_for_backends_that_take_the_same_branches(monkeypatch):
    calls = []
    right = judging.find_values
    monkeypatch.setattr(judging, "find_values", lambda *arguments: calls.append(1) or right(*arguments))
    bench = Bench(make_problem(CASE, LAYERS), LAYERS)
    for backend in (NUMPY, HIPS):
        program = backend.prepare(GRAPH, "float64", LAYERS)
        judge(bench, backend, program.run(bench.problem), program.trace(bench.problem))
    assert calls == [1]


@pytest.mark.parametrize("labels", ["integer", "one_hot", "soft"])
def test_soft_labels_that_do_not_sum_to_one_are_judged(labels):
    """Scales the weights of the labels, which only p sum(T) - T follows, not p - T."""
    problem = make_problem(replace(CASE, labels=labels), LAYERS)
    weights = np.eye(3)[problem.inputs["t"]] if labels == "integer" else np.asarray(problem.inputs["t"])
    problem = replace(problem, inputs={**problem.inputs, "t": weights * np.linspace(0.5, 2, 5)[:, None]})

    class Careless(LAYERS["softmax_cross_entropy"]):
        def backward(self, dy: Any = 1.0, cache: Any = None) -> Any:
            e = np.exp(self.x - self.x.max(axis=1, keepdims=True))
            return dy * (e / e.sum(axis=1, keepdims=True) - self.t) / len(self.t)

        def forward(self, x: Any, t: Any) -> Any:
            self.x, self.t = x, t
            return super().forward(x, t)

    for kind, wrong in ((LAYERS["softmax_cross_entropy"], False), (Careless, True)):
        layers = {**LAYERS, "softmax_cross_entropy": kind}
        program = NUMPY.prepare(GRAPH, "float64", layers)
        rows = judge(Bench(problem, layers), NUMPY, program.run(problem), program.trace(problem))
        assert any(row.fails for row in rows) == wrong


def test_a_convention_excuses_what_its_gradient_reaches_and_nothing_else():
    nodes = (
        NodeSpec("near", "affine", ("x",), 3), NodeSpec("kink", "relu", ("near",), 3), NodeSpec("far", "affine", ("z",), 3),
        NodeSpec("sum", "add", ("kink", "far"), 3),
    )  # fmt: skip
    problem = make_problem(Case(NetworkSpec({"x": 3, "z": 3}, nodes, 4), "float64", 0), find_layers())
    wrong = {key: Measure("mismatch") for key in (("near", "dW"), ("x", "dx"), ("far", "dW"), ("z", "dx"), ("sum", "y"))}
    found = judging._follow_convention(problem, wrong, {("kink", "dx"): Measure("convention")})
    assert {key for key, value in found.items() if value.verdict == "convention"} == {("near", "dW"), ("x", "dx")}
    assert judging._follow_convention(problem, wrong, {("kink", "dx"): Measure("ok")}) == wrong
