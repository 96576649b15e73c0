"""Cases of layers come in, of wrong ones and mended ones; what the command says of them, and its exit code, goes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import LayerSpec, cli
from harness.core import BadInput
from harness.custom.layer_case import record_case
from harness.custom.pieces import list_reasons
from harness.custom.replay import replay
from harness.custom.trials import draw_trial
from tests.custom import importable, layers


def write(folder: Path, kind: type, check: str = "gradients") -> Path:
    spec = LayerSpec(kind, layers.linear if issubclass(kind, layers.Linear) else layers.swish, [(3, 5)])
    trial = draw_trial(spec, "float64", 0, 0)
    path = folder / "case.json"
    path.write_text(record_case(spec, trial, next(iter(list_reasons(trial, check))), folder).to_json(), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "check", "words"),
    [
        (importable.Averages, "gradients", "gradients still fails: Averages.db: 3 of 3 entries"),
        (importable.Shifted, "forward", "forward still fails: Shifted.y"),
        (importable.Raises, "gradients", "gradients still fails: ValueError"),
        (importable.Clips, "linear_in_cotangent", "still fails: the cotangent 2 dy does not give twice"),
    ],
)
def test_a_case_fails_until_the_layer_is_mended(
    kind: type, check: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, kind, check)
    assert cli.call(["replay", str(path), "--backends", "numpy"]) == 1
    assert words in " ".join(capsys.readouterr().out.split())
    monkeypatch.setenv(importable.MENDED, "yes")
    assert cli.call(["replay", str(path), "--backends", "numpy"]) == 0
    assert f"{check} of {kind.__name__} is right in this case" in capsys.readouterr().out


def test_the_rows_of_other_backends_stand_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, importable.Averages)
    assert cli.call(["replay", str(path), "--backends", "numpy,autograd"]) == 1
    shown = capsys.readouterr().out
    assert "mismatch" in shown
    assert "db" in shown


def test_the_json_itself_is_taken_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, importable.Averages)
    monkeypatch.chdir(tmp_path)
    assert cli.call(["replay", path.read_text(encoding="utf-8"), "--backends", "numpy"]) == 1


def test_what_is_no_case_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, importable.Averages)
    record = json.loads(path.read_text(encoding="utf-8"))
    for change, words in [
        ({"check": "nothing"}, "case.check: 'nothing'; accepted are forward"),
        ({"layer": "no.such:Layer"}, "layer: 'no.such:Layer' cannot be imported"),
        ({"layer": ""}, "accepted is module:name"),
        ({"dtype": "float8"}, "case.dtype"),
        ({"formula": "tests.custom.layers:swish", "dy": {"dtype": "float64", "shape": [1], "values": [1.0]}}, "dy: the shape is"),
    ]:
        path.write_text(json.dumps(record | change), encoding="utf-8")
        assert cli.call(["replay", str(path), "--backends", "numpy"]) == 2, change
        assert words in capsys.readouterr().err
    path.write_bytes(b"\xff\xfe\x00")
    assert cli.call(["replay", str(path)]) == 2


def test_a_mended_case_says_nothing_of_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, importable.Averages)
    monkeypatch.setenv(importable.MENDED, "yes")
    done = replay(path.read_text(encoding="utf-8"), tmp_path)
    assert (done.failing, done.rows) == ((), ())
    with pytest.raises(BadInput):
        replay("{}", tmp_path)
