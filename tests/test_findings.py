"""A list of known findings and rows come in; the rows that they excuse, and the entries gone stale, go out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core import BadInput, Comparison
from harness.findings import FILE, Finding, Ledger, read_findings

FINDING = Finding("F1", "it rounds twice", "tests/findings/f1.py", "jax", "sigmoid", "dx", "mismatch", ("c1", "c2"))
ROW = Comparison(
    case="c1", network="n", hazards="", backend="jax", variant="formula", dtype="float32", node="sigmoid1", layer="sigmoid",
    quantity="dx", check="network", verdict="mismatch", decides=True, message="far off",
)  # fmt: skip


def test_a_known_finding_no_longer_decides_and_says_why():
    ledger = Ledger([FINDING])
    (row,) = ledger.excuse([ROW])
    assert ROW.fails
    assert not row.fails
    assert row.message == "known finding F1: it rounds twice | far off"
    assert (row.verdict, ledger.stale) == ("mismatch", [])


@pytest.mark.parametrize(
    "other",
    [{"case": "c3"}, {"backend": "torch"}, {"layer": "relu"}, {"quantity": "y"}, {"verdict": "nonfinite"}],
    ids=lambda other: next(iter(other)),
)
def test_it_excuses_nothing_else(other):
    row = replace(ROW, **other)
    ledger = Ledger([FINDING])
    assert ledger.excuse([row]) == [row]
    assert row.fails


def test_a_finding_that_its_case_no_longer_shows_is_stale():
    ledger = Ledger([FINDING])
    ledger.excuse([replace(ROW, verdict="ok"), replace(ROW, quantity="y", verdict="ok")])
    assert ledger.stale == ["F1 in c1"]


def test_a_finding_whose_cases_did_not_run_is_not_stale():
    ledger = Ledger([FINDING])
    ledger.excuse([replace(ROW, case="c3"), replace(ROW, backend="torch")])
    assert ledger.stale == []


def test_each_case_of_a_finding_must_show_it():
    ledger = Ledger([FINDING])
    ledger.excuse([ROW, replace(ROW, case="c2", verdict="ok")])
    assert ledger.stale == ["F1 in c2"]


def test_the_committed_list_can_be_read_and_names_scripts_that_exist():
    findings = read_findings()
    assert FILE.exists()
    assert [finding.id for finding in findings if not (Path(__file__).parents[1] / finding.reproduction).exists()] == []
    assert len({finding.id for finding in findings}) == len(findings)


def test_a_list_is_read(tmp_path):
    path = tmp_path / "known.toml"
    fields = (
        'id = "F1"\nreason = "r"\nreproduction = "p"\nbackend = "jax"\nlayer = "relu"\nquantity = "dx"\nverdict = "mismatch"\n'
    )
    path.write_text(f'[[finding]]\n{fields}cases = ["c1"]\n')
    assert read_findings(path) == [Finding("F1", "r", "p", "jax", "relu", "dx", "mismatch", ("c1",))]
    path.write_text("")
    assert read_findings(path) == []


@pytest.mark.parametrize(
    "text",
    ["[[finding]]\nid = 1\n", '[[finding]]\ncases = ["c"]\nother = 1\n', "[[finding", "[finding]\nid = 1\n", "finding = 3\n"],
)
def test_a_broken_list_is_bad_input_that_names_the_file_and_the_fields(tmp_path, text):
    path = tmp_path / "known.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"known\.toml.*accepted are \[\[finding\]\] tables with the fields id, reason"):
        read_findings(path)


def test_a_list_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="known findings"):
        read_findings(tmp_path / "none.toml")
