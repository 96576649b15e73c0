"""Installed frameworks come in; the atlas must visit every kink, say what they do there, and know wrong from right."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness import atlas
from harness.atlas import FRAMEWORKS, Convention, find_conventions, list_functions, to_frame, write_conventions
from harness.core import USUAL_DTYPES, BadInput
from harness.discovery import find_backends, find_layers
from harness.kinks import OPERATIONS, Function

HERE = tuple(name for name in FRAMEWORKS if name not in ("torch", "jax"))


@pytest.fixture(scope="module")
def found() -> tuple[Convention, ...]:
    """Return the whole atlas; frameworks that are not installed have rows that say so."""
    return find_conventions()


@pytest.fixture(scope="module")
def frame(found) -> pd.DataFrame:
    return to_frame(found)


def look(found, operation, place, function, dtype="float64"):
    """Return the one row of a function at a place."""
    (row,) = [
        row
        for row in found
        if (row.operation, row.place, row.function, row.dtype) == (operation, place, function, dtype)
    ]  # fmt: skip
    return row


def ran(found, framework):
    rows = [row for row in found if row.framework == framework and row.status == "ok"]
    return rows or pytest.skip(f"{framework} is not installed")


def test_every_kink_is_visited_by_every_framework_in_every_dtype(found):
    places = {(operation.name, place.name) for operation in OPERATIONS for place in operation.places}
    wanted = {(*place, framework, dtype) for place in places for framework in FRAMEWORKS for dtype in USUAL_DTYPES}
    assert {(row.operation, row.place, row.framework, row.dtype) for row in found} == wanted


def test_every_function_of_an_installed_framework_has_its_row(found):
    installed = {row.framework for row in found if row.status != "unavailable"}
    wanted = {
        (operation.name, place.name, function.name, dtype)
        for operation in OPERATIONS
        for function in list_functions(operation)
        for place in operation.places
        for dtype in USUAL_DTYPES
        if function.framework in installed
    }
    rows = [(row.operation, row.place, row.function, row.dtype) for row in found if row.function]
    assert set(rows) == wanted
    assert len(rows) == len(wanted)


def test_a_gradient_stands_just_where_something_ran(found):
    for row in found:
        if row.status == "ok":
            assert row.version
            assert row.function
        else:
            assert math.isnan(row.gradient)
            assert row.inside is None
            assert row.note


KNOWN = [
    ("relu", "x = 0", "torch.nn.functional.relu", 0.0),
    ("relu", "x = 0", "jax.nn.relu", 0.0),
    ("relu", "x = 0", "ReLU", 0.0),
    ("relu6", "x = 6", "torch.nn.functional.relu6", 0.0),
    ("maximum", "to a, where a = b", "torch.maximum", 0.5),
    ("maximum", "to a, where a = b", "jax.numpy.maximum", 0.5),
    ("maximum(x, 0)", "x = 0", "jax.numpy.maximum", 0.5),
    ("clamp", "x = the lower bound", "torch.clamp", 1.0),
    ("clamp", "x = the lower bound", "jax.numpy.clip", 0.5),
    ("abs", "x = 0", "torch.abs", 0.0),
    ("abs", "x = 0", "autograd.numpy.abs", 0.0),
    ("max-pool", "to the first of two equal entries", "torch.nn.functional.max_pool1d", 1.0),
    ("norm", "to the first entry of (0, 0)", "torch.linalg.vector_norm", 0.0),
]


@pytest.mark.parametrize("dtype", USUAL_DTYPES)
@pytest.mark.parametrize(("operation", "place", "function", "gradient"), KNOWN)
def test_the_conventions_that_are_known_are_found(found, operation, place, function, gradient, dtype):
    if function.startswith(("torch", "jax")):
        ran(found, function.partition(".")[0])
    row = look(found, operation, place, function, dtype)
    assert row.gradient == gradient
    assert row.inside is True


@pytest.mark.parametrize("framework", ["torch", "jax", "autograd"])
def test_the_branch_not_taken_makes_nan_of_a_gradient_that_exists(found, framework):
    ran(found, framework)
    module = {"jax": "jax.numpy", "autograd": "autograd.numpy"}.get(framework, framework)
    trap, cure = "where(x > 0, sqrt(x), 0)", "where(x > 0, sqrt(where(x > 0, x, 1)), 0)"
    caught = look(found, trap, "x = -1", f"{module}: {trap}")
    cured = look(found, cure, "x = -1", f"{module}: {cure}")
    assert (caught.low, caught.high) == (cured.low, cured.high) == (0.0, 0.0)
    assert math.isnan(caught.gradient)
    assert (caught.inside, cured.gradient, cured.inside) == (False, 0.0, True)


def test_along_a_direction_without_a_choice_every_framework_returns_the_one_gradient(found):
    rows = [row for row in found if row.low == row.high and "together" in row.place and row.status == "ok"]
    assert len({row.operation for row in rows}) == 6
    assert {row.gradient for row in rows} == {1.0}


def test_a_formula_that_swallows_nan_is_not_taken_for_the_layer(found):
    row = look(found, "relu", "x = nan", "ReLU")
    assert (row.status, row.inside) == ("ok", None)
    assert math.isnan(row.low)


def plant(monkeypatch, gradient, y=0.0):
    """Let the hand-written layer return this gradient, or this output, at every place."""
    monkeypatch.setitem(atlas.RUNS, "numpy", lambda function, dtype: lambda at: (y, [np.full(len(at), gradient)]))
    rows = find_conventions("numpy", ("float64",), [one for one in OPERATIONS if one.name == "relu"])
    return look(rows, "relu", "x = 0", "ReLU")


@pytest.mark.parametrize("gradient", [-0.01, 1.01, 2.0, math.nan, math.inf])
def test_a_planted_wrong_gradient_lies_outside(monkeypatch, gradient):
    assert plant(monkeypatch, gradient).inside is False


@pytest.mark.parametrize("gradient", [0.0, 0.3, 1.0])
def test_any_subgradient_lies_inside(monkeypatch, gradient):
    row = plant(monkeypatch, gradient)
    assert (row.inside, row.gradient) == (True, gradient)


def test_a_function_that_computes_something_else_is_told(monkeypatch):
    row = plant(monkeypatch, 0.0, y=7.0)
    assert row.status == "error"
    assert "returns 7 here instead of 0" in row.note


def test_a_function_that_raises_is_told_and_the_others_go_on():
    known = next(one for one in OPERATIONS if one.name == "abs")
    broken = Function("autograd.numpy", lambda xp, x: xp.no_such_function(x), "broken")
    rows = find_conventions("autograd", ("float64",), [replace(known, functions=(*known.functions, broken))])
    assert {row.status for row in rows if row.function == "broken"} == {"error"}
    assert all("no_such_function" in row.note for row in rows if row.function == "broken")
    assert {row.status for row in rows if row.function != "broken"} == {"ok"}


def test_a_framework_that_is_missing_is_loud(monkeypatch):
    backend = find_backends()["torch"]

    class Missing:
        def version(self):
            raise ImportError("No module named 'torch'")

    monkeypatch.setitem(find_backends(), "torch", Missing())
    rows = find_conventions("torch", ("float64",))
    assert find_backends()["torch"] is not backend
    assert len(rows) == sum(len(operation.places) for operation in OPERATIONS)
    assert {row.status for row in rows} == {"unavailable"}
    assert all("torch is not installed (No module named 'torch')" in row.note for row in rows)


@pytest.mark.parametrize(("names", "dtypes"), [("tensorflow", ("float64",)), ("numpy", ("int8",))])
def test_unknown_names_are_bad_input(names, dtypes):
    with pytest.raises(BadInput, match="accepted are"):
        find_conventions(names, dtypes)


def test_a_gradient_that_depends_on_the_dtype_or_on_jit_says_so(monkeypatch):
    def prepare(function, dtype):
        gradients = [np.array([0.25])] if dtype == "float32" else [np.array([0.0]), np.array([1.0])]
        return lambda at: (0.0, gradients)

    monkeypatch.setitem(atlas.RUNS, "numpy", prepare)
    rows = find_conventions("numpy", USUAL_DTYPES, [one for one in OPERATIONS if one.name == "relu"])
    assert look(rows, "relu", "x = 0", "ReLU", "float64").note == "without jit 1; in float32 0.25"
    assert look(rows, "relu", "x = 0", "ReLU", "float32").note == "in float64 0"


def test_agreement_counts_what_ran(found):
    row = replace(look(found, "relu", "x = 0", "ReLU"), gradient=0.0)
    other, absent = replace(row, framework="other", gradient=1.0), replace(row, framework="absent", status="unsupported")
    assert list(to_frame([row, replace(row, framework="twin"), absent])["agrees"]) == [True] * 3
    assert list(to_frame([row, other])["agrees"]) == [False] * 2
    assert list(to_frame([row, absent])["agrees"]) == [None] * 2
    nan = replace(row, gradient=math.nan)
    assert list(to_frame([nan, nan])["agrees"]) == [True] * 2


def test_the_file_reads_back_as_the_frame(found, frame, tmp_path):
    path = write_conventions(tmp_path, found)
    read = pd.read_csv(path, keep_default_na=False, na_values={"gradient": ["nan"], "low": ["nan"], "high": ["nan"]})
    assert path.name == "conventions.csv"
    assert list(read.columns) == list(frame.columns)
    np.testing.assert_array_equal(read[["gradient", "low", "high"]], frame[["gradient", "low", "high"]])
    assert list(read["operation"]) == list(frame["operation"])


def test_no_cell_of_the_file_is_a_formula(found, tmp_path):
    path = write_conventions(tmp_path, [replace(found[0], note='=HYPERLINK("x")', version="@1")])
    cells = pd.read_csv(path, dtype=str).iloc[0]
    assert (cells["note"], cells["version"]) == ('\'=HYPERLINK("x")', "'@1")


def test_it_takes_seconds_and_leaves_the_process_as_it_was():
    before = np.geterr(), list(warnings.filters)
    start = time.process_time()
    assert find_conventions(HERE)
    assert time.process_time() - start < 10
    assert (np.geterr(), list(warnings.filters)) == before


def test_jax_keeps_its_flags_and_torch_its_threads(found):
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    one = [operation for operation in OPERATIONS if operation.name == "abs"]
    before = jax.config.jax_enable_x64, jax.config.jax_disable_jit, torch.get_num_threads(), torch.is_grad_enabled()
    assert {row.status for row in find_conventions("jax,torch", operations=one)} == {"ok"}
    assert (jax.config.jax_enable_x64, jax.config.jax_disable_jit, torch.get_num_threads(), torch.is_grad_enabled()) == before


def test_a_layer_that_has_an_operations_name_is_visited():
    named = {operation.name for operation in OPERATIONS} & set(find_layers())
    assert "relu" in named
    for name in named:
        functions = list_functions(next(one for one in OPERATIONS if one.name == name))
        assert {function.framework for function in functions} == set(FRAMEWORKS)
