"""Strategies come in; networks, cases and problems that are valid, and small once they have shrunk, go out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st

from harness.backends.numpy_reference import NumpyReference
from harness.cases import SHAPE_HAZARDS, list_hazards, make_problem
from harness.core import USUAL_DTYPES, case_from_json
from harness.discovery import find_layers
from harness.networks import LARGEST_BATCH, LARGEST_WIDTH
from harness.strategies import cases, networks, problems

LAYERS = find_layers()
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SEARCH = settings(max_examples=2000, deadline=None)


@FEW
@given(networks())
def test_networks_are_graphs_of_known_layers_within_the_limits(network):
    known = set(network.widths)
    for node in network.nodes:
        assert node.layer in LAYERS
        assert set(node.inputs) <= known
        assert node.width <= LARGEST_WIDTH
        known.add(node.name)
    assert 2 <= network.batch <= LARGEST_BATCH


@FEW
@given(cases())
def test_cases_survive_json_with_their_ids(case):
    assert case_from_json(case.to_json()) == case
    assert case.id.startswith("hypothesis-")


@FEW
@given(cases())
def test_cases_have_the_sizes_and_storage_that_their_hazards_say(case):
    planted = [SHAPE_HAZARDS[name] for name in case.hazards if name in SHAPE_HAZARDS]
    assert all(hazard.batch in (None, case.network.batch) for hazard in planted)
    assert [hazard.storage for hazard in planted if hazard.storage != "C"] == ([case.storage] if case.storage != "C" else [])


@FEW
@given(problems(), st.data())
def test_problems_run_in_the_hand_written_layers(problem, data):
    outcome = NumpyReference().prepare(problem.case.network, problem.case.dtype, LAYERS).run(problem)
    assert outcome.status == "ok"
    for name, value in outcome.gradients.items():
        node, dot, key = name.partition(".")
        assert value.shape == (problem.params[node][key] if dot else problem.inputs[node]).shape
        assert value.dtype == np.dtype(problem.case.dtype)


@FEW
@given(problems())
def test_a_problem_is_that_of_its_case(problem):
    again = make_problem(problem.case, LAYERS)
    assert problem.dy.tobytes() == again.dy.tobytes()


@FEW
@given(cases({name: LAYERS[name] for name in ("affine", "relu")}, dtypes=["float32"], hazards=["strided"]))
def test_settings_are_kept(case):
    assert {node.layer for node in case.network.nodes} <= {"affine", "relu"}
    assert case.dtype == "float32"
    assert set(case.hazards) <= {"strided"}


def test_every_hazard_and_dtype_is_drawn():
    seen: set[str] = set()

    @settings(max_examples=300, database=None, derandomize=True)
    @given(cases())
    def collect(case):
        seen.update((*case.hazards, case.dtype))

    collect()
    assert seen == {*list_hazards(LAYERS), *USUAL_DTYPES}


def test_a_layer_alone_shrinks_to_the_smallest_size():
    network = find(networks(), lambda network: [node.layer for node in network.nodes] == ["relu"], settings=SEARCH)
    assert (network.batch, network.widths) == (2, {"x": 4})


def test_a_graph_shrinks_to_the_fewest_blocks_that_show_the_same():
    def reuses(network):
        names = [name for node in network.nodes for name in node.inputs]
        return len(names) > len(set(names))

    network = find(networks(), reuses, settings=SEARCH)
    assert len(network.nodes) <= 7
    assert network.batch == 2
    assert max(network.widths.values()) == 2


def test_a_case_shrinks_to_one_without_hazards():
    case = find(cases(), lambda case: case.dtype == "float32", settings=SEARCH)
    assert case.hazards == ()
    assert (case.seed, case.scale, case.gain, case.storage) == (0, 1.0, 1.0, "C")


def test_nothing_else_of_the_harness_imports_hypothesis():
    look = "import harness.runner, harness.timing, harness.cases, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert "harness.timing" in loaded
    assert "hypothesis" not in loaded
