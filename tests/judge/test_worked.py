"""Layers with worked values come in, right and wrong ones; whether formula and passes meet them is told, and how far off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.core import DTYPES
from harness.discovery import find_layers
from harness.judge import worked as judging
from harness.judge.double_double import WIDE
from harness.judge.worked import judge_formula, judge_worked, lose_worked, meets_worked
from reference_layers import Affine, BackwardBound, LayerBase, Multiply, ReLU, Sigmoid
from reference_layers.layer import Worked

LAYERS = find_layers()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LAYERS.values(), ids=lambda kind: kind.name)
def test_every_layer_meets_its_own_in_every_dtype(kind, dtype):
    rows = judge_worked({kind.name: kind}, (dtype,))
    assert [row for row in rows if row.fails] == []
    assert {row.variant for row in rows} == {"layer", "formula"}
    assert {row.quantity for row in rows} >= {"y"}
    assert any(row.quantity.startswith("d") for row in rows)
    assert all(row.n_compared for row in rows)
    assert not any(row.decides for row in rows)
    assert all(row.error_in_bounds <= 1 for row in rows)


@pytest.mark.parametrize("kind", LAYERS.values(), ids=lambda kind: kind.name)
def test_what_was_worked_out_is_worth_something(kind):
    """Each example covers every gradient, and none of it is 0 throughout, which a layer that gives nothing would meet."""
    for worked in kind.worked:
        assert len(worked.inputs) == len(worked.dx) == len(kind.differentiable)
        assert [value is not None for value in worked.dx] == list(kind.differentiable)
        for value in (worked.y, *(value for value in worked.dx if value is not None), *worked.dparams.values()):
            assert np.any(np.asarray(value, float))
        assert worked.dparams.keys() == worked.params.keys()
        assert worked.source


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_error_of_a_hundred_roundings_is_far_off(dtype):
    class Off(Sigmoid):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            return dx * dx.dtype.type(1 + 100 * np.finfo(dtype).eps)

    failing = [row for row in judge_worked({"sigmoid": Off}, (dtype,)) if row.fails]
    assert {(row.variant, row.quantity, row.verdict) for row in failing} == {("layer", "dx", "mismatch")}
    assert {row.culprit for row in failing} == {"your layer"}
    assert failing[0].message.startswith("sigmoid.dx: the hand-written layer gives dx[0]")
    assert "by hand" in failing[0].message


def test_a_formula_that_is_off_is_not_the_layers_fault():
    class Off(ReLU):
        @staticmethod
        def formula(xp, params, x, decisions=None):
            return ReLU.formula(xp, params, x, decisions) * (1 + 2.0**-40)

    rows = judge_worked({"relu": Off}, ("float64",))
    assert {(row.variant, row.culprit) for row in rows if row.fails} == {("formula", "formula")}
    assert {row.quantity for row in judge_formula(Off, Off.worked[0], "bfloat16") if row.fails} == {"y", "dx"}
    assert meets_worked(Off) is False


def test_what_a_layer_raises_is_a_row():
    class Raises(Affine):
        def backward(self, dy, cache=None):
            raise ValueError("no such shape")

    row, *_ = [row for row in judge_worked({"affine": Raises}, ("float32",)) if row.fails]
    assert (row.verdict, row.culprit, row.quantity) == ("error", "your layer", "all")
    assert "ValueError: no such shape" in row.message


def test_a_gradient_that_does_not_come_back_is_missing():
    class Forgets(Affine):
        def backward(self, dy, cache=None):
            dx = super().backward(dy, cache)
            self.grads = {"W": self.grads["W"]}
            return dx

    failing = [row for row in judge_worked({"affine": Forgets}, ("float64",)) if row.fails]
    assert {(row.quantity, row.verdict) for row in failing} == {("db", "missing")}


def test_a_layer_without_any_has_nothing_to_meet():
    bare = type("Bare", (Sigmoid,), {"worked": ()})
    assert not any(row.n_compared or row.decides for row in judge_worked({"sigmoid": bare}))
    assert meets_worked(bare) is None


def test_a_layer_that_never_came_back_fails():
    row = lose_worked("sigmoid", "float64", "timeout", "no answer within 3 s")
    assert row.fails
    assert (row.layer, row.verdict, row.culprit) == ("sigmoid", "timeout", "your layer")


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_error_that_the_dtype_itself_would_hide_is_seen_in_the_formula(dtype):
    class Leans(Sigmoid):
        @staticmethod
        def formula(xp: Any, params: Any, x: Any) -> Any:
            return Sigmoid.formula(xp, params, x * (1 + 1e-12))

    rows = judge_worked({"sigmoid": Leans}, [dtype])
    assert {(row.variant, row.culprit) for row in rows if row.fails} == {("formula", "formula")}
    assert all(row.decides for row in rows if row.fails)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_hand_written_pass_is_the_layers_own(dtype):
    class Leans(Multiply):
        def backward(self, dy: Any, cache: Any = None) -> Any:
            da, db = super().backward(dy, cache)
            return da, (db * 1.02).astype(db.dtype)

    (red,) = [row for row in judge_worked({"multiply": Leans}, [dtype]) if row.fails]
    assert (red.variant, red.quantity, red.culprit, red.backend) == ("layer", "dx1", "your layer", "numpy")
    assert "worked out it is" in red.message
    assert Multiply.worked[0].source in red.message


class Cube(LayerBase):
    """x^3, of which a test may say what it likes."""

    name = "cube"

    def forward(self, x: Any) -> Any:
        self.cache = (x,)
        return x * x * x

    def backward(self, dy: Any, cache: Any = None) -> Any:
        return 3 * dy * self.cache[0] * self.cache[0]

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return x * x * x

    @staticmethod
    def forward_bound(r: Any, params: Any, x: Any) -> Any:
        return 8 * r.u * np.abs(x.value) ** 3

    @staticmethod
    def backward_bound(r: Any, params: Any, x: Any, dy: Any) -> Any:
        return BackwardBound((16 * r.u * np.abs(dy.value) * x.value**2,))


RIGHT = Worked(inputs=((2.0, -3.0),), dy=(1.0, 10.0), y=(8.0, -27.0), dx=((12.0, 270.0),), source="by hand: 3 x^2 dy")


def _cube(**changed: Any) -> Any:
    return type("Cube", (Cube,), {"worked": (RIGHT,), **changed})


def test_a_layer_from_outside_meets_its_values():
    assert meets_worked(_cube()) is True
    assert [row for row in judge_worked({"cube": _cube()}) if row.fails] == []


def test_a_layer_without_values_is_not_called_right():
    (row,) = judge_worked({"cube": _cube(worked=())}, ["float64"])
    assert (row.verdict, row.n_compared, row.decides) == ("powerless", 0, False)
    assert row.message.startswith("cube has no worked values and no framework an op of its own for it")
    assert row.message.endswith("a mistake that the formula and the hand-written layer share cannot be found")
    assert meets_worked(_cube(worked=())) is None


def test_a_layer_without_values_leaves_shared_mistakes_to_native_ops():
    native = _cube(worked=(), native={"torch": None, "jax": None})
    (row,) = judge_worked({"cube": native}, ["bfloat16"])
    assert (row.verdict, row.dtype) == ("powerless", "bfloat16")
    assert row.message.endswith("is left to the own ops of jax and torch to find")


@pytest.mark.parametrize("bound", ["forward_bound", "backward_bound"])
def test_a_bound_that_lets_anything_pass_vouches_for_nothing(bound):
    right = getattr(Cube, bound)

    def wide(r: Any, *given: Any) -> Any:
        return right(replace(r, u=1e-3), *given)

    loose = _cube(**{bound: staticmethod(wide)})
    red = [row for row in judge_worked({"cube": loose}, ["float64"]) if row.fails]
    assert {(row.variant, row.verdict) for row in red} == {("formula", "vacuous"), ("layer", "vacuous")}
    assert "is too wide for a number of" in red[0].message
    assert meets_worked(loose) is None


def _raise(*_: Any) -> Any:
    raise FloatingPointError("planted\nin two lines")


def _leave(*_: Any) -> Any:
    raise SystemExit(0)


@pytest.mark.parametrize(("fault", "said"), [(_raise, "FloatingPointError: planted in two lines"), (_leave, "SystemExit: 0")])
def test_what_formula_and_passes_raise_is_a_row(fault, said):
    rows = judge_worked({"cube": _cube(formula=staticmethod(fault))}, ["float32"])
    (red,) = [row for row in rows if row.fails]
    assert (red.variant, red.verdict, red.culprit) == ("formula", "error", "formula")
    assert said in red.message
    (red,) = [row for row in judge_worked({"cube": _cube(forward=fault)}, ["float32"]) if row.fails]
    assert (red.variant, red.verdict, red.culprit) == ("layer", "error", "your layer")


def test_a_gradient_without_a_worked_number_fails():
    (first, *rest) = Affine.worked

    class Half(Affine):
        worked = (replace(first, dparams={"W": first.dparams["W"]}), *rest)

    red = [row for row in judge_worked({"affine": Half}, ["float64"]) if row.fails]
    assert {(row.variant, row.quantity, row.verdict) for row in red} == {("formula", "db", "missing"), ("layer", "db", "missing")}
    assert meets_worked(Half) is False


def test_numbers_of_another_shape_fail():
    wrong = _cube(worked=(replace(RIGHT, y=8.0),))
    red = [row for row in judge_worked({"cube": wrong}, ["float16"]) if row.fails]
    assert {(row.variant, row.quantity, row.verdict) for row in red} == {("formula", "y", "shape"), ("layer", "y", "shape")}


@pytest.mark.parametrize("kind", LAYERS.values(), ids=LAYERS)
def test_an_oracle_in_double_double_meets_them_too(kind, monkeypatch):
    monkeypatch.setitem(judging.HIGHER, "float64", WIDE)
    assert meets_worked(kind) is True
    wrong = replace(kind.worked[0], y=(np.asarray(kind.worked[0].y) * (1 + 1e-13)).tolist())
    assert [row.quantity for row in judge_formula(kind, wrong, "float64") if row.fails] == ["y"]
