"""Faulty backends come in, beside right ones; a run in which their rows alone are red goes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from harness.backends.torch_autograd import TorchAutograd
from harness.core import NodeTrace, Outcome, Problem
from harness.floats import NARROW
from tests.meta.planting import cases_with, find_red, put, rows_of

torch = pytest.importorskip("torch")


@dataclass(frozen=True)
class Changed(TorchAutograd):
    """PyTorch, but what it returns goes through `change`."""

    name: str = "changed"
    change: Callable[[Outcome], Outcome] = field(default=lambda outcome: outcome)
    traced: bool = True

    def prepare(self, *arguments: Any) -> Any:
        return ChangedProgram(super().prepare(*arguments), self.change, self.traced)


@dataclass(frozen=True)
class ChangedProgram:
    program: Any
    change: Callable[[Outcome], Outcome]
    traced: bool

    def run(self, problem: Problem) -> Outcome:
        return self.change(self.program.run(problem))

    def trace(self, problem: Problem) -> Mapping[str, NodeTrace] | None:
        return self.program.trace(problem) if self.traced else None


def _last_gradient(change: Callable[[Any], Any]) -> Callable[[Outcome], Outcome]:
    """Return a change of the gradient that comes last by name."""

    def changed(outcome: Outcome) -> Outcome:
        name = max(outcome.gradients)
        return replace(outcome, gradients={**outcome.gradients, name: change(outcome.gradients[name])})

    return changed


def _drop(outcome: Outcome) -> Outcome:
    return replace(outcome, gradients=dict(sorted(outcome.gradients.items())[1:]))


def _raise(outcome: Outcome) -> Outcome:
    raise RuntimeError("planted\nin two lines")


FAULTS: Mapping[str, Callable[[Outcome], Outcome]] = {
    "one gradient 1e-3 too large": _last_gradient(lambda value: (value * 1.001).astype(value.dtype)),
    "one gradient of the other sign": _last_gradient(np.negative),
    "one gradient in half precision": _last_gradient(lambda value: value.astype(np.float16).astype(value.dtype)),
    "one gradient of another dtype": _last_gradient(lambda value: value.astype(np.longdouble)),
    "one gradient of another shape": _last_gradient(lambda value: value[None]),
    "one gradient NaN in one entry": _last_gradient(lambda value: put(value, 0, np.nan)),
    "one gradient left out": _drop,
    "one gradient None": _last_gradient(lambda value: None),
    "one gradient text": _last_gradient(lambda value: np.full(value.shape, "a")),
    "another output": lambda outcome: replace(outcome, y=outcome.y * np.asarray(1.01, outcome.y.dtype)),
    "no output": lambda outcome: replace(outcome, y=None),
    "no outcome": lambda outcome: None,
    "an exception": _raise,
}
# Those that a format of 8 digits may show without a trace: 1e-3 of a gradient, half precision and 1 % of an output are not.
GROSS = [
    name for name in FAULTS if name not in ("one gradient 1e-3 too large", "one gradient in half precision", "another output")
]
CASES = [case for case in cases_with("sigmoid") if case.network.batch > 1][::4]


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "untraced"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_backend_turns_its_rows_alone_red(fault, traced, backends):
    accused = Changed(change=FAULTS[fault], traced=traced)
    red = find_red(CASES, [backends["numpy"], accused, backends["torch"]])
    assert {(row.backend, row.culprit) for row in red} == {("changed", "changed")}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("traced", [True, False], ids=["traced", "untraced"])
@pytest.mark.parametrize("fault", GROSS)
def test_a_gross_fault_of_one_backend_turns_its_rows_alone_red_in_a_narrow_dtype(fault, traced, dtype, backends):
    cases = [case for case in cases_with("sigmoid", (dtype,), 150) if case.network.batch > 1][::4]
    accused = Changed(change=FAULTS[fault], traced=traced)
    red = find_red(cases, [backends["numpy"], accused, backends["torch"]])
    assert {(row.backend, row.culprit) for row in red} == {("changed", "changed")}


def test_the_backend_unchanged_stays_green(backends):
    rows = [row for rows in rows_of(CASES, [Changed(), backends["torch"]]) for row in rows]
    assert {row.backend for row in rows} == {"changed", "torch"}
    assert [row for row in rows if row.fails] == []


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "untraced"])
def test_branches_that_no_rounding_explains_are_red(traced):
    @dataclass(frozen=True)
    class Ungated(Changed):
        """Takes every gate for open, and says so: its gradients fit the branches that it claims."""

        def prepare(self, network: Any, dtype: str, layers: Any) -> Any:
            class Open(layers["relu"]):
                @staticmethod
                def formula(xp: Any, params: Any, x: Any, decisions: Any = None) -> Any:
                    return x * 1

            program = TorchAutograd.prepare(self, network, dtype, {**layers, "relu": Open})
            return Claiming(program, self.traced)

    @dataclass(frozen=True)
    class Claiming:
        program: Any
        traced: bool

        def run(self, problem: Problem) -> Outcome:
            outcome = self.program.run(problem)
            shapes = {name: seen.y.shape for name, seen in self.program.trace(problem).items() if name.startswith("relu")}
            return replace(outcome, decisions={name: np.ones(shape, bool) for name, shape in shapes.items()})

        def trace(self, problem: Problem) -> Any:
            return self.program.trace(problem) if self.traced else None

    red = find_red([case for case in cases_with("relu") if case.network.batch > 1][:10], [Ungated(traced=traced)])
    assert red
    if not traced:
        assert [row.quantity for row in red] == ["branch"]
        assert "branches no rounding explains" in red[0].message


def test_an_exception_becomes_one_line():
    (row,) = find_red(CASES[:1], [Changed(change=_raise)])
    assert row.verdict == "error"
    assert re.fullmatch(r"RuntimeError: planted in two lines \(line \d+ of test_backend_faults\.py, in _raise\)", row.message)
