"""Dtypes, sizes and this or another machine's longdouble come in; the precision that judges goes out."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core import Case, Comparison, NetworkSpec, NodeSpec
from harness.discovery import find_backends, find_layers
from harness.judge import precision
from harness.judge.double_double import WIDE, DoubleDouble
from harness.judge.oracle import choose_precision
from harness.judge.precision import CROSS_OVER, choose_oracle, find_distance, find_eps, find_share, raise_to
from harness.shards import run_shard

EIGHTY_BITS, SAME_AS_DOUBLE = 2.0**-63, 2.0**-52


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_narrow_formats_are_judged_in_float64_whatever_the_size(dtype):
    assert choose_oracle(dtype, 10 * CROSS_OVER) == np.dtype(np.float64)


def test_float64_is_judged_in_longdouble_where_that_is_finer_and_the_products_are_small():
    assert choose_oracle("float64", CROSS_OVER - 1, EIGHTY_BITS) == np.dtype(np.longdouble)
    assert choose_oracle("float64", CROSS_OVER, EIGHTY_BITS) is WIDE
    assert choose_oracle("float64", 0, SAME_AS_DOUBLE) is WIDE


def test_this_machine_is_asked_unless_told():
    assert choose_oracle("float64") == choose_oracle("float64", 0, float(np.finfo(np.longdouble).eps))


def test_every_oracle_has_digits_to_spare():
    for eps in (EIGHTY_BITS, SAME_AS_DOUBLE):
        precision = choose_oracle("float64", 0, eps)
        assert precision is WIDE or eps == EIGHTY_BITS
    assert find_share(2.0**-52, WIDE) == 2.0**-47
    assert find_share(2.0**-23, np.dtype(np.float64)) == 2.0**-28
    assert find_eps(WIDE) == 2.0**-100


def test_distances_keep_what_the_truth_knows_beyond_float64():
    wide = DoubleDouble(np.ones(1), np.full(1, 2.0**-61))
    assert find_distance(np.ones(1), wide).tolist() == [2.0**-61]
    truth = np.ones(1, np.longdouble) + np.finfo(np.longdouble).eps
    assert find_distance(np.ones(1), truth).tolist() == [float(np.finfo(np.longdouble).eps)]
    assert find_distance(np.ones(1), truth).dtype == np.float64


def test_arrays_are_raised_to_either_kind_of_precision():
    assert isinstance(raise_to(np.ones(2), WIDE), DoubleDouble)
    assert raise_to(np.ones(2), np.dtype(np.longdouble)).dtype == np.longdouble
    assert raise_to(DoubleDouble(np.ones(2)), np.dtype(np.longdouble)).dtype == np.longdouble


def test_large_products_are_judged_in_double_double_with_the_same_verdicts(monkeypatch):
    layers, backends = find_layers(), find_backends()
    nodes = (
        NodeSpec("a", "affine", ("x",), 6), NodeSpec("r", "relu", ("a",), 6), NodeSpec("m", "multiply", ("r", "a"), 6),
        NodeSpec("loss", "softmax_cross_entropy", ("m", "t"), 0),
    )  # fmt: skip
    cases = [Case(NetworkSpec({"x": 4, "t": 6}, nodes, 5), "float64", seed=seed) for seed in range(3)]

    def run() -> list[Comparison]:
        return run_shard(cases, [backends[name] for name in ("numpy", "torch", "numerical")], layers, backends).comparisons

    small = run()
    monkeypatch.setattr(precision, "CROSS_OVER", 1)
    assert choose_precision("float64", 5, [np.ones((4, 6))]) is WIDE
    large = run()
    assert [(row.node, row.quantity, row.verdict, row.check) for row in small] == [
        (row.node, row.quantity, row.verdict, row.check) for row in large
    ]
    assert {row.verdict for row in large} == {"ok"}
    errors = [(a.error_in_bounds, b.error_in_bounds) for a, b in zip(small, large, strict=True)]
    assert any(a != b for a, b in errors)
    assert all(a == pytest.approx(b, rel=0.02, abs=0.01) for a, b in errors)


def test_the_size_is_that_of_the_largest_matrix_times_the_batch():
    assert choose_precision("float64", 4, [np.ones(1 << 20, np.int8)]).name != WIDE.name
    assert choose_precision("float32", 1 << 20, [np.ones((64, 64))]) == np.float64
