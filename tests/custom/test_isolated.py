"""Layers that hang, die or take all memory come in; a verdict of that one trial, and the others' own, go out."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness import CheckReport, Isolation, LayerSpec, check_layer
from harness.core import BadInput
from harness.custom import isolated
from harness.custom.isolated import find_way, read_isolation
from harness.custom.targets import Address
from tests.conftest import ROOT, make_environment
from tests.custom import misbehaving
from tests.custom.layers import Swish, swish

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers are settled by means of POSIX")


OF_TWO = ("no_stale_state", "small_batches")  # contracts that give a batch of two as well


def run(spec: LayerSpec, seconds: float = 60.0, memory: float | None = 256.0) -> CheckReport:
    limits = Isolation(seconds, memory if sys.platform == "linux" else None)
    return check_layer(spec, against=[], dtypes=["float64"], isolate=limits, on_fail="report")


@pytest.mark.parametrize(
    ("name", "seconds", "verdict", "words"),
    [
        ("hangs", 3.0, "timeout", r"no answer within 3 s \(line \d+ of misbehaving.py, in forward\)"),
        ("exits", 60.0, "crash", r"the process died with exit code 0 \(line \d+ of misbehaving.py, in backward\)"),
        ("segfaults", 60.0, "crash", r"exit code -11 \(SIGSEGV\) \(line \d+ of misbehaving.py, in backward\)"),
        pytest.param(
            "hogs", 60.0, "memory", r"MemoryError: .* \(line \d+ of misbehaving.py, in ",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="no other system holds a process to a limit of memory"),
        ),
    ],
)  # fmt: skip
def test_what_misbehaves_in_one_trial_fails_that_one_alone(name: str, seconds: float, verdict: str, words: str) -> None:
    report = run(getattr(misbehaving, name), seconds)
    lost = [row for row in report.comparisons if row.verdict != "ok"]
    assert [row.verdict for row in lost] == [verdict]
    assert len({row.case for row in report.comparisons}) == 7
    failing = {result.check: result for result in report.failures}
    for check in ("forward", "gradients"):
        assert f"{verdict} in 1 of 7 trials" in failing[check].message
    assert all(re.search(words, result.message) for result in failing.values())
    assert set(failing) <= {"forward", "gradients", *OF_TWO}
    others = {result.state for result in report.results if result.check not in failing}
    assert others == {"passed", "skipped"}
    assert sum(result.state == "passed" for result in report.results) > 10


def test_what_always_hangs_is_given_up_soon() -> None:
    report = run(misbehaving.hangs_always, 1.5)
    assert 2 <= len(report.comparisons) < 7
    assert {row.verdict for row in report.comparisons} == {"timeout"}
    assert {result.state for result in report.results if result.check == "deterministic"} == {"skipped"}


def test_a_crash_leaves_the_frameworks_their_rows() -> None:
    wanted = {"dtypes": ["float64"], "checks": ["forward", "gradients"], "on_fail": "report"}
    report = check_layer(misbehaving.segfaults, against=["torch"], isolate=True, **wanted)
    assert {(row.backend, row.verdict) for row in report.comparisons if row.verdict != "ok"} == {("numpy", "crash")}
    assert len({row.case.rpartition("-")[0] for row in report.comparisons if row.backend == "torch"}) == 7


def test_isolated_or_not_the_numbers_are_the_same() -> None:
    here, there = (
        check_layer(Swish, swish, inputs=misbehaving.inputs, against=[], cases=2, isolate=isolate) for isolate in (False, True)
    )
    assert here.passed
    assert repr(here.to_frame().to_dict("records")) == repr(there.to_frame().to_dict("records"))  # NaN is not equal to itself
    assert [(one.check, one.dtype, one.state) for one in here.results] == [
        (one.check, one.dtype, one.state) for one in there.results
    ]


def test_a_wrong_layer_is_explained_all_the_same() -> None:
    report = run(misbehaving.scaled)
    (failed,) = report.failures
    assert failed.diagnosis == "dx: it is 1.5 times the truth, a constant factor"


def test_what_a_layer_says_reaches_the_report() -> None:
    report = run(misbehaving.several[0])
    assert report.passed
    assert [finding.rpartition(": ")[2] for finding in report.findings] == ["from above"]


def test_what_can_be_imported_travels_and_the_rest_is_found_where_it_stands() -> None:
    plain = LayerSpec(Swish, swish, [(6, 5)])
    assert find_way(plain) is plain
    assert find_way(misbehaving.hangs) == Address("tests.custom.misbehaving", "hangs")
    assert find_way(misbehaving.several[1]) == Address("tests.custom.misbehaving", "several", 1)


class Local:
    @staticmethod
    def make() -> Any:
        class Inner(Swish):
            pass

        return Inner


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layer": lambda: Swish()}, "layer (<lambda> of"),
        ({"layer": Local.make()}, "layer (Local.make.<locals>.Inner of"),
        ({"formula": lambda xp, params, x: x}, "formula (<lambda> of"),
        ({"inputs": lambda rng: [rng.standard_normal((4, 3))]}, "inputs ("),
        ({"layer": type("Main", (Swish,), {"__module__": "__main__"})}, "layer (Main of __main__)"),
        ({"params": {"W": (one for one in "abc")}}, "what it holds (TypeError"),
    ],
)
def test_what_cannot_be_imported_is_told_with_what_to_do(given: dict[str, Any], words: str) -> None:
    spec = LayerSpec(**{"layer": Swish, "formula": swish, "inputs": [(4, 3)], **given})
    with pytest.raises(BadInput) as raised:
        check_layer(spec, against=[], isolate=True)
    assert words in str(raised.value)
    assert "move it to a file of its own" in str(raised.value)


@pytest.mark.parametrize("limits", [{"seconds": 0.0}, {"seconds": float("nan")}, {"memory": -1.0}, {"seconds": True}])
def test_limits_are_numbers_above_0(limits: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="accepted is a number above 0"):
        Isolation(**limits)


def test_a_limit_that_nothing_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "can_limit_memory", lambda: False)
    with pytest.raises(BadInput, match="holds no process to a limit of memory"):
        Isolation(memory=100.0)
    assert Isolation(memory=None).memory is None


def test_isolate_is_a_boolean_or_limits() -> None:
    limits = Isolation(seconds=5.0)
    assert read_isolation(limits) is limits
    assert read_isolation(False) is None
    with pytest.raises(BadInput, match="isolate: 'yes'"):
        read_isolation("yes")  # type: ignore[arg-type]  # reason: that is what is tested


def test_bad_input_is_bad_input_from_the_guarded_process_too() -> None:
    spec = LayerSpec(misbehaving.NoLayer, swish, [(4, 3)])
    with pytest.raises(BadInput, match="has no method backward"):
        check_layer(spec, against=[], isolate=True)


SCRIPT = """
from harness import check_layer
from tests.custom.layers import Swish, swish
print(check_layer(Swish, swish, inputs=[(4, 3)], against=[], dtypes=["float64"], cases=1, isolate=True))
"""


def test_a_script_without_a_guard_is_told_so(run_python: Any) -> None:
    done = run_python(SCRIPT)
    assert done.returncode == 1
    assert "__name__ == '__main__'" in done.stderr


ORPHAN = """
import sys
from harness import Isolation, check_layer
from tests.custom import misbehaving

if __name__ == "__main__":
    print("ready", flush=True)
    check_layer(misbehaving.hangs_always, against=[], isolate=Isolation(seconds=300), on_fail="report")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_guarded_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "orphan.py").write_text(ORPHAN)
    with subprocess.Popen([sys.executable, str(tmp_path / "orphan.py")], env=make_environment(tmp_path), cwd=ROOT) as parent:
        children = wait_for(lambda: _list_settled(parent.pid))
        parent.kill()
    assert wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def wait_for(find: Any, seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came")


def _list_settled(parent: int) -> list[int]:
    """Return the children that have hung for a while: their stdout leads nowhere, which is the last thing that is settled."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    found = []
    for child in map(int, text.split()):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{child}/fd/1") == os.devnull:
                found.append(child)
    return found
