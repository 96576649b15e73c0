"""Specifications with a place come in; classes that networks take, and runs with them, go out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness import LayerSpec, check_layer
from harness.backends.numpy_reference import NumpyReference
from harness.cases import list_hazards, plan_cases
from harness.core import BadInput
from harness.discovery import find_layers
from harness.shards import run_shard
from tests.custom.layers import Bilinear, FailsOnEmpty, Linear, Lookup, Swish, linear, swish


def draw_linear(rng: np.random.Generator, n_in: int, n_out: int) -> dict[str, Any]:
    return {"W": rng.standard_normal((n_in, n_out)), "b": rng.standard_normal(n_out)}


class Distance:
    """Half the squared distance."""

    def forward(self, x: Any, t: Any) -> Any:
        self.apart = x - t
        return np.sum(self.apart * self.apart) / 2

    def backward(self, dy: Any) -> Any:
        return dy * self.apart, -dy * self.apart


MAP = LayerSpec(Swish, swish, [(4, 3)], name="my_map", place="map")
MERGE = LayerSpec(Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (4, 3)], name="my_merge", place="merge")
PROJECT = LayerSpec(Linear, linear, [(4, 3)], params=draw_linear, name="my_project", place="project")
LOSS = LayerSpec(Distance, lambda xp, params, x, t: xp.sum((x - t) ** 2) / 2, [(4, 3), (4, 3)], name="my_loss", place="loss")
LONE = LayerSpec(Lookup, lambda xp, params, t: params["W"][t], lambda rng: [rng.integers(0, 4, 7)], name="my_lone")


def run(
    *specs: LayerSpec, others: tuple[str, ...] = (), count: int = 24, dtypes: tuple[str, ...] = ("float64", "float32")
) -> Any:
    layers = {name: find_layers()[name] for name in others} | {spec.name: spec.as_layer() for spec in specs}
    hazards = list(list_hazards(layers))
    rows, graphs = [], []
    for cases in plan_cases(count, 3, layers, dtypes=dtypes, hazards=hazards, draws=2):
        rows += run_shard(cases, [NumpyReference()], layers, {}).comparisons
        graphs.append(cases[0].network)
    return rows, graphs


def test_layers_with_places_make_random_graphs() -> None:
    rows, graphs = run(MAP, MERGE, PROJECT, LOSS)
    assert {row.verdict for row in rows} <= {"ok", "powerless"}
    seen = {row.layer for row in rows if row.verdict == "ok"}
    assert {"my_map", "my_merge", "my_project", "my_loss"} <= seen
    assert max(len(graph.nodes) for graph in graphs) > 4


def test_a_lone_layer_is_judged_by_itself_beside_others() -> None:
    rows, graphs = run(LONE, others=("affine", "relu"), count=80)
    assert {row.verdict for row in rows} <= {"ok", "powerless", "convention"}
    lone = [graph for graph in graphs if any(node.layer == "my_lone" for node in graph.nodes)]
    assert lone
    assert all(len(graph.nodes) == 1 for graph in lone)
    assert sum(row.layer == "my_lone" and row.quantity == "dW" and row.verdict == "ok" for row in rows) >= 2


def test_a_wrong_one_is_found_at_its_node() -> None:
    class Wrong(Swish):
        def backward(self, dy: Any) -> Any:
            return 1.001 * super().backward(dy)

    rows, _ = run(LayerSpec(Wrong, swish, [(4, 3)], name="wrong", place="map"), others=("affine", "mean_squared_error"))
    wrong = [row for row in rows if row.verdict == "mismatch" and row.node.startswith("wrong")]
    assert wrong
    assert {row.culprit for row in wrong} == {"your layer"}


def test_what_a_placed_layer_raises_is_a_row() -> None:
    class Raises(Swish):
        def backward(self, dy: Any) -> Any:
            raise ValueError("planted")

    rows, _ = run(LayerSpec(Raises, swish, [(4, 3)], name="raises"), count=4)
    assert {row.verdict for row in rows} == {"error"}
    assert all("ValueError: planted (line" in row.message for row in rows)


def test_a_lone_layer_gets_an_empty_batch_only_where_its_formula_takes_one() -> None:
    def peak(xp: Any, params: Any, x: Any) -> Any:
        return x - xp.max(x)

    takes, refuses = (LayerSpec(FailsOnEmpty, formula, [(4, 3)], name="lone").as_layer() for formula in (swish, peak))
    assert takes.sample_inputs(np.random.default_rng(0), 0, 9)[0].shape == (0, 3)
    assert refuses.sample_inputs(np.random.default_rng(0), 0, 9)[0].shape == (1, 3)
    assert refuses.sample_inputs(np.random.default_rng(0), 5, 9)[0].shape == (5, 3)


def test_a_formula_that_fails_on_some_numbers_is_a_row_and_no_end() -> None:
    def fickle(xp: Any, params: Any, x: Any) -> Any:
        if x.shape[0] > 1:
            raise ValueError("planted")
        return swish(xp, params, x)

    rows, _ = run(LayerSpec(Swish, fickle, [(1, 3)], name="fickle"), count=4)
    failed = [row for row in rows if row.verdict == "error"]
    assert failed
    assert {(row.culprit, row.fails) for row in failed} == {("formula", True)}
    assert all("no problem could be drawn: ValueError: planted (line" in row.message for row in failed)


def test_what_draws_for_any_size_draws_for_a_layer_alone_too() -> None:
    def draw(rng: np.random.Generator, batch: int, width: int) -> list[Any]:
        return [rng.uniform(1, 2, (batch, width))]

    spec = LayerSpec(Linear, linear, draw, params=draw_linear, name="sized", place="project")
    (x,), params = spec.draw_inputs(np.random.default_rng(0)), spec.draw_params(np.random.default_rng(0))
    assert (x.shape, params["W"].shape) == ((6, 5), (5, 6))
    assert spec.as_layer().sample_inputs(np.random.default_rng(0), 3, 8)[0].shape == (3, 8)
    assert check_layer(spec, against=[], dtypes=["float64"], cases=1).passed


def test_defaults_of_a_function_that_draws_are_its_own() -> None:
    def draw(rng: np.random.Generator, rows: int = 2, columns: int = 3) -> list[Any]:
        return [rng.standard_normal((rows, columns))]

    assert LayerSpec(Swish, swish, draw).draw_inputs(np.random.default_rng(0))[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (LayerSpec(Swish, None, [(4, 3)]), "formula: None of Swish; a layer in networks has one"),
        (LayerSpec(Swish, swish, [(4, 3)], gradient=swish), "gradient: "),
        (LayerSpec(Swish, swish, [(4, 3)], place="merge"), "place: 'merge' of Swish with 1 inputs; accepted are 2 of them"),
        (LayerSpec(Linear, linear, [(4, 5)], place="project"), "params: those of Linear have sizes of their own"),
        (
            LayerSpec(Swish, lambda xp, params, x: xp.sum(x), [(4, 3)], place="map"),
            r"formula makes \[\] of \[\[3, 4\]\]; accepted is",
        ),
    ],
)
def test_what_does_not_fit_its_place_is_told(spec: LayerSpec, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        spec.as_layer()


def test_a_projection_whose_params_are_square_is_a_map() -> None:
    assert LayerSpec(Linear, linear, [(4, 5)], params=draw_linear, place="map").as_layer().place == "map"


def test_a_place_is_one_of_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"place: 'first'; accepted are map, merge, project, loss, alone"):
        LayerSpec(Swish, swish, [(4, 3)], place="first")  # type: ignore[arg-type]  # reason: that is what is tested


def test_a_layer_that_cannot_be_made_is_told() -> None:
    def make() -> Any:
        raise OSError("no such file")

    with pytest.raises(BadInput, match=r"layer: layer cannot be placed: OSError: no such file \(line"):
        LayerSpec(make, swish, [(4, 3)], params={"W": np.ones(3)}, name="layer").as_layer()


def test_discovery_asks_whatever_can_make_a_layer_of_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from harness import discovery

    many = [MAP, SimpleNamespace(name="plain")]
    point = SimpleNamespace(name="mine", value="mine:many", load=lambda: many)
    monkeypatch.setattr(discovery, "entry_points", lambda group: [point])
    find_layers.cache_clear()
    try:
        found = find_layers()
        assert found["my_map"].place == "map"
        assert found["plain"] is many[1]
        many[0] = LayerSpec(Swish, None, [(4, 3)])
        find_layers.cache_clear()
        with pytest.raises(BadInput, match=r"entry point mine = 'mine:many' of harness.layers: formula: None"):
            find_layers()
    finally:
        find_layers.cache_clear()
