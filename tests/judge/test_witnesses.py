"""Rows of one case, from witnesses that part from the truth or do not, come in; each failing row must name who is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core import Comparison, Verdict
from harness.discovery import find_layers
from harness.judge.culprit import ARITHMETIC, CONVENTION, FORMULA, JUDGE, UNKNOWN, YOURS, name_culprits
from reference_layers import Sigmoid


class Wrong(Sigmoid):
    """A sigmoid whose formula does not meet its worked values."""

    @staticmethod
    def formula(xp: Any, params: Any, x: Any) -> Any:
        return Sigmoid.formula(xp, params, 1.001 * x)


class Unpinned(Sigmoid):
    """A sigmoid that nobody worked out values for."""

    worked = ()


class OwnAlone(Unpinned):
    """A layer that no framework has an op of its own for."""

    native = {}


RIGHT, WRONG, UNPINNED, OWN_ALONE = ({"sigmoid": kind} for kind in (Sigmoid, Wrong, Unpinned, OwnAlone))
WITNESSES = ("numpy", "torch", "jax", "torch:native", "jax:native")
FRAMEWORKS = ("torch", "jax")
NATIVE = ("torch:native", "jax:native")


def _row(backend: str, verdict: Verdict = "ok", **changed: Any) -> Comparison:
    """Return the row of a sigmoid's gradient; one that differs from the truth is 1e-3 from it, one that agrees shows 1e-9."""
    variant = "layer" if backend == "numpy" else "native" if ":" in backend else "formula"
    error, away = (1e6, 1e-3) if verdict == "mismatch" else (0.25, 1e-16)
    usual = Comparison(
        case="c", network="n", hazards="", backend=backend, variant=variant, dtype="float64", node="sigmoid1", layer="sigmoid",
        quantity="dx", check="local+network", verdict=verdict, decides=True, error_in_bounds=error, local_error_in_bounds=error,
        network_error_in_bounds=error, relative_to_norm=away, power=1e-9,
        n_compared=0 if verdict in ("error", "crash", "timeout", "missing", "vacuous") else 6,
    )  # fmt: skip
    return replace(usual, **changed)


def _rows(differ: Any, among: Any = WITNESSES, **changed: Any) -> list[Comparison]:
    return [_row(name, "mismatch" if name in differ else "ok", **changed) for name in among]


def _blamed(rows: list[Comparison], layers: Mapping[str, Any]) -> dict[str, str]:
    """Return who is named, by the backend of the row."""
    return {row.backend: row.culprit for row in name_culprits(rows, layers) if row.culprit}


def test_nobody_is_named_where_nothing_is_wrong():
    rows = [*_rows(()), _row("numpy", "powerless"), _row("torch", "unsupported")]
    assert name_culprits(rows, RIGHT) == rows


@pytest.mark.parametrize("layers", [RIGHT, UNPINNED, OWN_ALONE], ids=["worked", "unworked", "no native op"])
@pytest.mark.parametrize("among", [WITNESSES, ("numpy", "torch", "torch:native"), ("numpy", "jax"), ("numpy",)], ids="+".join)
def test_your_layer_is_wrong_where_it_alone_parts_from_the_truth(layers, among):
    assert _blamed(_rows({"numpy"}, among), layers) == {"numpy": YOURS}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("layers", [RIGHT, UNPINNED, OWN_ALONE], ids=["worked", "unworked", "no native op"])
def test_a_framework_is_wrong_where_it_gives_another_gradient_of_the_same_formula(framework, layers):
    assert _blamed(_rows({framework}), layers) == {framework: framework}
    both = {framework, f"{framework}:native"}
    assert _blamed(_rows(both), layers) == dict.fromkeys(both, framework)
    assert _blamed(_rows({*both, "numpy"}), layers) == {**dict.fromkeys(both, framework), "numpy": YOURS}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("layers", [RIGHT, UNPINNED], ids=["worked", "unworked"])
def test_a_frameworks_own_op_is_wrong_where_another_frameworks_is_right(framework, layers):
    assert _blamed(_rows({f"{framework}:native"}), layers) == {f"{framework}:native": framework}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_frameworks_own_op_is_wrong_where_the_formula_meets_its_worked_values(framework):
    rows = _rows({f"{framework}:native"}, ("numpy", framework, f"{framework}:native"))
    assert _blamed(rows, RIGHT) == {f"{framework}:native": framework}


@pytest.mark.parametrize("layers", [RIGHT, UNPINNED, WRONG], ids=["worked", "unworked", "unmet"])
@pytest.mark.parametrize("by_hand", [(), ("numpy",)], ids=["layer shares it", "layer does not"])
def test_the_formula_is_wrong_where_the_own_ops_of_two_frameworks_part_from_it(layers, by_hand):
    differ = {*NATIVE, *by_hand}
    assert _blamed(_rows(differ), layers) == dict.fromkeys(differ, FORMULA)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_formula_is_wrong_where_one_own_op_and_the_layer_part_from_it(framework):
    differ = {f"{framework}:native", "numpy"}
    rows = _rows(differ, ("numpy", framework, f"{framework}:native"))
    assert _blamed(rows, UNPINNED) == dict.fromkeys(differ, FORMULA)


@pytest.mark.parametrize(
    ("differ", "among"),
    [
        ({"torch:native"}, ("numpy", "torch", "torch:native")),
        ({"numpy"}, ("numpy", "torch", "jax")),
        ({"numpy"}, ("numpy",)),
        ({"numpy", "torch"}, ("numpy", "torch")),
    ],
)
def test_the_formula_is_wrong_where_it_does_not_meet_its_worked_values(differ, among):
    named = name_culprits(_rows(differ, among), WRONG)
    assert {row.backend: row.culprit for row in named if row.culprit} == dict.fromkeys(differ, FORMULA)
    assert all(row.message.endswith("the formula does not meet its worked values") for row in named if row.fails)


def test_a_wrong_formula_does_not_excuse_a_layer_that_own_ops_show_wrong_where_the_formula_is_right():
    assert _blamed(_rows({"numpy"}), WRONG) == {"numpy": YOURS}


def test_own_ops_that_could_not_have_shown_the_error_vouch_for_nothing():
    rows = [_row(name, power=5e-3) if name in NATIVE else row for name, row in zip(WITNESSES, _rows({"numpy"}), strict=True)]
    assert _blamed(rows, WRONG) == {"numpy": FORMULA}
    assert _blamed(rows, RIGHT) == {"numpy": YOURS}


def test_the_formula_is_wrong_where_nobody_meets_the_truth_it_gives():
    assert _blamed(_rows(WITNESSES), UNPINNED) == dict.fromkeys(WITNESSES, FORMULA)
    assert _blamed(_rows({"torch", "jax"}, ("torch", "jax")), UNPINNED) == {"torch": FORMULA, "jax": FORMULA}


def test_the_formula_is_unstable_where_every_framework_parts_from_it_and_the_layer_does_not():
    rows = _rows(FRAMEWORKS, ("numpy", *FRAMEWORKS))
    assert _blamed(rows, OWN_ALONE) == dict.fromkeys(FRAMEWORKS, FORMULA)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_tells_who_is_wrong_where_one_own_op_stands_against_the_rest(framework):
    rows = _rows({f"{framework}:native"}, ("numpy", framework, f"{framework}:native"))
    (red,) = [row for row in name_culprits(rows, UNPINNED) if row.fails]
    assert red.culprit == UNKNOWN
    assert red.message.endswith("nothing tells whether the formula or who differs from it is wrong")


def test_nothing_tells_who_is_wrong_where_the_only_two_witnesses_both_part_from_an_unworked_formula():
    assert _blamed(_rows({"numpy", "torch"}, ("numpy", "torch")), OWN_ALONE) == {"numpy": UNKNOWN, "torch": UNKNOWN}
    assert _blamed(_rows({"numpy", "torch"}, ("numpy", "torch")), RIGHT) == {"numpy": YOURS, "torch": "torch"}


def test_nothing_tells_who_is_wrong_where_all_is_mixed():
    assert _blamed(_rows({"torch", *NATIVE}), RIGHT) == dict.fromkeys(("torch", *NATIVE), UNKNOWN)


@pytest.mark.parametrize(
    ("verdict", "who"), [("convention", CONVENTION), ("reduced-precision", ARITHMETIC), ("constant", ARITHMETIC)]
)
def test_nobody_is_wrong_where_there_is_only_a_finding(verdict, who):
    rows = [*_rows({"numpy"}, ("numpy",)), _row("jax", verdict)]
    assert _blamed(rows, RIGHT) == {"numpy": YOURS, "jax": who}


def test_a_formula_that_cannot_be_evaluated_is_wrong():
    assert _blamed([_row("torch", "oracle-nonfinite")], RIGHT) == {"torch": FORMULA}
    assert _blamed([_row("numpy", "error", message="the formula cannot serve as truth: planted")], RIGHT) == {"numpy": FORMULA}


def test_who_raises_is_wrong_unless_every_framework_does_with_the_formula():
    alone = [_row("numpy"), _row("torch", "error"), _row("jax")]
    assert _blamed(alone, RIGHT) == {"torch": "torch"}
    every = [_row("numpy"), _row("torch", "error"), _row("jax", "error")]
    assert _blamed(every, RIGHT) == {"torch": FORMULA, "jax": FORMULA}
    everybody = [_row(name, "error") for name in ("numpy", "torch", "jax")]
    assert _blamed(everybody, RIGHT) == {"numpy": YOURS, "torch": "torch", "jax": "jax"}


@pytest.mark.parametrize("verdict", ["error", "crash", "timeout", "contract"])
def test_what_a_backend_does_to_itself_is_its_own(verdict):
    assert _blamed([_row("numpy", verdict), _row("torch")], RIGHT) == {"numpy": YOURS}
    assert _blamed([_row("numpy"), _row("jax:native", verdict)], RIGHT) == {"jax:native": "jax"}


def test_what_nobody_can_be_judged_on_is_nobodys_alone():
    told = {"message": "it cannot be judged: ValueError: planted"}
    assert _blamed([_row("numpy", "error", **told), _row("torch", "error", **told)], RIGHT) == {
        "numpy": UNKNOWN,
        "torch": UNKNOWN,
    }
    assert _blamed([_row("numpy", "error", **told), _row("torch")], RIGHT) == {"numpy": YOURS}
    assert _blamed([_row("numpy", "error", **told)], RIGHT) == {"numpy": YOURS}


def test_what_the_judge_passed_over_is_the_judges():
    assert _blamed([_row("numpy", "missing", check="none"), _row("torch")], RIGHT) == {"numpy": JUDGE}


def test_where_nothing_was_compared_nobody_is_known_to_be_wrong():
    assert _blamed([_row("numpy", "vacuous"), _row("torch")], RIGHT) == {"numpy": UNKNOWN}


@pytest.mark.parametrize("verdict", ["nonfinite", "shape", "dtype", "missing"])
def test_what_is_not_even_a_number_parts_from_the_truth_like_a_wrong_one(verdict):
    nothing = {"relative_to_norm": float("nan"), "local_error_in_bounds": float("nan")}
    rows = [_row("numpy", verdict, **nothing), *_rows((), WITNESSES[1:])]
    assert _blamed(rows, WRONG) == {"numpy": YOURS}


def test_a_witness_that_decides_nothing_is_no_evidence():
    rows = [*_rows({"numpy"}, ("numpy", "torch")), _row("jax", "mismatch", decides=False), _row("jax:native", decides=False)]
    assert _blamed(rows, WRONG) == dict.fromkeys(("numpy", "jax"), FORMULA)


def test_an_own_op_counts_for_the_layer_in_doubt_alone():
    class Lacks(Unpinned):
        native = {"torch": Sigmoid.native["torch"]}

    assert _blamed(_rows(NATIVE), {"sigmoid": Lacks}) == {"torch:native": UNKNOWN, "jax:native": UNKNOWN}


def test_the_layer_in_doubt_is_where_a_local_check_failed():
    behind = {"node": "relu1", "layer": "relu", "quantity": "dx"}
    rows = [*_rows({"numpy"}, ("numpy", "torch")), *_rows({"numpy"}, ("numpy", "torch"), **behind, local_error_in_bounds=0.0)]
    layers = {**find_layers(), "sigmoid": Wrong}
    assert _blamed(rows, layers) == {"numpy": FORMULA}
    swapped = [*_rows({"numpy"}, ("numpy", "torch"), **behind), *_rows({"numpy"}, ("numpy", "torch"), local_error_in_bounds=0.0)]
    assert _blamed(swapped, layers) == {"numpy": YOURS}


def test_the_layer_in_doubt_is_where_the_lifted_check_failed():
    lifted = {"local_error_in_bounds": 0.1, "network_error_in_bounds": 0.1, "lifted_error_in_bounds": 1e9}
    layers = {**find_layers(), "sigmoid": Unpinned}
    other = _row("numpy", "ok", node="relu1", layer="relu")
    fooled = [_row("numpy", "mismatch", **lifted), other, _row("torch"), _row("torch:native", "mismatch", **lifted)]
    assert _blamed(fooled, layers) == {"numpy": FORMULA, "torch:native": FORMULA}
    met = name_culprits([_row("numpy", "mismatch", **lifted), other], {**layers, "relu": Wrong})
    assert met[0].culprit == YOURS


def test_a_fault_of_the_layer_elsewhere_stays_its_own_beside_a_wrong_formula():
    elsewhere = {"node": "affine1", "layer": "affine", "quantity": "dW"}
    rows = [*_rows(NATIVE), *_rows({"numpy"}, **elsewhere)]
    named = _blamed(rows, {**find_layers(), "sigmoid": Wrong})
    assert named == {"numpy": YOURS, "torch:native": FORMULA, "jax:native": FORMULA}


def test_a_sum_that_a_backend_gets_wrong_is_its_own_whatever_the_formula():
    summed = {"node": "x", "layer": "fan-out", "quantity": "dy", "check": "local"}
    rows = [*_rows(NATIVE), _row("numpy", "mismatch", **summed), _row("torch", "mismatch", **summed)]
    assert {(row.backend, row.layer): row.culprit for row in name_culprits(rows, WRONG) if row.culprit} == {
        ("numpy", "fan-out"): YOURS,
        ("torch", "fan-out"): "torch",
        ("torch:native", "sigmoid"): FORMULA,
        ("jax:native", "sigmoid"): FORMULA,
    }


def test_the_message_says_who_agrees_and_who_does_not():
    named = name_culprits([replace(row, message="worst") if row.fails else row for row in _rows({"numpy", "torch"})], RIGHT)
    told = {row.backend: row.message for row in named if row.fails}
    agree = "jax, jax:native and torch:native agree with the truth to 0.25 of their bounds"
    assert told == {"numpy": f"worst; {agree}, torch differs from it too", "torch": f"worst; {agree}, numpy differs from it too"}
    (alone,) = name_culprits(_rows({"numpy"}, ("numpy",)), RIGHT)
    assert alone.message == ""


def test_the_message_says_what_knows_nothing_of_a_wrong_formula():
    (red, _) = [row for row in name_culprits(_rows(NATIVE), UNPINNED) if row.fails]
    assert red.message.endswith("jax and torch's own ops, which know nothing of the formula that gives the truth, do not")


def test_a_row_that_only_hands_an_error_on_points_at_where_it_comes_from():
    right, wrong = {"local_error_in_bounds": 0.5}, {"node": "x", "layer": "fan-out", "quantity": "dy", "check": "local"}
    rows = [
        _row("numpy", "mismatch", node="affine1", layer="affine", quantity="dW", **right),
        _row("numpy", "mismatch"),
        _row("numpy", "mismatch", node="x", layer="input"),
        _row("numpy", "mismatch", **wrong),
        _row("torch", "mismatch", node="affine1", layer="affine", quantity="dW", **right),
    ]
    told = [row.message for row in name_culprits(rows, find_layers())]
    assert told[0].startswith("what reaches it is wrong, first hand x.dy and sigmoid1.dx")
    assert told[2].startswith("what reaches it is wrong, first hand x.dy and sigmoid1.dx")
    assert not any("what reaches it" in message for message in (told[1], told[3], told[4]))
