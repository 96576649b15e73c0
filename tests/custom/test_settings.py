"""Settings come in; that wrong ones are named, and frameworks that are missing are never passed over, must hold."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core import BadInput
from harness.custom import api
from harness.custom.settings import ACCEPTED, check_settings, choose_checks, choose_frameworks, find_lack


@pytest.fixture
def without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    right = api.find_spec
    monkeypatch.setattr(api, "find_spec", lambda name: None if name == "jax" else right(name))


def test_what_a_specification_holds_is_no_setting() -> None:
    assert {"dtypes", "against", "checks", "seed", "cases", "expected_failures"} <= set(ACCEPTED)
    assert not {"layer", "formula", "inputs", "params", "on_fail", "again"} & set(ACCEPTED)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"formula": 1}, "settings: formula; accepted are dtypes"),
        ({"dtypes": ["float8"]}, r"dtypes: \['float8'\]; accepted is a list of float64"),
        ({"dtypes": []}, "dtypes: "),
        ({"cases": 0}, "cases: 0; accepted is a whole number of at least 1"),
        ({"seed": -1}, "seed: -1"),
        ({"against": "torch"}, "against: 'torch'; accepted is a list"),
        ({"against": ["mxnet"]}, "against: 'mxnet'; accepted are"),
        ({"against": 3}, "against: 3"),
        ({"checks": ["nope"]}, r"checks: \['nope'\]; accepted are forward"),
        ({"expected_failures": {"nope": "why"}}, "expected_failures: "),
        ({"expected_failures": {"forward": " "}}, "accepted is the reason, in words"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        check_settings(settings)


def test_right_settings_pass() -> None:
    check_settings({})
    check_settings({"dtypes": ("bfloat16",), "against": None, "cases": 1, "seed": 0, "checks": ["forward"]})


def test_a_framework_that_nobody_named_is_excused_and_one_that_somebody_did_is_not(without_jax: None) -> None:
    usual, named = choose_frameworks({}), choose_frameworks({"against": ["jax"]})
    assert usual.asked == ("torch", "jax")
    assert usual.ready == ["torch"]
    assert usual.excused
    assert dict(named.lacking) == {"jax": "jax is not installed: pip install jax"}
    assert not named.excused
    assert choose_frameworks({"against": None}).asked == ("torch",)
    assert choose_frameworks({"against": []}).asked == ()


def test_none_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="none of torch, jax is installed: pip install torch, or jax"):
        choose_frameworks({"against": None})


def test_what_is_required_must_be_there_and_take_part(without_jax: None) -> None:
    assert find_lack("require", {"require": ["torch"]}) == ""
    assert find_lack("require", {"require": ["torch", "jax"]}) == "jax is not installed: pip install jax"
    left_out = find_lack("require", {"require": ["torch"], "against": ["autograd"]})
    assert left_out == "torch is required, and against leaves it out"
    with pytest.raises(BadInput, match="require: 'mxnet'; accepted are"):
        find_lack("require", {"require": ["mxnet"]})


def test_checks_come_in_their_own_order() -> None:
    assert choose_checks({"checks": ["power", "forward"]}) == ["forward", "power"]
    assert choose_checks({}) == list(api.CHECKS)
