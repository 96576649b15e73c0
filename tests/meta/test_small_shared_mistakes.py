"""Small mistakes that formula, passes and bounds share come in; own ops or worked values must find each, and name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.core import DTYPES, USUAL_DTYPES, Case, Comparison, NetworkSpec, NodeSpec
from harness.discovery import find_backends, find_layers
from harness.judge.worked import judge_worked, meets_worked
from harness.shards import run_shard
from harness.table import load_run
from tests.meta.shared_mistakes import SHARED, SQUARE

LAYERS, BACKENDS = find_layers(), find_backends()
SHARING = ("numpy", "torch", "autograd")
pytest.importorskip("torch")


def _lone(kind: Any, dtype: str) -> Case:
    """Return the case of the layer alone, with square weights where it has weights."""
    names = ("x", "t") if kind.place == "loss" else ("x", "z")[: len(kind.differentiable)]
    node = NodeSpec(f"{kind.name}1", kind.name, names, 0 if kind.place == "loss" else 4)
    return Case(NetworkSpec(dict.fromkeys(names, 4), (node,), 3), dtype, seed=3)


def _run(kind: Any, dtype: str, backends: Sequence[str]) -> list[Comparison]:
    chosen = [BACKENDS[name] for name in backends]
    return run_shard([_lone(kind, dtype)], chosen, {**LAYERS, kind.name: kind}, BACKENDS).comparisons


def _without(kind: Any, **members: Any) -> Any:
    return type(kind.__name__, (kind,), members)


def test_mistakes_are_planted_in_every_layer():
    names = [kind.name for kind in SHARED.values()]
    assert {name: names.count(name) >= 2 for name in LAYERS} == dict.fromkeys(LAYERS, True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", SHARED)
def test_what_shares_the_mistake_cannot_see_it(mistake, dtype):
    rows = _run(SHARED[mistake], dtype, SHARING)
    assert {row.backend for row in rows} == set(SHARING)
    assert [row.message for row in rows if row.fails] == []


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", SHARED)
def test_worked_values_find_it_in_every_dtype(mistake, dtype):
    kind = SHARED[mistake]
    red = [row for row in judge_worked({kind.name: kind}, [dtype]) if row.fails]
    formula = [row for row in red if row.variant == "formula"]
    assert {(row.culprit, row.verdict, row.layer) for row in formula} == {("formula", "mismatch", kind.name)}
    assert all("the formula gives" in row.message for row in formula)
    assert meets_worked(kind) is False


def test_the_square_example_is_right():
    right = _without(LAYERS["affine"], worked=(SQUARE,))
    assert meets_worked(right) is True
    assert not any(row.fails for row in judge_worked({"affine": right}))


@pytest.mark.parametrize("dtype", USUAL_DTYPES)
@pytest.mark.parametrize("mistake", SHARED)
def test_the_own_op_of_one_framework_finds_it_and_worked_values_settle_who_is_wrong(mistake, dtype):
    red = [row for row in _run(SHARED[mistake], dtype, (*SHARING, "torch:native")) if row.fails]
    assert {(row.backend, row.culprit) for row in red} == {("torch:native", "formula")}
    assert all(
        "numpy and torch agree with the truth" in row.message or "autograd, numpy and torch agree" in row.message for row in red
    )
    assert all(row.message.endswith("the formula does not meet its worked values") for row in red)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_own_ops_find_what_is_larger_than_their_narrow_rounding_and_never_blame_another(dtype):
    red = {name: [row for row in _run(kind, dtype, ("numpy", "torch:native")) if row.fails] for name, kind in SHARED.items()}
    found = {name for name, rows in red.items() if rows}
    gross = {"affine without its bias", "addition that subtracts", "product with a square", "sigmoid from -1 to 1"}
    assert gross < found
    assert {(row.backend, row.culprit) for rows in red.values() for row in rows} == {("torch:native", "formula")}


@pytest.mark.parametrize("mistake", SHARED)
def test_the_own_ops_of_two_frameworks_settle_it_without_worked_values(mistake):
    pytest.importorskip("jax")
    kind = _without(SHARED[mistake], worked=())
    red = [row for row in _run(kind, "float32", ("numpy", "torch", "jax", "torch:native", "jax:native")) if row.fails]
    native = {f"{framework}:native" for framework in kind.native}
    settled = "formula" if len(native) > 1 else "unknown"
    assert {(row.backend, row.culprit) for row in red} == {(name, settled) for name in native}


@pytest.mark.parametrize("mistake", SHARED)
def test_without_worked_values_one_own_op_is_not_enough_to_tell_who_is_wrong(mistake):
    kind = _without(SHARED[mistake], worked=())
    red = [row for row in _run(kind, "float32", ("numpy", "torch", "torch:native")) if row.fails]
    assert {(row.backend, row.culprit) for row in red} == {("torch:native", "unknown")}
    assert all("nothing tells whether the formula or who differs from it is wrong" in row.message for row in red)


@pytest.mark.parametrize("mistake", SHARED)
def test_with_neither_own_op_nor_worked_values_it_is_said_that_nothing_can_find_it(mistake):
    kind = _without(SHARED[mistake], worked=(), native={})
    assert [row for row in _run(kind, "float64", ("numpy", "torch", "torch:native")) if row.fails] == []
    (row,) = judge_worked({kind.name: kind}, ["float64"])
    assert (row.verdict, row.n_compared) == ("powerless", 0)
    assert row.message.endswith("a mistake that the formula and the hand-written layer share cannot be found")


@pytest.mark.parametrize("share", ["sigmoid with a wrong constant", "cross-entropy with smoothed labels"])
def test_a_run_of_the_layers_alone_is_red_and_names_the_formula(share, monkeypatch, call_run):
    kind = SHARED[share]
    monkeypatch.setitem(find_layers(), kind.name, kind)  # as it is now: other tests have discovery look anew
    code, info = call_run("--cases", "8", "--draws", "2", "--seed", "3", "--backends", "numpy", "--layers", kind.name)
    assert (code, info["status"]) == (1, "mismatch")
    assert {(row["check"], row["layer"]) for row in info["failures"]} == {("worked", kind.name)}
    assert "formula" in {row["culprit"] for row in info["failures"]}


def test_a_run_tells_which_layers_nothing_vouches_for(monkeypatch, call_run, tmp_path):
    kind = _without(SHARED["sigmoid with a wrong constant"], worked=(), native={})
    monkeypatch.setitem(find_layers(), kind.name, kind)  # as it is now: other tests have discovery look anew
    code, info = call_run("--cases", "8", "--draws", "2", "--seed", "3", "--backends", "numpy", "--layers", kind.name)
    assert (code, info["worked_values_met"]) == (0, 0)
    told = [row for row in load_run(tmp_path / "run").comparisons.itertuples() if row.check == "worked"]
    assert {(row.layer, row.verdict, row.dtype) for row in told} == {
        ("sigmoid", "powerless", dtype) for dtype in info["settings"]["dtypes"]
    }
    assert all("cannot be found" in row.message for row in told)
