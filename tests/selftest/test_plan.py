"""Settings come in; a checked plan, its correct networks and those to plant faults in go out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import BadInput
from harness.rivals import rival as rivals
from harness.selftest.plan import Settings, count_steps, find_lost, list_shards, list_tasks, make_plan

SMALL = Settings(networks=40, mutated=10, dtypes="float64,float32", against="gradcheck", out=Path("nowhere"), jobs=0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"networks": -1}, "--networks -1; accepted is a whole number of at least 0"),
        ({"mutated": -1}, "--mutated -1; accepted"),
        ({"seed": -1}, "--seed -1; accepted"),
        ({"jobs": -2}, "--jobs -2; accepted"),
        ({"networks": 0, "mutated": 0}, "nothing is left to do"),
        ({"timeout": 0.0}, "--timeout 0; accepted is a number of seconds above 0"),
        ({"dtypes": "float8"}, "unknown dtype 'float8'"),
        ({"layers": "nope"}, "unknown layer 'nope'"),
        ({"backends": "nope"}, "unknown backend 'nope'"),
        ({"against": "nope"}, "unknown rival 'nope'"),
        ({"part": "0/3"}, "--part '0/3'; accepted is a part of a whole, such as 3/10"),
        ({"part": "4/3"}, "--part '4/3'"),
        ({"part": "a"}, "--part 'a'"),
    ],
)
def test_an_impossible_setting_is_bad_input_that_names_it(change, text):
    with pytest.raises(BadInput) as raised:
        make_plan(replace(SMALL, **change))
    assert text in str(raised.value)


def test_every_graph_comes_once_in_each_dtype():
    shards = list(list_shards(make_plan(SMALL)))
    assert len(shards) == len({shard.cases[0].network.digest for shard in shards}) == 40
    assert all([case.dtype for case in shard.cases] == ["float64", "float32"] for shard in shards)
    assert 0 < sum(bool(case.hazards) for shard in shards for case in shard.cases) < 80


def test_jax_runs_a_tenth():
    shards = list(list_shards(make_plan(SMALL)))
    assert sum("jax" in shard.backends for shard in shards) == 4
    assert all({"numpy", "torch", "torch:native"} <= set(shard.backends) for shard in shards)


def list_names(shards) -> list[tuple[str, ...]]:
    """Return what tells a shard from any other: its cases and its backends."""
    return [(*(case.id for case in shard.cases), *shard.backends) for shard in shards]


def test_parts_add_up_to_the_whole():
    whole = list_names(list_shards(make_plan(SMALL)))
    parts = [list_names(list_shards(make_plan(replace(SMALL, part=f"{part}/3")))) for part in (1, 2, 3)]
    assert list(map(len, parts)) == [14, 13, 13]
    assert sorted(name for part in parts for name in part) == sorted(whole)
    tasks = [task for part in (1, 2, 3) for task in list_tasks(make_plan(replace(SMALL, part=f"{part}/3")))]
    assert sorted(tasks, key=lambda task: task.case.id) == sorted(list_tasks(make_plan(SMALL)), key=lambda task: task.case.id)


@pytest.mark.parametrize("part", ["1/1", "1/3", "3/3"])
def test_the_steps_are_counted_beforehand(part):
    plan = make_plan(replace(SMALL, part=part))
    assert count_steps(plan) == len(list(list_shards(plan))) + len(list(list_tasks(plan)))


def test_faults_are_planted_where_there_is_no_hazard_and_slow_rivals_asked_where_it_is_small():
    tasks = list(list_tasks(make_plan(replace(SMALL, mutated=40))))
    assert len(tasks) == 80
    assert not any(task.case.hazards for task in tasks)
    assert 0 < sum(task.slow for task in tasks) < 80
    assert all(task.rivals == ("gradcheck-rule", "gradcheck", "gradcheck-fast") for task in tasks)
    assert not any(task.slow for task in list_tasks(make_plan(replace(SMALL, against="allclose"))))


def test_slow_rivals_are_asked_about_so_many_networks_and_no_more(monkeypatch):
    monkeypatch.setattr("harness.selftest.plan.SLOW_NETWORKS", 1)
    assert sum(task.slow for task in list_tasks(make_plan(replace(SMALL, mutated=40)))) == 2


def test_what_was_asked_for_by_name_and_is_missing_is_told(monkeypatch):
    lost = replace(rivals.find_rivals()["allclose"], framework="no_such_framework")
    monkeypatch.setitem(rivals.find_rivals(), "allclose", lost)
    assert "allclose was asked for and is missing" in find_lost(make_plan(replace(SMALL, against="allclose")))
    assert find_lost(make_plan(replace(SMALL, against="none"))) == ""


def test_a_plan_knows_what_its_parts_have_in_common():
    first, second = (make_plan(replace(SMALL, part=part)) for part in ("1/2", "2/2"))
    assert first.asked == second.asked
    assert first.folder != second.folder
    assert first.asked != make_plan(replace(SMALL, part="1/3")).asked
    assert first.asked != make_plan(replace(SMALL, seed=1, part="1/2")).asked
