"""Trials come in; that layers get them as they compute, and passes are read, must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.custom import layers
from tests.custom.contracts.asking import draw


@pytest.mark.parametrize(("dtype", "computes"), [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32")])
def test_arrays_have_the_dtype_in_which_layers_compute_and_are_read_only(dtype: str, computes: str) -> None:
    subject = draw(layers.Linear, layers.linear, dtype=dtype)
    arrays = [*subject.inputs, *subject.params.values(), subject.dy]
    assert {str(value.dtype) for value in arrays} == {computes}
    assert not any(value.flags.writeable for value in arrays)


def test_other_inputs_are_other_numbers_of_the_same_kind() -> None:
    subject = draw(layers.Bilinear, lambda xp, params, a, b: a * b, [(1, 3), (1, 3)], constants=(1,))
    (a, b), dy = subject.others
    assert not np.array_equal(a, subject.inputs[0])
    assert np.array_equal(b, subject.inputs[1])  # a constant is reversed, not scaled
    assert np.array_equal(dy, -subject.dy)


def test_what_a_pass_returned_is_named_and_copied() -> None:
    class Reuses(layers.Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.out = getattr(self, "out", dx)
            self.out[...] = dx
            return self.out

    subject = draw(Reuses, layers.linear)
    layer = subject.make()
    y = layer.forward(*subject.inputs)
    first = subject.run()
    assert list(first.name()) == ["y", "dx0", "dW", "db"]
    assert np.array_equal(first.y, y)


def test_rows_are_counted_where_inputs_share_them() -> None:
    assert draw(layers.Swish).count_rows() == 6
    assert draw(layers.Bilinear, lambda xp, params, a, b: a * b, [(4, 3), (3,)]).count_rows() is None
