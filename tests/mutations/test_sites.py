"""One graph with a residual, a product and a loss comes in; every place that a wrong wiring can have in it goes out."""

from __future__ import annotations

from harness.core import NetworkSpec, NodeSpec
from harness.mutations.sites import (
    Site,
    find_fan_outs,
    find_inputs,
    find_maps,
    find_merges,
    find_others,
    find_output,
    find_shared_nodes,
)
from tests.mutations.graphs import RESIDUAL

LINE = NetworkSpec({"x": 3}, (NodeSpec("affine1", "affine", ("x",), 2), NodeSpec("relu1", "relu", ("affine1",), 2)), 2)
TWICE = NetworkSpec({"x": 3}, (NodeSpec("add1", "add", ("x", "x"), 3),), 2)


def test_the_uses_of_a_value_that_is_used_twice():
    assert find_fan_outs(RESIDUAL) == [Site("affine2", 0), Site("multiply1", 0)]
    assert find_shared_nodes(RESIDUAL) == [Site("affine2", 0), Site("multiply1", 0)]
    assert find_fan_outs(LINE) == find_shared_nodes(LINE) == []
    assert find_fan_outs(TWICE) == [Site("add1", 0), Site("add1", 1)]
    assert find_shared_nodes(TWICE) == []


def test_the_nodes_that_read_two_values():
    assert find_merges(RESIDUAL) == [Site("multiply1"), Site("add1")]
    assert find_merges(TWICE) == []


def test_the_nodes_that_could_be_skipped():
    assert find_maps(RESIDUAL) == [Site("affine1"), Site("sigmoid1"), Site("affine2")]
    assert find_maps(LINE) == [Site("relu1")]


def test_other_values_of_the_same_width_that_are_there_already():
    found = find_others(RESIDUAL)
    assert Site("affine1", 0, "z") in found
    assert Site("sigmoid1", 0, "x") in found
    assert not [site for site in found if site.other in ("t", "loss1", site.node)]
    assert all(site.node != "sigmoid1" or site.other in ("x", "z") for site in found)
    assert find_others(LINE) == []


def test_the_output_and_the_inputs():
    assert find_output(LINE) == [Site("relu1")]
    assert find_inputs(RESIDUAL) == [Site("", 0, "x"), Site("", 0, "z")]
