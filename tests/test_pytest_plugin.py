"""Suites of users come in; that pytest makes the right tests of them, with the settings that were given, must hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis.database import InMemoryExampleDatabase

from harness import LayerSpec, check_layer
from harness.custom import api, remembered
from harness.custom.trials import TrialId
from harness.discovery import find_backends
from tests.conftest import ROOT
from tests.custom import layers

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
HEAD = """
import pytest
from harness import LayerSpec, parametrize_with_checks
from tests.custom import layers

RIGHT = LayerSpec(layers.Swish, layers.swish, [(6, 5)], name="right")
CLIPS = LayerSpec(layers.Clips, layers.swish, [(6, 5)], name="clips")
"""
ONE = """
@parametrize_with_checks([RIGHT], checks=["forward"])
def test_layers(layer, check):
    check(layer)
    print("settings", check.run.settings, {result.dtype for result in check.results})
"""


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Import what a check imports on its way: pytester drops what is first imported in a run of its own."""
    for spec in (layers.Swish, layers.Clips):
        check_layer(LayerSpec(spec, layers.swish, [(6, 5)]), against=[], cases=1, on_fail="report")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> InMemoryExampleDatabase:
    database = InMemoryExampleDatabase()
    monkeypatch.setattr(remembered, "_open", lambda: database)
    return database


@pytest.fixture
def run(pytester: pytest.Pytester, memory: InMemoryExampleDatabase) -> Run:
    """Return a function of a suite's text and pytest's words that runs it in this process, without frameworks."""

    def start(suite: str, *words: str, against: str = "none", settings: str = "") -> pytest.RunResult:
        pytester.makepyfile(test_mine=HEAD + suite)
        pytester.makepyprojecttoml(settings or "[tool.pytest.ini_options]\n")
        usual = ["--harness-against", against] if against else []
        return pytester.runpytest_inprocess("-p", "harness.pytest_plugin", "-p", "no:cacheprovider", "-rA", *usual, *words)

    return start


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that hides a framework."""
    right = api.find_spec
    return lambda gone: monkeypatch.setattr(api, "find_spec", lambda name: None if name == gone else right(name))


def test_options_reach_the_tests_of_layers_and_the_fixture(run: Run) -> None:
    fixture = """
def test_fixture(check_layer):
    report = check_layer(layers.Swish, layers.swish, inputs=[(6, 5)])
    assert {result.dtype for result in report.results} == {"float32"}
    assert {result.backend for result in report.results} == {"numpy"}
    assert {result.trials for result in report.results if result.check == "forward"} == {2}
    report = check_layer(layers.Swish, layers.swish, inputs=[(6, 5)], dtypes=["float64"])
    assert {result.dtype for result in report.results} == {"float64"}
"""
    done = run(ONE + fixture, "--harness-dtypes", "float32", "--harness-seed", "7", "--harness-cases", "2")
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(
        ["harness: seed 7, cases 2, dtypes float32, against none", "settings *'seed': 7, 'cases': 2*{'float32'}"]
    )


def test_settings_in_code_come_before_options_and_these_before_settings_in_files(run: Run) -> None:
    settings = '[tool.pytest.ini_options]\nharness_dtypes = "float32, bfloat16"\nharness_seed = 3\nharness_against = ["none"]\n'
    done = run(ONE, "--harness-cases", "1", against="", settings=settings)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["harness: seed 3, cases 1, dtypes float32,bfloat16, against none"])
    run(ONE, "--harness-seed", "4", settings=settings).stdout.fnmatch_lines(["harness: seed 4, dtypes float32,bfloat16*"])
    own = ONE.replace('checks=["forward"]', 'checks=["forward"], dtypes=["float64"], seed=5, cases=1')
    done = run(own, "--harness-seed", "4", settings=settings)
    done.stdout.fnmatch_lines(["settings *'seed': 5, *{'float64'}"])


@pytest.mark.parametrize("form", ["[tool.pytest]\nharness_seed = 3\nharness_dtypes = ['float32']\n"])
def test_settings_may_be_tomls_own(run: Run, form: str) -> None:
    if tuple(map(int, pytest.__version__.split(".")[:2])) < (9, 0):
        pytest.skip("pytest reads [tool.pytest] from 9.0 on")
    run(ONE, "--collect-only", settings=form).stdout.fnmatch_lines(["harness: seed 3, dtypes float32, against none"])


WRONG = {
    "an unknown dtype": (["--harness-dtypes", "float8"], "--harness-dtypes (*): dtypes: ?'float8'?; accepted is a list of *"),
    "no dtype": (["--harness-dtypes", ""], "--harness-dtypes (*) names nothing; it is which dtypes*"),
    "an unknown framework": (["--harness-against", "mxnet"], "--harness-against (*): against: 'mxnet'; accepted are *"),
    "no framework": (["--harness-against", ","], "--harness-against (*) names nothing; *"),
    "no trials": (["--harness-cases", "0"], "--harness-cases (*): cases: 0; accepted is *"),
    "a seed below 0": (["--harness-seed", "-1"], "--harness-seed (*): seed: -1; accepted is *"),
    "an unknown framework required": (["--harness-require", "mxnet"], "--harness-require (*): require: 'mxnet'; accepted are *"),
    "a seed that is no number": (["-o", "harness_seed=x"], "harness_seed in pytest's settings is no whole number: *"),
    "one that is required and left out": (
        ["--harness-require", "torch"],
        "--harness-require (*): torch is required, and against leaves it out",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_option_ends_the_run_at_its_start(run: Run, mistake: str) -> None:
    words, told = WRONG[mistake]
    done = run(ONE, *words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR == 4
    done.stderr.fnmatch_lines([f"ERROR: {told}"])
    assert "Traceback" not in done.stderr.str()


def test_a_missing_framework_that_is_required_ends_the_run(run: Run, without: Callable[[str], None]) -> None:
    without("jax")
    for words in (["--harness-require", "torch,jax"], ["--harness-against", "torch,jax"]):
        done = run(ONE, *words, against="")
        assert done.ret == 4
        done.stderr.fnmatch_lines([f"ERROR: {words[0]} (*): jax is not installed: pip install jax"])
    settings = '[tool.pytest.ini_options]\nharness_require = "jax"\n'
    assert run(ONE, against="", settings=settings).ret == 4
    without("nothing")
    assert run(ONE, "--harness-require", "torch,jax", "--collect-only", against="").ret == 0


def test_a_missing_framework_that_the_code_names_fails_its_own_checks(run: Run, without: Callable[[str], None]) -> None:
    without("jax")
    suite = ONE.replace('checks=["forward"]', 'checks=["forward", "gradients"], against=["jax"]')
    done = run(suite)
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines(["E *forward [[]jax*]: jax is not installed: pip install jax"])
    done.stdout.fnmatch_lines(["FAILED test_mine.py::test_layers[[]right-gradients-jax] - *"])
    assert done.ret == 1


def test_a_framework_that_is_there_and_cannot_be_imported_fails_its_own_checks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> object:
        raise ImportError("libjax.so: cannot open shared object file")

    monkeypatch.setattr(type(find_backends()["jax"]), "prepare", fail)
    done = run(ONE, against="jax")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["E *forward [[]jax*]: unavailable *libjax.so: cannot open shared object file*"])


def test_a_missing_framework_that_nobody_named_is_skipped_and_told(run: Run, without: Callable[[str], None]) -> None:
    without("jax")
    without_torch = api.find_spec
    api.find_spec = lambda name: None if name == "torch" else without_torch(name)  # the fixture puts the right one back
    done = run(ONE, against="")
    done.assert_outcomes(passed=1, skipped=2)
    done.stdout.fnmatch_lines(["SKIPPED * jax is not installed: pip install jax"])
    done.stdout.fnmatch_lines(
        ["jax is not installed: pip install jax; checks of it are skipped, and --harness-require jax * (1 tests)"]
    )


def test_wrong_settings_in_code_fail_the_collection_in_one_line(run: Run) -> None:
    done = run(ONE.replace('checks=["forward"]', 'dtypes=["float8"]'))
    assert done.ret == 2
    done.stdout.fnmatch_lines(["parametrize_with_checks: dtypes: ?'float8'?; accepted is a list of *"])
    assert "Traceback" not in done.stdout.str()
    done = run(ONE.replace('checks=["forward"]', 'expected_failures={"right": {"nope": "why"}}'))
    done.stdout.fnmatch_lines(["parametrize_with_checks: expected_failures: ?'nope'?; accepted are forward, *"])


EXPECTED = """
REASONS = {"clips": {"linear_in_cotangent": "it clips on purpose", "deterministic": "I think so"}}

@parametrize_with_checks([CLIPS], checks=["linear_in_cotangent", "deterministic", "layouts"], expected_failures=REASONS)
def test_layers(layer, check):
    check(layer)
"""


def test_an_expected_failure_is_xfailed_with_its_reason_and_a_pass_fails_strictly(run: Run) -> None:
    for suite in (EXPECTED, EXPECTED.replace("=REASONS", "=lambda spec: REASONS[spec.name]")):
        done = run(suite)
        done.assert_outcomes(passed=1, xfailed=1, failed=1)
        done.stdout.fnmatch_lines(
            [
                "[[]XPASS(strict)] it was expected to fail (I think so), and does not: take it from the list",
                "XFAIL *linear_in_cotangent] - in float64, float32: expected (it clips on purpose): the cotangent 2 dy *",
            ]
        )
    done = run(EXPECTED, "--runxfail")
    done.stdout.fnmatch_lines(["E  *ConformanceError: clips does not conform*", "FAILED *linear_in_cotangent] - *"])


CLASSES = """
MARKED = parametrize_with_checks([RIGHT, CLIPS], checks=["forward", "linear_in_cotangent"])

@MARKED
class TestLayers:
    def test_one(self, layer, check):
        check(layer)

    @pytest.mark.parametrize("times", [1, 2])
    def test_two(self, layer, check, times):
        for _ in range(times):
            check(layer)
"""


def test_classes_and_modules_may_be_marked(run: Run) -> None:
    done = run(CLASSES)
    done.assert_outcomes(passed=9, failed=3)
    done.stdout.fnmatch_lines(["FAILED test_mine.py::TestLayers::test_two[[]clips-linear_in_cotangent-2] - *"])
    mark = "pytestmark = parametrize_with_checks([RIGHT], checks=['forward'])"
    run(f"{mark}\n\ndef test_it(layer, check):\n    check(layer)\n").assert_outcomes(passed=1)


def test_a_test_that_never_calls_its_check_fails(run: Run) -> None:
    done = run(ONE.replace("    check(layer)\n", "    return\n"))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["the test never called its check, so that nothing was checked: check(layer)"])


def test_a_failure_shows_the_users_line_and_none_of_the_harness(run: Run) -> None:
    suite = CLASSES + "\ndef test_fixture(check_layer):\n    check_layer(CLIPS)\n"
    done = run(suite, "-k", "clips-linear or fixture")
    shown = done.stdout.str()
    assert "def _hand_out" not in shown
    assert "items.py" not in shown
    done.stdout.fnmatch_lines([">       check(layer)", "E  *ConformanceError: clips does not conform: 2 of 2 checks fail"])
    done.stdout.fnmatch_lines([">       check_layer(CLIPS)", "E  *ConformanceError: clips does not conform: 2 of * checks fail"])


def test_junit_names_the_layer_the_framework_the_check_and_the_dtypes(run: Run, pytester: pytest.Pytester) -> None:
    run(
        CLASSES + "\ndef test_fixture(check_layer):\n    check_layer(RIGHT)\n",
        "--junitxml",
        "found.xml",
        "--harness-dtypes",
        "float32",
    )
    cases = {case.attrib["name"]: case for case in ET.parse(pytester.path / "found.xml").iter("testcase")}
    properties = {
        name: {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")} for name, case in cases.items()
    }
    named = {
        "layer": "clips",
        "framework": "numpy",
        "check": "linear_in_cotangent",
        "dtype": "float32",
        "failing_dtype": "float32",
    }
    assert properties["test_one[clips-linear_in_cotangent]"] == named
    assert properties["test_one[right-forward]"] == {
        "layer": "right",
        "framework": "numpy",
        "check": "forward",
        "dtype": "float32",
    }
    assert properties["test_fixture"]["layer"] == "right"
    assert {case.attrib["classname"] for name, case in cases.items() if "one" in name} == {"test_mine.TestLayers"}


def test_nothing_is_told_outside_actions_nor_written_where_all_is_right(run: Run, memory: InMemoryExampleDatabase) -> None:
    done = run(ONE)
    assert "= harness =" not in done.stdout.str()
    assert not memory.data


FIXTURE = """
def test_fixture(check_layer):
    check_layer(CLIPS, dtypes=["float64"])

def test_that_expects_it(check_layer):
    with pytest.raises(AssertionError):
        check_layer(CLIPS, dtypes=["float64"])
"""


def test_trials_of_the_fixture_are_tried_again_until_they_pass(run: Run, memory: InMemoryExampleDatabase) -> None:
    key = ("test_mine.py::test_fixture", "check_layer 0")
    run(FIXTURE, "--harness-seed", "5").assert_outcomes(passed=1, failed=1)
    assert remembered.recall(*key) == (TrialId(5, 0, "float64"),)
    assert b"test_that_expects_it" not in b"".join(memory.data)
    tried = "    report = {}\n    assert {{one.trials for one in report.results if one.check == 'forward'}} == {{8}}\n"
    call = "check_layer(RIGHT, dtypes=['float64'])"
    run("def test_fixture(check_layer):\n" + tried.format(call)).assert_outcomes(passed=1)
    assert remembered.recall(*key) == ()


def test_without_hypothesis_that_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "find_obstacle", lambda failing: "failing trials are not remembered: why")
    run(ONE).stdout.fnmatch_lines(["*= harness =*", "failing trials are not remembered: why (1 tests)"])


def test_actions_get_annotations_and_a_summary(run: Run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    many = """
class Wrong(layers.Swish):
    def backward(self, dy):
        return 2 * super().backward(dy)

SPECS = [LayerSpec(Wrong, layers.swish, [(3, 2)], name=f"wrong{i}") for i in range(12)]

@parametrize_with_checks([*SPECS, RIGHT], checks=["gradients"], cases=1, dtypes=["float64"])
def test_layers(layer, check):
    check(layer)
"""
    done = run(many)
    commands = [line for line in done.outlines if line.startswith("::")]
    assert len(commands) == 10
    line = (pytester.path / "test_mine.py").read_text("utf-8").splitlines().index("class Wrong(layers.Swish):") + 1
    assert all(one.startswith(f"::error file=test_mine.py,line={line},title=wrong") for one in commands[:9])
    assert commands[9] == "::error title=harness::and 3 more; the step summary and the log tell of them"
    text = (pytester.path / "summary.md").read_text("utf-8")
    assert text.startswith("# ❌ 12 of 13 layers fail: 12 of 13 checks\n")
    assert "| wrong11 | gradients | ❌ failed |" in text
    assert "| right | gradients | passed |" in text


def test_the_tests_of_a_layer_are_a_group_of_xdist(run: Run) -> None:
    suite = ONE.replace("(layer, check):", "(layer, check, request):")
    marks = '    assert request.node.get_closest_marker("xdist_group").args == ("right",)\n'
    run(suite + marks).assert_outcomes(passed=1)


LOADED = """
import os

class Counts(layers.Clips):
    def forward(self, x):
        with open(os.environ["COUNTS"], "a") as file:
            file.write(f"{type(self).__name__} {os.getpid()}\\n")
        return super().forward(x)

class Others(Counts):
    pass

CHECKS = ["gradients", "linear_in_cotangent", "deterministic"]

@parametrize_with_checks([LayerSpec(Counts, layers.swish, [(6, 5)])], checks=CHECKS, shrink=False)
class TestCounts:
    def test_layers(self, layer, check):
        check(layer)

@parametrize_with_checks([LayerSpec(Others, layers.swish, [(6, 5)])], checks=CHECKS, shrink=False)
class TestOthers:
    def test_layers(self, layer, check):
        check(layer)
"""
FAILING = r"::error file=test_mine\.py,line=\d+,title=(Counts|Others)%3A linear"


def test_workers_run_each_layer_once_remember_what_failed_and_leave_the_telling_to_one(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(HEAD + LOADED, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nharness_against = none\nharness_dtypes = float32\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "harness.pytest_plugin", "-p", "no:cacheprovider", "test_mine.py"]
    own = {"PYTHONPATH": str(ROOT), "COUNTS": str(tmp_path / "counts"), "GITHUB_WORKSPACE": str(tmp_path)}
    usual = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}

    def start(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        settings = {**usual, **own, **more}
        return subprocess.run(
            [*command, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False, env=settings
        )

    ran = start("-n", "2", "--dist", "loadscope", "--junitxml", "found.xml")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    processes = Counter(line.split()[0] for line in set((tmp_path / "counts").read_text("utf-8").splitlines()))
    assert processes == {"Counts": 1, "Others": 1}
    assert "not remembered" not in ran.stdout
    properties = [one.attrib for one in ET.parse(tmp_path / "found.xml").iter("property")]
    assert sum(one["name"] == "failing_dtype" and one["value"] == "float32" for one in properties) == 2
    entries = [path.read_bytes() for path in (tmp_path / ".hypothesis" / "examples").rglob("*") if path.is_file()]
    assert entries.count(b'{"dtype": "float32", "index": 0, "seed": 0}') == 2

    told = start("-n", "2", "--harness-seed", "9", "--harness-cases", "1", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY="told.md")
    commands = [line for line in told.stdout.splitlines() if line.startswith("::")]
    assert len(commands) == 2
    assert all(re.match(FAILING, line) for line in commands)
    assert "have no database" in told.stdout  # so Hypothesis settles it in CI
    assert (tmp_path / "told.md").read_text("utf-8").startswith("# ❌ 2 of 2 layers fail: 2 of 6 checks")
