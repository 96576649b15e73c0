"""A layer stored narrow: float16 and bfloat16 arrays come in and go out, and float32 is computed in between."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from reference_layers import Add, Affine, Network, Node, SoftmaxCrossEntropy, Stored

NARROW = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


class Seen(Affine):
    """Keeps the dtypes of what it is given."""

    def forward(self, x):
        self.dtypes = [x.dtype]
        return super().forward(x)

    def backward(self, dy, cache=None):
        self.dtypes.append(dy.dtype)
        return super().backward(dy, cache)


@pytest.fixture
def numbers():
    rng = np.random.default_rng(5)
    return {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {"x": (7, 5), "W": (5, 3), "b": 3, "dy": (7, 3)}.items()
    }


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_everything_is_computed_in_float32_and_rounded_once(dtype, numbers):
    narrow = {name: value.astype(dtype) for name, value in numbers.items()}
    wide = {name: value.astype(np.float32) for name, value in narrow.items()}
    inner, alone = Seen(wide["W"], wide["b"]), Affine(wide["W"], wide["b"])
    layer = Stored(inner, dtype)
    y, dx = layer.forward(narrow["x"]), layer.backward(narrow["dy"])
    expected = alone.forward(wide["x"]), alone.backward(wide["dy"])
    assert inner.dtypes == [np.float32, np.float32]
    for got, wanted in (
        (y, expected[0]),
        (dx, expected[1]),
        (layer.grads["W"], alone.grads["W"]),
        (layer.grads["b"], alone.grads["b"]),
    ):
        assert got.dtype == dtype
        assert np.array_equal(got, wanted.astype(dtype))
        assert not np.array_equal(got.astype(np.float32), wanted)


def test_labels_stay_integers_and_what_is_no_input_gets_no_gradient():
    layer = Stored(SoftmaxCrossEntropy(), np.float16)
    assert layer.forward(np.zeros((2, 4), np.float16), np.array([0, 3])).dtype == np.float16
    assert layer.backward(np.float16(1)).dtype == np.float16


def test_what_a_layer_returns_in_another_dtype_is_not_hidden():
    class Promotes(Add):
        def forward(self, a, b):
            return super().forward(a, b).astype(np.float64)

    ones = np.ones(3, np.float16)
    assert Stored(Promotes(), np.float16).forward(ones, ones).dtype == np.float64


def test_a_read_only_input_stays_read_only():
    class Overwrites(Add):
        def forward(self, a, b):
            a += b
            return a

    ones = np.ones(3, np.float16)
    ones.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        Stored(Overwrites(), np.float16).forward(ones, ones)


def test_in_a_network_values_are_rounded_at_every_edge_and_fan_out_is_summed_narrow():
    dtype = np.dtype(ml_dtypes.bfloat16)
    network = Network([Node("a", Stored(Add(), dtype), ("x", "x")), Node("b", Stored(Add(), dtype), ("a", "x"))], ["x"])
    x = np.array([1.0078125, 3.0], dtype)
    y = network.forward({"x": x})
    assert y.dtype == dtype
    assert y.tolist() == [(x[0] + x[0] + x[0]).astype(float), 9.0]
    assert network.backward(np.ones(2, dtype))["x"].tolist() == [3.0, 3.0]
