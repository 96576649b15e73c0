"""The rows of one case come in, who parts from the truth and who does not; each row says who is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core import Comparison
from harness.judge.culprit import ARITHMETIC, CONVENTION, FORMULA, JUDGE, UNKNOWN, YOURS, Evidence, blame, name_culprits
from reference_layers import Sigmoid

VARIANTS = {"numpy": "layer", "torch": "formula", "jax": "formula", "autograd": "formula"}


def row(backend: str, verdict: str = "ok", **more: Any) -> Comparison:
    """Return a row of a sigmoid's dx; a failing one errs by a thousand bounds in the local check."""
    wrong = verdict == "mismatch"
    own: dict[str, Any] = {
        "variant": VARIANTS.get(backend, "native"), "node": "s1", "layer": "sigmoid", "quantity": "dx", "check": "local",
        "error_in_bounds": 1e3 if wrong else 0.25, "local_error_in_bounds": 1e3 if wrong else 0.25, "n_compared": 6,
        "decides": True, "message": "s1.dx is wrong" if wrong else "",
    }  # fmt: skip
    return Comparison(case="c", network="n", hazards="", backend=backend, dtype="float64", verdict=verdict, **{**own, **more})


def blamed(wrong: str, right: str, layers: Any = None) -> dict[str, str]:
    """Return who is blamed in each failing backend's row, when these backends part from the truth and those do not."""
    rows = [row(name, "mismatch") for name in wrong.split()] + [row(name) for name in right.split()]
    return {found.backend: found.culprit for found in name_culprits(rows, layers) if found.fails}


class Unpinned(Sigmoid):
    """A layer with frameworks' own ops and nothing worked out."""

    worked = ()


class Wrong(Unpinned):
    """A layer whose formula does not meet its worked values."""

    worked = Sigmoid.worked

    @staticmethod
    def formula(xp, params, x):
        return Sigmoid.formula(xp, params, x) * 2


@pytest.mark.parametrize(
    ("wrong", "right", "culprits"),
    [
        ("numpy", "torch torch:native", {"numpy": YOURS}),
        ("numpy", "torch jax autograd", {"numpy": YOURS}),
        ("torch", "numpy torch:native jax", {"torch": "torch"}),
        ("jax", "numpy torch", {"jax": "jax"}),
        ("torch:native", "numpy torch jax jax:native", {"torch:native": "torch"}),
        ("torch:native jax:native", "numpy torch jax", {"torch:native": FORMULA, "jax:native": FORMULA}),
        ("numpy torch:native", "torch jax", {"numpy": FORMULA, "torch:native": FORMULA}),
        ("numpy torch jax", "", {"numpy": FORMULA, "torch": FORMULA, "jax": FORMULA}),
        ("torch jax", "numpy torch:native", {"torch": FORMULA, "jax": FORMULA}),
    ],
)
def test_who_parts_from_whom_tells_who_is_wrong(wrong, right, culprits):
    assert blamed(wrong, right) == culprits


def test_what_is_worked_out_settles_one_own_op_against_the_rest():
    alone = ("torch:native", "numpy torch autograd")
    assert blamed(*alone, {"sigmoid": Unpinned}) == {"torch:native": UNKNOWN}
    assert blamed(*alone, {"sigmoid": Sigmoid}) == {"torch:native": "torch"}
    assert blamed(*alone, {"sigmoid": Wrong}) == {"torch:native": FORMULA}


def test_an_own_op_of_another_layer_is_no_witness():
    bare = type("Bare", (Unpinned,), {"native": {}})
    assert blamed("numpy", "torch torch:native", {"sigmoid": bare}) == {"numpy": YOURS}
    assert blamed("numpy torch:native", "torch", {"sigmoid": bare}) == {"numpy": YOURS, "torch:native": "torch"}


def test_two_faults_at_two_nodes_have_two_culprits():
    rows = [row("numpy", "mismatch"), row("torch:native", "mismatch", node="s2"), row("torch"), row("jax:native")]
    found = {each.backend: each.culprit for each in name_culprits(rows, {"sigmoid": Sigmoid}) if each.fails}
    assert found == {"numpy": YOURS, "torch:native": "torch"}


@pytest.mark.parametrize(
    ("verdict", "culprit"), [("convention", CONVENTION), ("reduced-precision", ARITHMETIC), ("constant", ARITHMETIC)]
)
def test_findings_are_nobodys_fault(verdict, culprit):
    found = name_culprits([row("torch:native", verdict), row("numpy")])
    assert [each.culprit for each in found] == [culprit, ""]


@pytest.mark.parametrize("verdict", ["error", "crash", "timeout", "contract"])
def test_what_fails_by_itself_is_its_owners(verdict):
    found = name_culprits([row("numpy", verdict), row("jax", verdict), row("torch"), row("torch:native")])
    assert [each.culprit for each in found] == [YOURS, "jax", "", ""]


def test_a_formula_that_every_framework_raises_on_is_to_blame():
    rows = [row("torch", "error"), row("jax", "error"), row("numpy"), row("torch:native")]
    assert [each.culprit for each in name_culprits(rows)] == [FORMULA, FORMULA, "", ""]


def test_a_truth_that_is_not_finite_is_the_formulas():
    assert name_culprits([row("numpy", "oracle-nonfinite"), row("torch")])[0].culprit == FORMULA


def test_what_the_judge_passed_over_is_its_own_fault():
    assert name_culprits([row("numpy", "missing", check="none"), row("torch")])[0].culprit == JUDGE


def test_where_nothing_is_wrong_nothing_is_said():
    rows = [row("numpy"), row("torch", "powerless"), row("jax", "unavailable")]
    assert name_culprits(rows) == rows


def test_witnesses_are_no_evidence():
    rows = [
        row("torch:native", "mismatch", decides=False),
        row("jax:native", "mismatch", decides=False),
        row("numpy", "mismatch"),
    ]
    assert name_culprits([*rows, row("torch")])[2].culprit == YOURS


def test_the_message_says_who_agrees_and_how_well():
    found = name_culprits([row("numpy", "mismatch"), row("torch"), row("jax", error_in_bounds=0.5)])[0]
    assert found.message == "s1.dx is wrong; jax and torch agree with the truth to 0.5 of their bounds"
    assert name_culprits([row("numpy", "mismatch")])[0].message == "s1.dx is wrong"


def test_nobody_is_blamed_for_what_two_own_ops_say_of_one_another():
    seen = Evidence(natives_fail=frozenset({"torch", "jax"}), formulas_fail=frozenset({"autograd"}))
    assert blame(row("torch:native", "mismatch"), replace(seen, agree={"numpy": 0.1})) == UNKNOWN
