"""Trials come in; that a database gives back those and nothing else, and is touched by no other, must hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase, InMemoryExampleDatabase

from harness.core import DTYPES
from harness.custom import remembered
from harness.custom.remembered import MOST, find_obstacle, forget, recall, remember
from harness.custom.trials import TrialId

IDS = st.builds(TrialId, st.integers(0, 2**64), st.integers(0, 10**6), st.sampled_from(DTYPES))


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DirectoryBasedExampleDatabase:
    own = DirectoryBasedExampleDatabase(tmp_path / "examples")
    monkeypatch.setattr(remembered, "_open", lambda: own)
    return own


@given(st.sets(IDS, max_size=MOST), st.data())
@settings(max_examples=30)
def test_what_is_remembered_comes_back_until_it_is_forgotten(trials: set[TrialId], data: st.DataObject) -> None:
    own = InMemoryExampleDatabase()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "_open", lambda: own)
        remember("a", "gradients", trials)
        assert recall("a", "gradients") == tuple(sorted(trials))
        assert recall("a", "forward") == recall("b", "gradients") == ()
        gone = data.draw(st.sets(st.sampled_from(sorted(trials)))) if trials else set()
        forget("a", "gradients", gone)
        assert set(recall("a", "gradients")) == trials - gone


def test_entries_are_json_of_three_fields(database: DirectoryBasedExampleDatabase) -> None:
    remember("a", "gradients", [TrialId(3, 5, "float32")])
    (entry,) = database.fetch(b"backprop-harness a gradients")
    assert json.loads(entry) == {"seed": 3, "index": 5, "dtype": "float32"}


def test_nothing_is_written_where_nothing_failed(database: DirectoryBasedExampleDatabase, tmp_path: Path) -> None:
    remember("a", "gradients", [])
    forget("a", "gradients", [])
    assert recall("a", "gradients") == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "entry",
    [
        b"", b"\xff\x00", b"[]", b"{}", b"null", b"\x80\x04K\x01.",
        b'{"seed": -1, "index": 0, "dtype": "float32"}', b'{"seed": 1.5, "index": 0, "dtype": "float32"}',
        b'{"seed": 1, "index": true, "dtype": "float32"}', b'{"seed": 1, "index": 0, "dtype": "float8"}',
        b'{"seed": 1, "index": 0, "dtype": ["float32"]}', b'{"seed": 1, "index": 0, "dtype": "float32", "more": 1}',
    ],
)  # fmt: skip
def test_what_is_no_trial_is_passed_over(database: DirectoryBasedExampleDatabase, entry: bytes) -> None:
    database.save(b"backprop-harness a gradients", entry)
    remember("a", "gradients", [TrialId(1, 2, "float64")])
    assert recall("a", "gradients") == (TrialId(1, 2, "float64"),)


def test_it_keeps_no_more_than_can_be_tried_again(database: DirectoryBasedExampleDatabase) -> None:
    for seed in range(2 * MOST):
        remember("a", "gradients", [TrialId(seed, 0, "float64")])
    assert len(recall("a", "gradients")) == len(list(database.fetch(b"backprop-harness a gradients"))) == MOST


def test_the_database_is_that_of_hypothesis_settings() -> None:
    own: ExampleDatabase = InMemoryExampleDatabase()
    before = settings.get_current_profile_name()
    settings.register_profile("remembering", database=own)
    settings.load_profile("remembering")
    try:
        remember("a", "gradients", [TrialId(0, 1, "float64")])
        assert list(own.fetch(b"backprop-harness a gradients"))
        assert find_obstacle(failing=True) == ""
        settings.register_profile("remembering", database=None)
        settings.load_profile("remembering")
        remember("a", "gradients", [TrialId(0, 1, "float64")])
        assert recall("a", "gradients") == ()
        assert "have no database" in find_obstacle(failing=True)
        assert find_obstacle(failing=False) == ""
    finally:
        settings.load_profile(before)


def test_without_hypothesis_nothing_is_remembered_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    remember("a", "gradients", [TrialId(0, 1, "float64")])
    assert recall("a", "gradients") == ()
    assert "pip install hypothesis" in find_obstacle(failing=False)
