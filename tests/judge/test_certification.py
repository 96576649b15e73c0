"""Small cases of every layer come in; each oracle's distance from an enclosure of the truth goes out, within what it declares.

The enclosures are balls (python-flint) around output and gradients derived by hand: no formula, no differentiation
and no rounding of the oracle's has a part in them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.core import Arithmetic
from harness.discovery import find_layers
from harness.judge.double_double import WIDE, widen
from harness.judge.local import name_node
from harness.judge.oracle import find_truth
from harness.judge.precision import Precision, choose_oracle, find_share, raise_to
from harness.judge.propagate import exact, flat
from harness.judge.rounding import make_rounding, oracle_share
from harness.judge.wide_formula import find_wide_truth
from tests.judge.balls import DERIVATIONS, to_balls, wide_balls

LONG = np.dtype(np.longdouble)
has_longdouble = pytest.mark.skipif(np.finfo(LONG).eps >= 1e-18, reason="longdouble is no finer than double-double's half here")
ORACLES = [
    pytest.param("float32", np.dtype(np.float64), id="float64 for float32"),
    pytest.param("float64", LONG, id="longdouble for float64", marks=has_longdouble),
    pytest.param("float64", WIDE, id="double-double for float64"),
]
HAZARDS = [(name, hazard.name) for name, kind in find_layers().items() for hazard in kind.hazards]
LABELS = {"softmax_cross_entropy": ("integer", "one_hot", "soft")}
LAYERS = [(name, labels) for name in find_layers() for labels in LABELS.get(name, ("integer",))]
SETTINGS = [
    {"seed": 1}, {"seed": 2, "batch": 1, "width": 1}, {"seed": 3, "batch": 5, "width": 7, "scale": 30.0},
    {"seed": 4, "batch": 2, "width": 9, "scale": 1e-4},
]  # fmt: skip


def _ask(kind: Any, problem: Any, precision: Precision) -> dict[str, Any]:
    """Return what the oracle of this precision gives for the lone node, by quantity."""
    given = _receive(problem)
    decisions = given.inputs[0] > 0 if hasattr(kind, "decisions") else None
    if precision is WIDE:
        y, dx, dparams = find_wide_truth(kind, given.params, given.inputs, problem.dy, decisions)
        return _name(problem, SimpleNamespace(y=y, dx=dx, dparams=dparams))
    return _name(problem, find_truth(kind, given.params, given.inputs, problem.dy, precision, decisions))


def _receive(problem: Any) -> Any:
    node = problem.case.network.nodes[0]
    return SimpleNamespace(params=problem.params["node"], inputs=tuple(problem.inputs[name] for name in node.inputs))


def _name(problem: Any, node: Any) -> dict[str, Any]:
    inputs = problem.case.network.nodes[0].inputs
    return name_node(node, frozenset(i for i, name in enumerate(inputs) if name in problem.constants))


def _declare(kind: Any, problem: Any, precision: Precision) -> dict[str, np.ndarray]:
    """Return the error that the oracle declares: its share of the layer's bound for a differentiated formula."""
    given, rounding = _receive(problem), make_rounding(problem.case.dtype, Arithmetic(), "formula")
    pairs, params = [exact(value) for value in given.inputs], flat(given.params)
    extra = (given.inputs[0] > 0,) if hasattr(kind, "decisions") else ()
    y = kind.forward_bound(rounding, params, *pairs, *extra)
    back = kind.backward_bound(rounding, params, *pairs, exact(problem.dy), *extra)
    share = find_share(float(np.finfo(problem.case.dtype).eps), precision)
    bounds = _name(problem, SimpleNamespace(y=y, dx=back.dx, dparams=back.dparams))
    return {quantity: share * np.asarray(bound, np.float64) for quantity, bound in bounds.items()}


def _enclose(name: str, problem: Any) -> dict[str, np.ndarray]:
    given = _receive(problem)
    params = {key: to_balls(value) for key, value in given.params.items()}
    found = DERIVATIONS[name](params, *map(to_balls, given.inputs), to_balls(problem.dy))
    return {quantity: np.asarray(value, object) for quantity, value in found.items()}


def _find_uncertified(values: Any, enclosures: Any, declared: Any) -> list[str]:
    """Return what keeps each quantity from being certified: its distance, or a ball too wide to tell."""
    faults = []
    for quantity, value in values.items():
        balls = enclosures[quantity]
        assert value.shape == balls.shape == declared[quantity].shape
        for got, ball, limit in zip(*(np.ravel(a) for a in (to_balls(value), balls, to_balls(declared[quantity]))), strict=True):
            if not ball.rad() * 100 <= limit:
                faults.append(f"{quantity}: the enclosure is too wide")
            elif not abs(got - ball) <= limit:
                faults.append(f"{quantity}: too far")
    return faults


@pytest.fixture(params=SETTINGS, ids=lambda settings: "-".join(f"{key}{value:g}" for key, value in settings.items()))
def settings(request):
    return request.param


@pytest.mark.parametrize(("dtype", "precision"), ORACLES)
@pytest.mark.parametrize(("name", "labels"), LAYERS, ids=lambda value: value)
def test_the_oracle_is_within_what_it_declares_of_an_enclosure(name, labels, dtype, precision, settings, layers, make_lone):
    problem, kind = make_lone(name, dtype, labels=labels, **settings), layers[name]
    values, declared = _ask(kind, problem, precision), _declare(kind, problem, precision)
    with wide_balls():
        enclosures = _enclose(name, problem)
        assert set(values) == set(enclosures) == set(declared)
        assert _find_uncertified(values, enclosures, declared) == []


@pytest.mark.parametrize(("dtype", "precision"), ORACLES)
@pytest.mark.parametrize(("name", "hazard"), HAZARDS, ids=lambda value: value)
def test_the_oracle_is_within_what_it_declares_where_implementations_break(name, hazard, dtype, precision, layers, make_lone):
    problem, kind = make_lone(name, dtype, batch=4, width=6, hazards=(hazard,)), layers[name]
    values, declared = _ask(kind, problem, precision), _declare(kind, problem, precision)
    with wide_balls(2000):  # a saturated sigmoid's derivative is below 2^-1000, and its enclosure must not be wider
        assert _find_uncertified(values, _enclose(name, problem), declared) == []


@pytest.mark.parametrize(("dtype", "precision"), ORACLES)
@pytest.mark.parametrize(("name", "labels"), LAYERS, ids=lambda value: value)
def test_an_oracle_that_is_off_by_four_times_what_it_declares_is_found(name, labels, dtype, precision, layers, make_lone):
    problem, kind = make_lone(name, dtype, labels=labels), layers[name]
    values, declared = _ask(kind, problem, precision), _declare(kind, problem, precision)
    with wide_balls():
        enclosures = _enclose(name, problem)
        for quantity, value in values.items():
            off = value + raise_to(4 * declared[quantity], precision)
            faults = _find_uncertified({**values, quantity: off}, enclosures, declared)
            assert (f"{quantity}: too far" in faults) == bool(declared[quantity].any())


def test_an_oracle_in_the_precision_under_test_is_found(layers, make_lone):
    problem = make_lone("sigmoid", "float64")
    values, declared = _ask(layers["sigmoid"], problem, np.dtype(np.float64)), _declare(layers["sigmoid"], problem, WIDE)
    with wide_balls():
        assert "dx: too far" in _find_uncertified(values, _enclose("sigmoid", problem), declared)


def test_an_enclosure_too_wide_certifies_nothing(layers, make_lone):
    problem = make_lone("sigmoid", "float64")
    values, declared = _ask(layers["sigmoid"], problem, WIDE), _declare(layers["sigmoid"], problem, WIDE)
    with wide_balls(90):
        assert "dx: the enclosure is too wide" in _find_uncertified(values, _enclose("sigmoid", problem), declared)


def test_a_wrong_derivation_certifies_nothing(layers, make_lone):
    problem = make_lone("sigmoid", "float64")
    values, declared = _ask(layers["sigmoid"], problem, WIDE), _declare(layers["sigmoid"], problem, WIDE)
    with wide_balls():
        enclosures = _enclose("sigmoid", problem)
        wrong = {**enclosures, "dx": enclosures["dx"] + enclosures["dx"] * 2.0**-60}
        assert _find_uncertified(values, wrong, declared) == ["dx: too far"] * values["dx"].size


@has_longdouble
def test_the_share_is_the_one_that_the_judge_uses():
    for dtype in ("float32", "float64"):
        assert find_share(float(np.finfo(dtype).eps), choose_oracle(dtype)) == oracle_share(dtype)


def test_every_layer_has_a_derivation():
    assert set(DERIVATIONS) == set(find_layers())


def test_the_precision_of_balls_is_put_back():
    import flint

    before = flint.ctx.prec
    with wide_balls(before + 7):
        assert flint.ctx.prec == before + 7
    with pytest.raises(ZeroDivisionError), wide_balls(before + 7):
        1 / 0  # noqa: B018  # reason: what is left with an exception is put back, too
    assert flint.ctx.prec == before
    assert to_balls(widen(1.5)) == 1.5
