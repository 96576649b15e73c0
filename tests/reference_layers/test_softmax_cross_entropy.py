"""SoftmaxCrossEntropy comes in; its labels, its stability, its gradient (p - T) / N and its complaints are held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_layers import Pair, SoftmaxCrossEntropy

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
KINDS = ["integer", "one_hot", "soft", "loose"]
every_labels = pytest.mark.parametrize("labels", KINDS)


def draw_labels(labels, batch, classes, dtype="float64", seed=0):
    """Return labels: whole numbers, one-hot weights, weights that sum to 1, or weights of either sign that sum to anything."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, classes, batch)
    if labels == "integer":
        return whole
    if labels == "one_hot":
        return np.eye(classes, dtype=dtype)[whole]
    weights = rng.random((batch, classes)) if labels == "soft" else rng.uniform(-1, 2, (batch, classes))
    return (weights / weights.sum(axis=1, keepdims=True) if labels == "soft" else weights).astype(dtype)


def draw_logits(batch, classes, dtype="float64", seed=0, scale=1.0):
    """Return random logits."""
    return (scale * np.random.default_rng(seed).standard_normal((batch, classes))).astype(dtype)


def as_weights(t, classes):
    """Return labels as weights (N, C)."""
    return np.eye(classes)[t] if t.ndim == 1 else t.astype(np.float64)


def as_pairs(*values):
    """Return exact values."""
    return [Pair(value if value.dtype.kind in "iu" else value.astype(np.float64), np.zeros(value.shape)) for value in values]


@every_labels
@every_dtype
@given(seed=st.integers(0, 99), batch=st.integers(1, 12), classes=st.integers(1, 12), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_the_gradient_is_probability_minus_label_over_the_batch(labels, dtype, rounding, seed, batch, classes, scale):
    x, t = draw_logits(batch, classes, dtype, seed, scale), draw_labels(labels, batch, classes, dtype, seed)
    layer = SoftmaxCrossEntropy()
    layer.forward(x, t)
    e = np.exp(x.astype(np.longdouble) - x.max(axis=1, keepdims=True))
    weights = as_weights(t, classes)
    truth = (e / e.sum(axis=1, keepdims=True) * weights.sum(axis=1, keepdims=True) - weights) / batch
    bound = SoftmaxCrossEntropy.backward_bound(rounding(dtype), {}, *as_pairs(x, t, np.ones(()))).dx[0]
    reference = 1 + 8 * 2.0**-52 / float(np.finfo(dtype).eps)  # the truth is at worst rounded as float64 is
    assert (np.abs(layer.backward(1.0) - truth) <= reference * bound).all()


@every_dtype
@every_labels
def test_logits_of_ten_thousand_are_safe(dtype, labels):
    x = draw_logits(6, 5, dtype, scale=1e4)
    x[0] = [1e4, -1e4, 1e4, 0, -1e4]
    layer = SoftmaxCrossEntropy()
    assert np.isfinite(layer.forward(x, draw_labels(labels, 6, 5, dtype)))
    assert np.isfinite(layer.backward(1.0)).all()


@every_dtype
def test_certain_logits_have_the_loss_that_they_deserve(dtype):
    x, layer = np.array([[1e4, 0.0], [1e4, 0.0]], dtype), SoftmaxCrossEntropy()
    assert layer.forward(x, np.array([0, 0])) == 0.0
    assert not layer.backward(1.0).any()
    assert layer.forward(x, np.array([0, 1])) == 5e3
    assert layer.backward(1.0).tolist() == [[0.0, 0.0], [0.5, -0.5]]


@given(seed=st.integers(0, 99), batch=st.integers(1, 9), classes=st.integers(1, 9))
def test_whole_labels_and_one_hot_weights_agree(seed, batch, classes, rounding):
    x = draw_logits(batch, classes, seed=seed)
    results = []
    for labels in ("integer", "one_hot"):
        layer, t = SoftmaxCrossEntropy(), draw_labels(labels, batch, classes, seed=seed)
        bound = SoftmaxCrossEntropy.forward_bound(rounding("float64"), {}, *as_pairs(x, t))
        results.append((layer.forward(x, t), layer.backward(1.0), bound))
    assert abs(results[0][0] - results[1][0]) <= results[0][2] + results[1][2]
    assert np.array_equal(results[0][1], results[1][1])


@given(seed=st.integers(0, 99), shift=st.integers(-1000, 1000))
def test_a_shift_of_all_logits_changes_nothing(seed, shift):
    x, t = np.round(draw_logits(4, 3, seed=seed) * 2**10) / 2**10, draw_labels("integer", 4, 3, seed=seed)
    one, other = SoftmaxCrossEntropy(), SoftmaxCrossEntropy()
    assert one.forward(x, t) == other.forward(x + shift, t)
    assert np.array_equal(one.backward(1.0), other.backward(1.0))


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", "uint64"])
def test_labels_of_every_whole_dtype_are_taken(kind):
    x, layer = draw_logits(3, 4, "float32"), SoftmaxCrossEntropy()
    assert layer.forward(x, np.array([0, 3, 1], kind)) == SoftmaxCrossEntropy().forward(x, np.array([0, 3, 1]))


@pytest.mark.parametrize("kind", ["bool", "int64", "float64"])
def test_weights_of_another_dtype_do_not_change_that_of_the_results(kind):
    layer = SoftmaxCrossEntropy()
    loss = layer.forward(draw_logits(3, 3, "float32"), np.eye(3).astype(kind))
    assert loss.dtype == np.float32
    assert layer.backward(np.float64(1)).dtype == np.float32


def test_the_upstream_gradient_is_not_ignored():
    x, t, layer = draw_logits(4, 3), draw_labels("integer", 4, 3), SoftmaxCrossEntropy()
    layer.forward(x, t)
    assert np.array_equal(layer.backward(8.0), 8 * layer.backward(1.0))
    assert np.array_equal(layer.backward(), layer.backward(1.0))


def test_one_class_alone_is_certain():
    layer = SoftmaxCrossEntropy()
    assert layer.forward(draw_logits(3, 1), np.zeros(3, int)) == 0.0
    assert not layer.backward(1.0).any()


@every_labels
def test_an_empty_batch_has_no_mean(labels):
    layer = SoftmaxCrossEntropy()
    assert np.isnan(layer.forward(draw_logits(0, 3), draw_labels(labels, 0, 3)))
    assert layer.backward(1.0).shape == (0, 3)


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (np.array([0, 3]), "label 3 is out of range; accepted are 0 to 2"),
        (np.array([-1, 0]), "label -1 is out of range; accepted are 0 to 2"),
        (np.array([0, 1, 2]), r"labels are int64\[3\]; accepted are \[2\] integers or weights \[2, 3\]"),
        (np.array([0.0, 1.0]), r"labels are float64\[2\]; accepted are \[2\] integers or weights \[2, 3\]"),
        (np.zeros((2, 2)), r"labels have shape \[2, 2\]; accepted are \[2\] integers or weights \[2, 3\]"),
        (np.zeros((2, 1), int), r"labels have shape \[2, 1\]; accepted are \[2\] integers or weights \[2, 3\]"),
        (np.array(1), r"labels have shape \[\]; accepted are \[2\] integers or weights \[2, 3\]"),
    ],
)
def test_labels_that_do_not_fit_are_named(t, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxCrossEntropy().forward(np.zeros((2, 3)), t)
