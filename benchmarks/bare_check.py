"""A bare local check: one network and what its nodes received and returned come in, how many entries are wrong goes out.

It is `harness.judge.local` for affine maps, ReLU and softmax cross-entropy alone, written out as NumPy calls, with
nothing that a general tool needs: no formula that is differentiated, no names, no shapes or infinities to look at, no
worst index, no wiring. What is left is every value and gradient in float64 from the arrays that the node received, a bound
of each from absolute values in float32, each entry compared with both, and in how many of them an error of 1e-2 and of
1e-6 would have been seen: without that a row that could show nothing would pass for `ok`. It is no proof of what NumPy can
do: without those two counts it takes a fifth to a quarter less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.core import Array, NodeTrace, Problem

U, SEEN, MILLIONTH = 2.0**-24, 0.005, 5e-7
Wide = np.float64


@dataclass(frozen=True)
class Counts:
    """How many entries are wrong, and in how many an error of 1e-2 and of 1e-6 would have been seen."""

    wrong: int
    percent: int
    millionth: int


def check_bare(problem: Problem, trace: Mapping[str, NodeTrace]) -> Counts:
    """Return the counts over every node's output and gradients, in float32.

    Raises KeyError on a layer that is not one of the three.
    """
    found = []
    for node in problem.case.network.nodes:
        seen = trace[node.name]
        found += CHECKS[node.layer](problem.params[node.name], seen)
    return Counts(*(sum(column) for column in zip(*found, strict=True)))


def prove(problem: Problem, trace: Mapping[str, NodeTrace]) -> None:
    """Raise RuntimeError unless the check finds nothing in a right trace and finds a weight gradient that is 0.1 % too large."""
    name = next(node.name for node in problem.case.network.nodes if node.layer == "affine")
    seen = trace[name]
    scaled = replace(seen, dparams={**seen.dparams, "W": seen.dparams["W"] * np.float32(1.001)})
    right, wrong = check_bare(problem, trace), check_bare(problem, {**trace, name: scaled})
    if right.wrong or not right.percent or not wrong.wrong:
        raise RuntimeError(f"the bare check judges nothing: {right} for a right network, {wrong} for a wrong one")


def _check_affine(params: Mapping[str, Array], seen: NodeTrace) -> list[tuple[int, int, int]]:
    x, W, b, dy = seen.inputs[0], params["W"], params["b"], seen.dy
    wide_x, wide_W, wide_dy = x.astype(Wide), W.astype(Wide), dy.astype(Wide)
    y, dx, dW, db = wide_x @ wide_W, wide_dy @ wide_W.T, wide_x.T @ wide_dy, wide_dy.sum(axis=0)
    y += b
    size_x, size_W, size_dy = np.abs(x), np.abs(W), np.abs(dy)
    batch, n_in, n_out = len(x), *W.shape
    bound_y = size_x @ size_W
    bound_y += np.abs(b)
    bound_y *= (n_in + 2) * U
    bound_dx, bound_dW = size_dy @ size_W.T, size_x.T @ size_dy
    bound_dx *= (n_out + 1) * U
    bound_dW *= (batch + 1) * U
    bound_db = size_dy.sum(axis=0) * np.float32((batch + 1) * U)
    return [
        _count(seen.y, y, bound_y), _count(seen.dx[0], dx, bound_dx),
        _count(seen.dparams["W"], dW, bound_dW), _count(seen.dparams["b"], db, bound_db),
    ]  # fmt: skip


def _check_relu(params: Mapping[str, Array], seen: NodeTrace) -> list[tuple[int, int, int]]:
    x = seen.inputs[0]
    passes = x > 0
    return [_count_equal(seen.y, np.where(passes, x, 0)), _count_equal(seen.dx[0], np.where(passes, seen.dy, 0))]


def _check_loss(params: Mapping[str, Array], seen: NodeTrace) -> list[tuple[int, int, int]]:
    x, weights = seen.inputs[0].astype(Wide), _weigh(*seen.inputs)
    z = x - x.max(axis=1, keepdims=True)
    e = np.exp(z)
    s = e.sum(axis=1, keepdims=True)
    log_p, p, total = z - np.log(s), e / s, weights.sum(axis=1, keepdims=True)
    scale = float(seen.dy) / len(x)
    y, dx = np.array([-(weights * log_p).sum() / len(x)]), (p * total - weights) * scale
    in_log_p = U * (2 * x.shape[1] + 16 - 4 * log_p)
    bound = (p * in_log_p * total + 8 * U * np.abs(p * total - weights)) * abs(scale)
    terms = np.abs(weights) * (in_log_p - (x.size + 3) * U * log_p)
    return [_count(np.ravel(seen.y), y, np.array([terms.sum() / len(x)])), _count(seen.dx[0], dx, bound)]


CHECKS = {"affine": _check_affine, "relu": _check_relu, "softmax_cross_entropy": _check_loss}


def _weigh(x: Array, t: Array) -> Array:
    """Return labels as weights of shape (N, C) in float64."""
    if t.ndim == 2:
        return t.astype(Wide)
    weights = np.zeros(x.shape)
    weights[np.arange(len(t)), t] = 1.0
    return weights


def _count(got: Array, true: Array, bound: Array) -> tuple[int, int, int]:
    wrong = np.count_nonzero(np.abs(got - true) > bound)
    size = np.abs(true)
    size *= SEEN
    percent = np.count_nonzero(bound <= size)
    size *= MILLIONTH / SEEN
    return wrong, percent, np.count_nonzero(bound <= size)


def _count_equal(got: Array, true: Any) -> tuple[int, int, int]:
    return int(np.count_nonzero(got != true)), got.size, got.size
