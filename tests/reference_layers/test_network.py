"""Graphs come in; their order, their fan-out, their gradients, their picture and their complaints are held."""

from __future__ import annotations

import re
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_layers import Add, Affine, Multiply, Network, Node, Pair, ReLU, Sigmoid, SoftmaxCrossEntropy

MAKERS = {"add": (Add, 2), "multiply": (Multiply, 2), "relu": (ReLU, 1)}


@st.composite
def graphs(draw, most=7):
    """Draw a graph as (name, kind, inputs) in an order that works; whole numbers go through it without rounding."""
    names, nodes = ["p", "q"], []
    for i in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from(["add", "add", "relu", "multiply"]))
        inputs = tuple(draw(st.sampled_from(names)) for _ in range(MAKERS[kind][1]))
        nodes.append((f"n{i}", kind, inputs))
        names.append(f"n{i}")
    return nodes


def build(graph, output=None):
    """Return a network with layers of its own."""
    return Network([Node(name, MAKERS[kind][0](), inputs) for name, kind, inputs in graph], ["p", "q"], output)


def whole_inputs(seed=0):
    """Return small whole numbers, none of them 0."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(1, 3, (2, 3)) * rng.choice([-1.0, 1.0], (2, 3)) for name in ("p", "q")}


def run(network, seed=0):
    """Return the output and the gradients of a network for whole numbers."""
    y = network.forward(whole_inputs(seed))
    return y, network.backward(np.array([[1.0, -2.0, 3.0], [2.0, 1.0, -1.0]]))


def differentiate_by_paths(graph, output, seed):
    """Return the gradients by summing over all paths from the output: the chain rule without a graph's economy."""
    kinds = {name: (kind, inputs) for name, kind, inputs in graph}

    def value(name):
        if name in ("p", "q"):
            return whole_inputs(seed)[name]
        kind, inputs = kinds[name]
        a, *b = [value(other) for other in inputs]
        return np.maximum(a, 0) if kind == "relu" else a + b[0] if kind == "add" else a * b[0]

    def derivative(name, wanted):
        if name in ("p", "q"):
            return float(name == wanted)
        kind, inputs = kinds[name]
        slopes = [derivative(other, wanted) for other in inputs]
        if kind == "relu":
            return slopes[0] * (value(inputs[0]) > 0)
        if kind == "add":
            return slopes[0] + slopes[1]
        return slopes[0] * value(inputs[1]) + slopes[1] * value(inputs[0])

    dy = np.array([[1.0, -2.0, 3.0], [2.0, 1.0, -1.0]])
    return {wanted: dy * derivative(output, wanted) for wanted in ("p", "q")}


@given(graph=graphs(most=6), seed=st.integers(0, 9))
def test_contributions_of_every_use_are_summed(graph, seed):
    network = build(graph, graph[-1][0])
    _, gradients = run(network, seed)
    expected = differentiate_by_paths(graph, graph[-1][0], seed)
    assert gradients
    assert all(np.array_equal(gradients[name], expected[name]) for name in gradients)
    assert not any(expected[name].any() for name in {"p", "q"} - set(gradients))


@given(graph=graphs(), shuffled=st.randoms(use_true_random=False))
def test_the_order_in_which_nodes_are_given_changes_nothing(graph, shuffled):
    mixed = list(graph)
    shuffled.shuffle(mixed)
    one, other = run(build(graph, graph[-1][0])), run(build(mixed, graph[-1][0]))
    assert np.array_equal(one[0], other[0])
    assert one[1].keys() == other[1].keys()
    assert all(np.array_equal(one[1][name], other[1][name]) for name in one[1])


@given(graph=graphs(), shuffled=st.randoms(use_true_random=False))
def test_every_node_comes_after_what_it_reads(graph, shuffled):
    mixed = list(graph)
    shuffled.shuffle(mixed)
    seen = {"p", "q"}
    for node in build(mixed).nodes:
        assert set(node.inputs) <= seen
        seen.add(node.name)
    assert seen == {"p", "q"} | {name for name, _, _ in graph}


@given(graph=graphs())
def test_nodes_in_order_stay_as_they_are(graph):
    network = build(graph)
    assert [node.name for node in network.nodes] == [name for name, _, _ in graph]
    assert network.output == graph[-1][0]


@given(graph=graphs())
def test_inputs_and_cotangent_are_left_alone(graph):
    network, inputs, dy = build(graph), whole_inputs(), np.ones((2, 3))
    before = {name: value.copy() for name, value in inputs.items()}
    network.forward(inputs)
    gradients = network.backward(dy)
    assert all(np.array_equal(inputs[name], before[name]) for name in inputs)
    assert np.array_equal(dy, np.ones((2, 3)))
    assert not any(np.shares_memory(value, dy) for value in gradients.values())


def mlp(dtype="float64", batch=4):
    """Return a small classifier with a sum around its hidden layer, and its inputs, on a grid and off its kinks."""
    rng = np.random.default_rng(3)
    params = [(np.round(rng.standard_normal(shape) * 2**8) / 2**8).astype(dtype) for shape in ((3, 4), (4,), (4, 3), (3,))]
    nodes = [
        Node("loss", SoftmaxCrossEntropy(), ("logits", "t")),
        Node("sum", Add(), ("open", "squashed")),
        Node("logits", Affine(*params[2:]), ("sum",)),
        Node("squashed", Sigmoid(), ("hidden",)),
        Node("open", ReLU(), ("hidden",)),
        Node("hidden", Affine(*params[:2]), ("x",)),
    ]
    x = (np.round(rng.standard_normal((batch, 3)) * 2**8) / 2**8).astype(dtype)
    return Network(nodes, ["x", "t"]), {"x": x, "t": rng.integers(0, 3, batch)}


def noise_of(network, inputs, r):
    """Return how far rounding may move the output: every layer's bound, handed from node to node."""
    pairs = {name: Pair(value, np.zeros(value.shape)) for name, value in inputs.items()}
    for node in network.nodes:
        read = [pairs[name] for name in node.inputs]
        values = [pair.value for pair in read]
        chosen = {"decisions": node.layer.decisions(np, {}, *values)} if isinstance(node.layer, ReLU) else {}
        bound = node.layer.forward_bound(r, node.layer.params, *read, **chosen)
        pairs[node.name] = Pair(node.layer.forward(*values), bound)
    return float(pairs[network.output].error)


def test_backpropagation_equals_numerical_differentiation(differentiate, rounding):
    network, inputs = mlp()
    network.forward(inputs)
    gradients = network.backward(1.0) | network.grads
    noise = 2 * noise_of(network, inputs, rounding("float64"))  # doubled for the steps to either side
    hidden = next(node for node in network.nodes if node.name == "hidden").layer
    hidden.forward(inputs["x"])
    layers = {node.name: node.layer for node in network.nodes}

    def loss(where, key, value):
        if where is None:
            return float(network.forward(inputs | {"x": value}))
        kept, layers[where].params = layers[where].params, {**layers[where].params, key: value}
        try:
            return float(network.forward(inputs))
        finally:
            layers[where].params = kept

    for name, gradient in gradients.items():
        where, _, key = name.rpartition(".") if "." in name else (None, "", "x")
        x = inputs["x"] if where is None else layers[where].params[key]
        numerical, error = differentiate(lambda value, where=where, key=key: loss(where, key, value), x, noise)
        assert error < 1e-4 * np.abs(gradient).max(), name
        assert (np.abs(gradient - numerical) <= error).all(), name
    assert set(gradients) == {"x", "hidden.W", "hidden.b", "logits.W", "logits.b"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_dtype_and_shapes_are_kept(dtype, batch):
    network, inputs = mlp(dtype, batch)
    loss = network.forward(inputs)
    found = network.backward(loss.dtype.type(1))
    assert loss.dtype == dtype
    assert found["x"].shape == inputs["x"].shape
    assert {name: value.shape for name, value in network.grads.items()} == {k: v.shape for k, v in network.params.items()}
    assert {value.dtype for value in [found["x"], *network.grads.values()]} == {np.dtype(dtype)}
    assert np.isnan(loss) == (batch == 0)
    assert batch > 0 or not any(value.any() for value in network.grads.values())


def test_a_node_that_does_not_reach_the_output_has_zero_gradients_and_no_old_ones():
    network, inputs = mlp()
    network.forward(inputs)
    network.backward(1.0)
    idle = Network(network.nodes, network.inputs, output="hidden")
    idle.forward(inputs)
    assert set(idle.backward(np.ones((4, 4)))) == {"x"}
    assert idle.grads["hidden.W"].any()
    assert idle.grads["logits.W"].shape == (4, 3)
    assert not idle.grads["logits.W"].any()


def test_a_forward_pass_forgets_the_gradients_before_it():
    network, inputs = mlp()
    network.forward(inputs)
    network.backward(1.0)
    network.forward(inputs)
    assert network.grads == {}


def test_a_value_is_let_go_once_nothing_more_reads_it():
    class Watch(Add):
        def forward(self, a, b):
            y = super().forward(a, b)
            watched.append(weakref.ref(y))
            return y

    class Look(Add):
        def forward(self, a, b):
            alive.append([reference() is not None for reference in watched])
            return super().forward(a, b)

    watched, alive = [], []
    nodes = [
        Node("a", Watch(), ("x", "x")),
        Node("b", Watch(), ("a", "x")),
        Node("c", Look(), ("b", "x")),
        Node("d", Look(), ("b", "c")),
    ]
    assert np.array_equal(Network(nodes, ["x"]).forward({"x": np.ones(2)}), [7.0, 7.0])
    assert alive == [[False, True], [False, True]]


def test_a_missing_input_is_named():
    with pytest.raises(ValueError, match=r"input 'q' is missing; given are \['p'\]"):
        build([("n", "add", ("p", "q"))]).forward({"p": np.ones(1)})


@given(graph=graphs(), back=st.integers(0, 6))
def test_a_cycle_is_named(graph, back):
    last = graph[-1][0]
    place = back % len(graph)
    name = graph[place][0]
    cyclic = [*graph[:place], (name, "add", (last, "p")), *graph[place + 1 :]]
    reaches = {name}
    for node, _, inputs in cyclic[place + 1 :]:
        if reaches & set(inputs):
            reaches.add(node)
    if last in reaches:
        with pytest.raises(ValueError, match=r"the graph has a cycle: .* -> "):
            build(cyclic)
    else:
        assert len(build(cyclic).nodes) == len(graph)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ([("n", "add", ("p", "z"))], r"doubled \[\], unknown \['z'\]"),
        ([("n", "relu", ("p",)), ("n", "relu", ("q",))], r"doubled \['n'\], unknown \[\]"),
        ([("p", "relu", ("q",))], r"doubled \['p'\], unknown \[\]"),
        ([], "a network needs nodes"),
        ([("n", "add", ("n", "p"))], "the graph has a cycle: n -> n"),
    ],
)
def test_a_graph_that_is_none_is_explained(graph, message):
    with pytest.raises(ValueError, match=message):
        build(graph)


def test_an_unknown_output_is_named():
    with pytest.raises(ValueError, match=r"output 'x' is no node; accepted are \['n'\]"):
        build([("n", "relu", ("p",))], output="x")


def test_one_layer_at_two_nodes_is_refused():
    gate = ReLU()
    with pytest.raises(ValueError, match="a layer object of its own at each node"):
        Network([Node("a", gate, ("x",)), Node("b", gate, ("a",))], ["x"])


@given(graph=graphs())
def test_the_picture_has_every_node_and_every_edge(graph):
    text = build(graph).mermaid()
    keys = {name: key for key, name in re.findall(r'^    (\w+)(?:\(\[|\[)"(\w+)', text, re.M)}
    edges = re.findall(r"^    (\w+) --> (\w+)$", text, re.M)
    assert text.startswith("flowchart TD\n")
    assert set(keys) == {"p", "q"} | {name for name, _, _ in graph}
    assert len(set(keys.values())) == len(keys)
    assert sorted(edges) == sorted((keys[other], keys[name]) for name, _, inputs in graph for other in inputs)


HOSTILE = ['a"]', "a-b", "a_b", "<script>", "a;b", "a#quot;", "two\nlines", "`x`", "end"]


def test_no_name_breaks_the_picture():
    nodes = [Node(name, ReLU(), ("x",)) for name in HOSTILE]
    lines = Network(nodes, ["x"]).mermaid().splitlines()
    assert len(lines) == 2 + 2 * len(HOSTILE)
    assert all(re.fullmatch(r'    v\d+\[?\(?\[?"[^"`]*"\]?\)?\]?|    v\d+ --> v\d+|flowchart TD', line) for line in lines)
    assert not any(tag in line.replace("<br/>", "") for line in lines for tag in "<`")


@given(graph=graphs())
def test_the_representation_has_every_node_with_what_it_reads(graph):
    network = build(graph)
    first, *rows = repr(network).splitlines()
    assert first == f"Network(p, q) -> {network.output}"
    kinds = {"add": "Add()", "multiply": "Multiply()", "relu": "ReLU()"}
    assert rows == [f"  {name} = {kinds[kind]} of {', '.join(inputs)}" for name, kind, inputs in graph]
