"""Cases that a planted layer fails come in; that the smallest ones still fail in the same way, the same each time, goes out."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from harness import cli
from harness.cases import plan_cases
from harness.core import BadInput, Case, NetworkSpec, NodeSpec, case_from_json
from harness.discovery import find_layers
from harness.minimise import is_available
from harness.shrink import find_failures, set_widths, shrink_case, take_out
from tests.meta.layer_faults import FAULTS

NODES = (
    NodeSpec("affine1", "affine", ("x",), 7),
    NodeSpec("relu1", "relu", ("affine1",), 7),
    NodeSpec("multiply1", "multiply", ("affine1", "relu1"), 7),
    NodeSpec("affine2", "affine", ("multiply1",), 4),
    NodeSpec("softmax_cross_entropy1", "softmax_cross_entropy", ("affine2", "t"), 0),
)
DEEP = Case(NetworkSpec({"x": 9, "t": 4}, NODES, 12), "float64", 7, scale=2.0, storage="strided")


def plant(monkeypatch: pytest.MonkeyPatch, layer: str, fault: str) -> None:
    monkeypatch.setitem(find_layers(), layer, FAULTS[fault])


def test_a_faulty_layer_is_left_alone_with_one_number(monkeypatch):
    plant(monkeypatch, "relu", "gate that leaks 1e-3")
    before = find_failures(DEEP, ["numpy"])[0]
    small = shrink_case(DEEP, ["numpy"])
    assert [node.layer for node in small.network.nodes] == ["relu"]
    assert small.network.batch * small.network.output.width <= 4
    assert (small.scale, small.storage, small.dtype) == (1.0, "C", "float64")
    assert before in find_failures(small, ["numpy"])
    assert case_from_json(small.to_json()) == small


def test_the_same_failure_gives_the_same_case(monkeypatch):
    plant(monkeypatch, "affine", "bias gradient summed over the wrong axis")
    assert shrink_case(DEEP, ["numpy"]) == shrink_case(DEEP, ["numpy"])


def test_what_a_fault_needs_stays(monkeypatch):
    plant(monkeypatch, "softmax_cross_entropy", "last sample left out")
    small = shrink_case(DEEP, ["numpy"])
    assert [node.layer for node in small.network.nodes] == ["softmax_cross_entropy"]
    assert small.network.widths["x" if "x" in small.network.widths else "affine2"] == small.network.widths["t"] == 2


@pytest.mark.parametrize("index", range(3))
def test_random_networks_of_a_run_shrink(monkeypatch, index):
    plant(monkeypatch, "affine", "input gradient 1e-3 too large")
    plan = (cases[0] for cases in plan_cases(200, 3, find_layers(), dtypes=["float64"], hazards=[], draws=1))
    failing = (case for case in plan if len(case.network.nodes) > 2 and find_failures(case, ["numpy"]))
    case = next(islice(failing, index, None))
    small = shrink_case(case, ["numpy"])
    assert [node.layer for node in small.network.nodes] == ["affine"]
    assert find_failures(case, ["numpy"])[0] in find_failures(small, ["numpy"])
    assert small.network.batch == 1
    assert small.network.output.width == 1


def test_a_case_that_does_not_fail_is_refused():
    with pytest.raises(BadInput, match="does not fail on numpy"):
        shrink_case(DEEP, ["numpy"])


def test_nodes_that_are_taken_out_leave_a_graph_that_holds():
    network = take_out(DEEP.network, ["relu1", "multiply1"])
    assert [node.inputs for node in network.nodes] == [("x",), ("x", "relu1")]
    assert {node.width for node in network.nodes} == {9}
    assert dict(network.widths) == {"x": 9}


def test_targets_follow_what_they_are_compared_with():
    network = set_widths(DEEP.network, {"affine2": 2}, 3)
    assert (network.widths["t"], network.batch) == (2, 3)


def test_widths_that_do_not_fit_are_refused():
    gate = NetworkSpec({"x": 4, "z": 4}, (NodeSpec("multiply1", "multiply", ("x", "z"), 4),), 2)
    assert set_widths(gate, {"x": 2}, 2) is None
    assert set_widths(gate, {"x": 2, "z": 2}, 2).output.width == 2


def test_the_command_prints_the_smaller_case(monkeypatch, capsys):
    plant(monkeypatch, "relu", "gate that leaks 1e-3")
    assert cli.call(["replay", DEEP.to_json(), "--backends", "numpy", "--shrink"]) == 1
    shown = capsys.readouterr().out
    assert "smallest case found: relu, batch" in shown
    small = json.loads(shown.strip().splitlines()[-1])
    assert len(small["network"]["nodes"]) == 1
    assert cli.call(["replay", json.dumps(small), "--backends", "numpy"]) == 1


def test_hypothesis_is_here():
    assert is_available()
