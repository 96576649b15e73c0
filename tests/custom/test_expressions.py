"""Expressions come in; what they are worth, with places changed, and how they are written, goes out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.custom.expressions import Expression, Node, apply, combine, evaluate, label, number, outline

X = Node("x", value=np.array([[1.0, 2.0], [3.0, 5.0]]))
Y = Node("y", value=np.array([[0.5, 0.25], [2.0, 4.0]]))


def test_a_graph_has_the_value_of_its_operations():
    root = X * Y - apply("sum", X, axis=0, keepdims=True) / 2
    assert np.array_equal(evaluate(root), X.value * Y.value - X.value.sum(0, keepdims=True) / 2)
    assert np.array_equal(evaluate(Node("@", (X, apply("T", Y)))), X.value @ Y.value.T)


def test_one_part_is_changed_where_it_stands_and_a_node_wherever_it_is_used():
    square = X * Y
    root = square + square * number(3)
    expression = Expression(root)
    once = expression.evaluate([(root, 0)], np.zeros_like)
    assert np.array_equal(once, 3 * X.value * Y.value)
    assert not expression.evaluate([square], np.zeros_like).any()
    assert np.array_equal(expression.evaluate(), 4 * X.value * Y.value)


def test_several_places_are_changed_alike():
    root = X * Y + X * X
    left, right = root.parts
    changed = Expression(root).evaluate([(left, 0), (right, 0)], np.ones_like)
    assert np.array_equal(changed, Y.value + X.value)


def test_what_a_changed_part_leads_to_follows_it():
    inner = X + 1
    root = apply("exp", inner) * inner
    changed = Expression(root).evaluate([(inner, 1)], lambda value: value + 1)
    assert np.allclose(changed, np.exp(X.value + 2) * (X.value + 2))


@pytest.mark.parametrize(
    ("root", "text"),
    [
        (X * (Y - 1), "x * (y - 1)"),
        (X - (Y - 1), "x - (y - 1)"),
        (X + (Y + 1), "x + y + 1"),
        (X / (Y * X), "x / (y * x)"),
        (apply("neg", X + Y), "-(x + y)"),
        (apply("neg", X * Y), "-(x * y)"),
        (apply("sum", X * Y, axis=1, keepdims=True), "sum(x * y, axis=1)"),
        (Node("@", (X, apply("T", Y))), "x @ y.T"),
        (Node("*", (X, Node(">", (Y, number(0))))), "x * (y > 0)"),
        (label(X + Y, "h") * X, "h * x"),
        (Node("", (X + Y,), function=np.copy) * X, "(x + y) * x"),
    ],
)
def test_it_is_written_with_the_brackets_that_it_needs(root, text):
    assert str(root) == text


def test_a_long_text_is_cut():
    root = Node("a rather long name", value=X.value)
    for _ in range(6):
        root = root + root
    assert root.write(60).endswith(" ...")
    assert len(root.write(60)) <= 60


def test_what_is_shared_over_and_over_is_written_and_evaluated_in_no_time():
    root = X
    for _ in range(60):
        root = root + root
    assert len(str(root)) < 5000
    assert np.array_equal(evaluate(root), 2.0**60 * X.value)


@pytest.mark.parametrize(
    ("node", "name"), [(combine("*", X, 1), "x"), (combine("+", 0, X), "x"), (combine("-", 0, X), "neg"), (X / 1, "x")]
)
def test_what_an_author_leaves_out_is_left_out(node, name):
    assert node.name == name


def test_a_product_with_0_is_0():
    assert (X * 0).is_number
    assert (X * 0).value == 0


def test_steps_of_a_loop_look_alike_and_other_operations_do_not():
    steps = [number(1) - Node(name, value=np.ones(3)) for name in ("a", "b")]
    assert outline(steps[0]) == outline(steps[1]) != outline(number(2) - X)
