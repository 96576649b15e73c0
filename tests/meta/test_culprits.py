"""One wrong witness among right ones comes in, in every dtype; rows that name it, and nobody else, go out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from harness.core import DTYPES, Arithmetic, Case, Comparison, NetworkSpec, NodeSpec
from harness.discovery import find_backends, find_layers
from harness.mutations.reference import MutatedReference
from harness.mutations.wiring import find_wiring
from harness.shards import run_shard
from reference_layers import Affine, ReLU, Sigmoid, SoftmaxCrossEntropy
from tests.meta.planting import alter_dx, alter_grads, alter_y

pytest.importorskip("torch")
pytest.importorskip("jax")

LAYERS, BACKENDS = find_layers(), find_backends()
WITNESSES = ("numpy", "torch", "torch:native", "jax", "jax:native")
TOO_LARGE = 1.5
GRAPH = NetworkSpec(
    {"x": 5, "t": 4},
    (
        NodeSpec("affine1", "affine", ("x",), 4),
        NodeSpec("sigmoid1", "sigmoid", ("affine1",), 4),
        NodeSpec("affine2", "affine", ("sigmoid1",), 4),
        NodeSpec("add1", "add", ("sigmoid1", "affine2"), 4),
        NodeSpec("loss1", "softmax_cross_entropy", ("add1", "t"), 0),
    ),
    3,
)
ALONE = NetworkSpec({"x": 8}, (NodeSpec("relu1", "relu", ("x",), 8),), 3)


@dataclass(frozen=True)
class Misled:
    """A framework of which the formulas, or the own ops, of some layers are wrong: as if the framework itself were."""

    name: str
    wrong: str = ""
    default: bool = True
    decides: bool = True

    @property
    def variant(self) -> str:
        return BACKENDS[self.name].variant

    @property
    def framework(self) -> str:
        return BACKENDS[self.name].framework

    @property
    def arithmetic(self) -> Arithmetic:
        return BACKENDS[self.name].arithmetic

    def rule(self, layer: Any) -> str:
        return BACKENDS[self.name].rule(layer)

    def prepare(self, network: NetworkSpec, dtype: str, layers: Mapping[str, Any]) -> Any:
        return _prepare(self.name, network.digest, dtype, self.wrong)


@cache
def _prepare(name: str, digest: str, dtype: str, wrong: str) -> Any:
    """Return the network ready to run; it is compiled once for all tests."""
    network = {graph.digest: graph for graph in (GRAPH, ALONE)}[digest]
    layers = {**LAYERS, **({wrong: _mislead(LAYERS[wrong])} if wrong else {})}
    return BACKENDS[name].prepare(network, dtype, layers)


def _mislead(kind: Any) -> Any:
    """Return a layer whose formula, and the own ops of frameworks for it, give too much."""

    def formula(xp: Any, params: Any, *inputs: Any) -> Any:
        return kind.formula(xp, params, *inputs) * TOO_LARGE

    def scale(op: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: op(*arguments) * TOO_LARGE

    native = {framework: scale(op) for framework, op in kind.native.items()}
    return type(kind.__name__, (kind,), {"formula": staticmethod(formula), "native": native})


def _judge(dtype: str, backends: Sequence[Any], layers: Mapping[str, Any] = LAYERS, **settings: Any) -> list[Comparison]:
    case = Case(GRAPH, dtype, **{"seed": 2, **settings})
    return run_shard([case], backends, layers, {}).comparisons


def _blamed(rows: Sequence[Comparison]) -> dict[str, set[str]]:
    """Return who is named in the failing rows, by backend."""
    named: dict[str, set[str]] = {}
    for row in rows:
        if row.fails:
            named.setdefault(row.backend, set()).add(row.culprit)
    return named


def _others(*wrong: str) -> list[Any]:
    return [Misled(name) if name != "numpy" else BACKENDS["numpy"] for name in WITNESSES if name not in wrong]


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_witnesses_together_accuse_nobody(dtype):
    rows = _judge(dtype, _others())
    assert {row.backend for row in rows} == set(WITNESSES)
    assert [row.message for row in rows if row.fails] == []
    assert {row.culprit for row in rows} <= {"", "nobody (arithmetic)"}


WRONG_LAYERS: Mapping[str, Any] = {
    "affine, weight gradient": alter_grads(
        Affine, lambda grads: {**grads, "W": (grads["W"] * TOO_LARGE).astype(grads["W"].dtype)}
    ),
    "affine, output": alter_y(Affine, lambda y: (y * TOO_LARGE).astype(y.dtype)),
    "sigmoid, input gradient": alter_dx(Sigmoid, lambda dx: (dx * TOO_LARGE).astype(dx.dtype)),
    "loss, NaN": alter_dx(SoftmaxCrossEntropy, lambda dx: dx * dx.dtype.type(np.nan)),
    "sigmoid, another shape": alter_dx(Sigmoid, lambda dx: dx[:1]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fault", WRONG_LAYERS)
def test_your_layer_is_named(fault, dtype):
    faulty = WRONG_LAYERS[fault]
    assert _blamed(_judge(dtype, _others(), {**LAYERS, faulty.name: faulty})) == {"numpy": {"your layer"}}
    assert _blamed(_judge(dtype, [BACKENDS["numpy"]], {**LAYERS, faulty.name: faulty})) == {"numpy": {"your layer"}}


@pytest.mark.parametrize("dtype", DTYPES)
def test_your_layer_is_named_for_an_error_that_only_a_higher_precision_shows(dtype):
    def lean(dx: Any) -> Any:
        return dx * dx.dtype.type(1 + 2.0**-10 if dtype in ("bfloat16", "float16") else 1 + 2.0**-18)

    faulty = {**LAYERS, "sigmoid": alter_dx(Sigmoid, lean)}
    rows = _judge(dtype, _others(), faulty)
    assert _blamed(rows) == {"numpy": {"your layer"}}
    assert any(row.lifted_error_in_bounds > 1e6 for row in rows if row.fails)


@pytest.mark.parametrize("dtype", DTYPES)
def test_your_wiring_is_named_beside_right_frameworks(dtype):
    wired = MutatedReference(wiring=find_wiring("residual added twice"))
    rows = _judge(dtype, [wired, *_others("numpy")])
    assert _blamed(rows) == {"numpy": {"your layer"}}
    assert [(row.node, row.quantity) for row in rows if row.fails and row.layer == "fan-out"] == [("sigmoid1", "dy")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("framework", "wrong"), [("torch", "affine"), ("torch", "sigmoid"), ("jax", "sigmoid")])
def test_a_framework_is_named_that_alone_gets_a_formula_wrong(framework, wrong, dtype):
    rows = _judge(dtype, [*_others(framework), Misled(framework, wrong)])
    assert _blamed(rows) == {framework: {framework}}
    both = [*_others(framework, f"{framework}:native"), Misled(framework, wrong), Misled(f"{framework}:native", wrong)]
    assert _blamed(_judge(dtype, both)) == {framework: {framework}, f"{framework}:native": {framework}}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_framework_is_named_whose_own_op_alone_is_wrong(framework, dtype):
    native = f"{framework}:native"
    assert _blamed(_judge(dtype, [*_others(native), Misled(native, "sigmoid")])) == {native: {framework}}
    few = [BACKENDS["numpy"], Misled(framework), Misled(native, "sigmoid")]
    assert _blamed(_judge(dtype, few)) == {native: {framework}}


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_wrong_witnesses_are_told_apart(dtype):
    faulty = {**LAYERS, "affine": WRONG_LAYERS["affine, weight gradient"]}
    rows = _judge(
        dtype, [*_others("torch", "torch:native"), Misled("torch", "sigmoid"), Misled("torch:native", "sigmoid")], faulty
    )
    assert _blamed(rows) == {"numpy": {"your layer"}, "torch": {"torch"}, "torch:native": {"torch"}}


class Leaning(Sigmoid):
    """Right by hand, but of another formula than it computes."""

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return Sigmoid.formula(xp, params, x) * (1 + 2.0**-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_formula_is_named_where_it_alone_is_wrong(dtype):
    layers = {**LAYERS, "sigmoid": Leaning}
    named = _blamed(_judge(dtype, [BACKENDS["numpy"], BACKENDS["torch"], BACKENDS["torch:native"]], layers))
    assert named["numpy"] == {"formula"}
    assert {who for names in named.values() for who in names} == {"formula"}
    assert "torch" not in named


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_without_worked_values_the_formula_is_named_by_a_frameworks_own_op(dtype):
    layers = {**LAYERS, "sigmoid": type("Sigmoid", (Leaning,), {"worked": ()})}
    named = _blamed(_judge(dtype, [BACKENDS["numpy"], BACKENDS["torch"], BACKENDS["torch:native"]], layers))
    assert named == {"numpy": {"formula"}, "torch:native": {"formula"}}


@pytest.mark.parametrize("dtype", DTYPES)
def test_nobody_is_named_where_another_subgradient_is_taken(dtype):
    class Halved(ReLU):
        """Whose own op in torch takes half a gate at 0, as torch.maximum does."""

        native = {"torch": lambda torch, params, x: torch.maximum(x, torch.zeros_like(x))}

    case = Case(ALONE, dtype, seed=1, hazards=("relu-zeros",))
    backends = [BACKENDS[name] for name in ("numpy", "torch", "torch:native")]
    rows = run_shard([case], backends, {**LAYERS, "relu": Halved}, {}).comparisons
    assert [row for row in rows if row.fails] == []
    assert {(row.backend, row.culprit) for row in rows if row.culprit} == {("torch:native", "nobody (convention)")}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_nobody_is_named_where_a_sum_runs_in_reduced_precision(dtype):
    class Crude(Affine):
        """Sums its bias gradient in the narrow dtype itself, as some frameworks do."""

        native = {"torch": lambda torch, params, x: x @ params["W"] + _crude_bias(torch, params["b"], len(x))}

    network = NetworkSpec({"x": 3}, (NodeSpec("affine1", "affine", ("x",), 3),), 512)
    backends = [BACKENDS[name] for name in ("numpy", "torch", "torch:native")]
    rows = run_shard([Case(network, dtype, seed=1)], backends, {**LAYERS, "affine": Crude}, {}).comparisons
    assert [row.message for row in rows if row.fails] == []
    found = {(row.backend, row.quantity, row.verdict) for row in rows if row.culprit == "nobody (arithmetic)"}
    assert found == {("torch:native", "db", "reduced-precision")}


def _crude_bias(torch: Any, bias: Any, rows: int) -> Any:
    """Return the bias for each row, whose gradients are added one to another and rounded each time."""
    parts = [bias]
    for _ in range(rows - 1):
        parts.append(parts[-1].view_as(bias))
    return torch.stack(parts)
