"""The zoo comes in; that its right layers conform, that its faults are found, and how often a cause is named, goes out."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from harness import check_layer
from harness.custom.report import CheckReport, CheckResult
from tests.zoo.score import Score, score, share_found, share_named, share_wrong
from tests.zoo.zoo import CAUSES, Fault, RightLayer, find_zoo, plant

Inspect = Callable[[str], Score]
ZOO = find_zoo()
FOUND, NAMED, WRONG = 0.99, 0.9, 0.03
SEEDS, TRIALS = 3, 4
FIRST_LOOK = {"dtypes": ["float64"]}


def look(fault: Fault, **settings) -> Score:
    return score(fault, check_layer(fault.spec, against=[], on_fail="report", **settings))


@pytest.fixture(scope="session")
def inspect(tmp_path_factory: pytest.TempPathFactory) -> Inspect:
    """Return what gives the score of a fault by its name; all processes of a run share what each of them finds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "zoo"
    folder.mkdir(exist_ok=True)
    return partial(find_score, folder)


@cache
def find_score(folder: Path, name: str) -> Score:
    kept = folder / f"{name}.json"
    if kept.exists():
        return read_score(kept.read_text("utf-8"))
    found = inspect_fault(ZOO.faults[name])
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_text(write_score(found), "utf-8")
    part.replace(kept)  # another process never reads half of it
    return found


def inspect_fault(fault: Fault) -> Score:
    """Return the score in float64; where that shows nothing, in both dtypes.

    All trials are looked at, as in the benchmark: a cause that two of them suggest may be refuted by a third.
    """
    first = look(fault, **FIRST_LOOK)
    return first if first.found else look(fault)


def write_score(one: Score) -> str:
    return json.dumps(asdict(one) | {"said": sorted(one.said)})


def read_score(text: str) -> Score:
    known = json.loads(text)
    return Score(**known | {"said": frozenset(known["said"])})


def test_a_score_is_read_as_it_was_written():
    one = Score("swish-minus", True, False, frozenset({"sign", "factor"}), "wrong")
    assert read_score(write_score(one)) == one


def test_what_one_process_found_another_takes_over(tmp_path: Path):
    planted = Score("swish-minus", True, True, frozenset({"cast"}), "wrong")
    (tmp_path / "swish-minus.json").write_text(write_score(planted), "utf-8")
    assert find_score(tmp_path, "swish-minus") == planted


def test_the_zoo_is_as_large_as_it_is_said_to_be():
    assert len(ZOO.faults) >= 150
    assert len({one.name for one in ZOO.right.values() if one.framework == "numpy"}) >= 20
    layers, faults = (Counter(one.framework for one in group.values()) for group in (ZOO.right, ZOO.faults))
    assert all(layers[name] >= 8 and faults[name] >= 20 for name in ("numpy", "torch", "jax"))


def test_every_cause_is_planted_and_every_right_layer_has_faults():
    assert {cause for fault in ZOO.faults.values() for cause in fault.causes} == set(CAUSES)
    assert {fault.right.name for fault in ZOO.faults.values()} == set(ZOO.right)


def test_every_fault_says_what_is_wrong_in_words_of_its_own():
    assert all(fault.why for fault in ZOO.faults.values())
    per_layer = Counter((fault.right.name, fault.why) for fault in ZOO.faults.values())
    assert per_layer.most_common(1)[0][1] == 1


def test_about_half_of_the_faults_are_held_out():
    held_out = sum(fault.held_out for fault in ZOO.faults.values())
    assert 0.4 <= held_out / len(ZOO.faults) <= 0.6


@pytest.mark.parametrize("causes", ["", "typo", "none sign", "sign zero factor clipped"])
def test_a_fault_with_other_causes_than_there_are_is_refused(causes):
    with pytest.raises(ValueError, match="causes"):
        plant(ZOO.right["swish"], "x", None, causes, "why")


@pytest.mark.parametrize("right", ZOO.right.values(), ids=lambda right: right.name)
def test_a_right_layer_conforms(right: RightLayer):
    trials = TRIALS if right.framework != "jax" else 2  # what JAX takes to trace a layer anew for each pass adds up
    for seed in range(SEEDS):
        report = check_layer(right.spec, against=[], on_fail="report", seed=seed, cases=trials)
        assert report.passed, report.describe()


@pytest.mark.parametrize("right", ZOO.right.values(), ids=lambda right: right.name)
def test_every_fault_of_a_layer_is_found(right: RightLayer, inspect: Inspect):
    missed = [name for name, fault in ZOO.faults.items() if fault.right is right and not inspect(name).found]
    assert missed == []


def test_faults_are_found_by_the_checks_that_are_to_find_them(inspect: Inspect):
    """What the fault itself does shows, and no accident of its layer."""
    scores = [inspect(name) for name in ZOO.faults]
    assert share_found(scores) >= FOUND
    assert sum(one.expected for one in scores) / len(scores) >= FOUND, [one.fault for one in scores if not one.expected]


def _score_held_out(inspect: Inspect) -> list[Score]:
    return [inspect(name) for name, fault in ZOO.faults.items() if fault.held_out]


def test_the_cause_of_faults_that_were_held_out_is_named(inspect: Inspect):
    scores = _score_held_out(inspect)
    assert share_named(scores, ZOO.faults) >= NAMED


def test_no_wrong_cause_is_named_for_faults_that_were_held_out(inspect: Inspect):
    scores = _score_held_out(inspect)
    assert share_wrong(scores) < WRONG


def _report(*failing: str, causes: tuple[str, ...] = ()) -> CheckReport:
    results = tuple(CheckResult(check, "float64", "numpy", "failed") for check in failing)
    for result in results:
        object.__setattr__(result, "causes", causes)
    return CheckReport("layer", results, ())


@pytest.mark.parametrize(
    ("fault", "failing", "causes", "named"),
    [
        ("swish-minus", ["gradients"], ("sign",), "named"),
        ("swish-minus", ["gradients"], ("sign", "factor"), "wrong"),
        ("swish-minus", ["gradients"], (), "silent"),
        ("swish-wobbly", ["gradients"], (), "silent"),
        ("swish-wobbly", ["gradients"], ("order",), "wrong"),
        ("tanh-hands-out-cache", ["no_aliasing"], (), "named"),
        ("tanh-hands-out-cache", ["layouts"], (), "silent"),
        ("dropout-unseeded", ["forward", "deterministic"], (), "named"),
    ],
)
def test_a_wrong_cause_beside_a_right_one_counts_as_wrong(fault, failing, causes, named):
    assert score(ZOO.faults[fault], _report(*failing, causes=causes)).named == named


def test_shares_count_faults_without_a_cause_among_the_wrong_alone():
    scores = [
        score(ZOO.faults["swish-minus"], _report("gradients", causes=("sign",))),
        score(ZOO.faults["swish-wobbly"], _report("gradients", causes=("order",))),
    ]
    assert share_named(scores, ZOO.faults) == 1
    assert share_wrong(scores) == 0.5
    assert share_found(scores) == 1


@pytest.mark.parametrize("name", ["embedding_sum", "max_pool_tied", "leaky_relu", "relu"])
def test_inputs_hold_what_they_are_to_plant(name):
    (x,) = ZOO.right[name].spec.draw_inputs(np.random.default_rng(0))
    if name == "embedding_sum":
        assert any(len(set(row)) < len(row) for row in x.tolist())
    else:
        assert (x == 0).sum() >= 4
