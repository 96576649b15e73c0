"""Seeds come in; graphs that are valid, varied and within their limits go out."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from harness.core import NetworkSpec, NodeSpec
from harness.networks import (
    DEEPEST,
    FEWEST_ENTRIES,
    LARGEST_BATCH,
    LARGEST_WIDTH,
    SeededChooser,
    draw_network,
    draw_single,
    resize,
)


def _draw(layers, seed) -> NetworkSpec:
    return draw_network(SeededChooser(np.random.default_rng(seed)), layers)


@pytest.fixture(scope="module")
def drawn(layers) -> list[NetworkSpec]:
    return [_draw(layers, seed) for seed in range(400)]


def _widths(network: NetworkSpec) -> dict[str, int]:
    return {**network.widths, **{node.name: node.width for node in network.nodes}}


def _uses(network: NetworkSpec) -> Counter[str]:
    return Counter(name for node in network.nodes for name in node.inputs)


def test_every_node_reads_values_that_are_there_before_it(drawn):
    for network in drawn:
        known = set(network.widths)
        for node in network.nodes:
            assert set(node.inputs) <= known
            assert node.name not in known
            known.add(node.name)


def test_every_value_but_the_last_is_used(drawn):
    for network in drawn:
        assert {*network.widths, *(node.name for node in network.nodes)} - set(_uses(network)) == {network.output.name}


def test_widths_fit_together(drawn, layers):
    for network in drawn:
        widths = _widths(network)
        for node in network.nodes:
            if layers[node.layer].place in ("map", "merge"):
                assert {widths[name] for name in node.inputs} == {node.width}
            if layers[node.layer].place == "loss":
                assert widths[node.inputs[0]] == widths[node.inputs[1]]


def test_sizes_keep_their_limits_and_reach_both_ends(drawn):
    sizes = [size for network in drawn for size in _widths(network).values() if size]
    batches = [network.batch for network in drawn]
    assert 2 == min(sizes) < max(sizes) <= LARGEST_WIDTH
    assert max(sizes) > 0.9 * LARGEST_WIDTH
    assert 2 == min(batches) < max(batches) <= LARGEST_BATCH


def test_graphs_end_in_either_loss_and_have_from_one_to_the_most_blocks(drawn, layers):
    assert {network.output.layer for network in drawn} == {name for name, kind in layers.items() if kind.place == "loss"}
    projections = [sum(node.layer == "affine" for node in network.nodes) for network in drawn]
    assert max(projections) > DEEPEST
    assert min(projections) == 1


def test_values_are_reused_merged_and_brought_in_from_outside(drawn):
    assert sum(max(_uses(network).values()) > 1 for network in drawn) > 100
    assert sum(any(node.layer == "add" for node in network.nodes) for network in drawn) > 100
    assert sum(any(node.layer == "multiply" for node in network.nodes) for network in drawn) > 100
    assert sum(len(network.widths) > 2 for network in drawn) > 50


def test_graphs_are_the_same_for_the_same_seed_and_others_for_others(layers, drawn):
    assert _draw(layers, 3) == drawn[3]
    assert len({network.digest for network in drawn}) == len(drawn)


@pytest.mark.parametrize(
    "chosen",
    [
        ["affine"],
        ["relu"],
        ["add", "multiply"],
        ["affine", "sigmoid"],
        ["mean_squared_error"],
        ["relu", "affine", "mean_squared_error"],
    ],
)
def test_graphs_hold_only_the_layers_that_are_asked_for(layers, chosen):
    some = {name: layers[name] for name in chosen}
    networks = [_draw(some, seed) for seed in range(40)]
    assert {node.layer for network in networks for node in network.nodes} == set(chosen)


def test_a_chain_goes_on_in_a_width_of_its_own(layers):
    ahead = []
    for seed in range(60):
        network = _draw({name: layers[name] for name in ("affine", "relu")}, seed)
        widths = _widths(network)
        pairs = [pair for pair in pairwise(network.nodes) if [node.layer for node in pair] == ["affine", "relu"]]
        ahead += [widths[projection.inputs[0]] != projection.width for projection, _ in pairs]
    assert np.mean(ahead) > 0.8


def test_a_layer_alone_is_a_network_of_one_node(layers):
    for name, kind in layers.items():
        network = draw_single(SeededChooser(np.random.default_rng(1)), kind)
        assert [node.layer for node in network.nodes] == [name]
        assert len(network.widths) == len(kind.differentiable)
        assert network.batch * network.widths["x"] >= FEWEST_ENTRIES


def test_resizing_changes_the_batch_or_all_widths_and_nothing_else(layers, drawn):
    network = drawn[0]
    empty, narrow = resize(network, layers, batch=0), resize(network, layers, width=1)
    assert empty == NetworkSpec(network.widths, network.nodes, 0)
    assert set(_widths(narrow).values()) == {0, 1}
    assert narrow.batch == network.batch
    assert [(node.name, node.layer, node.inputs) for node in narrow.nodes] == [
        (node.name, node.layer, node.inputs) for node in network.nodes
    ]


def test_a_loss_keeps_no_width_when_resized(layers):
    network = NetworkSpec({"x": 3, "t": 3}, (NodeSpec("loss", "mean_squared_error", ("x", "t"), 0),), 4)
    assert resize(network, layers, width=1).output.width == 0


def test_sizes_are_drawn_evenly_on_a_log_scale():
    choose = SeededChooser(np.random.default_rng(0))
    sizes = [choose.size(2, 128) for _ in range(2000)]
    below_the_middle = np.mean(np.array(sizes) < 16)
    # Six standard deviations of a fair coin tossed 2,000 times.
    assert abs(below_the_middle - 0.5) < 6 * 0.5 / np.sqrt(2000)
