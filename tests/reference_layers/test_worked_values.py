"""Worked examples of the layers come in; exact arithmetic must give the same numbers, and any error in them must show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from mpmath import mp

from harness.discovery import find_layers
from harness.judge.worked import judge_formula
from reference_layers.layer import Worked

LAYERS = find_layers()
EXAMPLES = [
    pytest.param(kind, worked, id=f"{kind.name}{i + 1}") for kind in LAYERS.values() for i, worked in enumerate(kind.worked)
]
Rows = list[list[Fraction]]
Exact = Mapping[str, Any]


def _rows(numbers: Any) -> Rows:
    return [[Fraction(number) for number in row] for row in numbers]


def _map(function: Callable[..., Any], *matrices: Rows) -> Rows:
    return [[function(*numbers) for numbers in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def _product(a: Rows, b: Rows) -> Rows:
    return [[sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0)) for column in zip(*b, strict=True)] for row in a]


def _flip(a: Rows) -> Rows:
    return [list(column) for column in zip(*a, strict=True)]


def _power(x: float) -> Fraction:
    """Return exp of a logarithm of a small rational number: the number."""
    near = Fraction(float(mp.exp(x))).limit_denominator(64)
    assert float(mp.log(near.numerator) - mp.log(near.denominator)) == x, f"{x!r} is no logarithm of a small rational number"
    return near


def _affine(given: Worked) -> Exact:
    W, (b,), x, dy = _rows(given.params["W"]), _rows([given.params["b"]]), _rows(given.inputs[0]), _rows(given.dy)
    y = [[number + own for number, own in zip(row, b, strict=True)] for row in _product(x, W)]
    return {"y": y, "dx": (_product(dy, _flip(W)),), "W": _product(_flip(x), dy), "b": [sum(column) for column in _flip(dy)]}


def _relu(given: Worked) -> Exact:
    x, dy = _rows(given.inputs[0]), _rows(given.dy)
    return {"y": _map(lambda a: max(a, Fraction(0)), x), "dx": (_map(lambda a, d: d if a > 0 else Fraction(0), x, dy),)}


def _sigmoid(given: Worked) -> Exact:
    y = [[_power(x) / (1 + _power(x)) for x in row] for row in given.inputs[0]]
    return {"y": y, "dx": (_map(lambda a, d: d * a * (1 - a), y, _rows(given.dy)),)}


def _add(given: Worked) -> Exact:
    a, b, dy = (_rows(numbers) for numbers in (*given.inputs, given.dy))
    return {"y": _map(lambda x, z: x + z, a, b), "dx": (dy, dy)}


def _multiply(given: Worked) -> Exact:
    a, b, dy = (_rows(numbers) for numbers in (*given.inputs, given.dy))
    return {"y": _map(lambda x, z: x * z, a, b), "dx": (_map(lambda d, z: d * z, dy, b), _map(lambda d, x: d * x, dy, a))}


def _squared_error(given: Worked) -> Exact:
    y, t = (_rows(numbers) for numbers in given.inputs)
    apart = _map(lambda a, b: a - b, y, t)
    loss = sum(number**2 for row in apart for number in row) / (2 * len(y))
    return {"y": loss, "dx": (_map(lambda d: Fraction(given.dy) * d / len(y), apart), None)}


def _cross_entropy(given: Worked) -> Exact:
    powers, (_, labels) = [[_power(x) for x in row] for row in given.inputs[0]], given.inputs
    p = [[number / sum(row) for number in row] for row in powers]
    T = _rows(labels if isinstance(labels[0], tuple) else [[j == label for j in range(len(p[0]))] for label in labels])
    scaled = [[q * sum(weights) for q in row] for row, weights in zip(p, T, strict=True)]
    terms = _map(lambda weight, q: weight * (mp.log(q.numerator) - mp.log(q.denominator)), T, p)
    dx = _map(lambda q, weight: Fraction(given.dy) * (q - weight) / len(p), scaled, T)
    return {"y": -sum(term for row in terms for term in row) / len(p), "dx": (dx, None)}


EXACTLY: Mapping[str, Callable[[Worked], Exact]] = {
    "affine": _affine,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "add": _add,
    "multiply": _multiply,
    "mean_squared_error": _squared_error,
    "softmax_cross_entropy": _cross_entropy,
}


def _to_float(exact: Any) -> Any:
    if exact is None or isinstance(exact, list | tuple):
        return None if exact is None else tuple(map(_to_float, exact))
    return float(exact)


@pytest.mark.parametrize(("kind", "worked"), EXAMPLES)
def test_the_values_are_those_of_exact_arithmetic(kind, worked):
    with mp.workdps(50):
        exact = EXACTLY[kind.name](worked)
        assert _to_float(exact["y"]) == worked.y
        assert _to_float(exact["dx"]) == worked.dx
        assert {name: _to_float(value) for name, value in exact.items() if name not in ("y", "dx")} == worked.dparams
    assert worked.source


def _moved(numbers: Any, size: float) -> Iterator[Any]:
    """Yield the nested numbers with one of them moved by the relative size, or by the size itself where it is 0."""
    array = np.asarray(numbers, np.float64)
    for index in np.ndindex(array.shape):
        moved = array.copy()
        moved[index] += size * (abs(moved[index]) or 1.0)
        yield moved.tolist()


def _mutants(worked: Worked, size: float) -> Iterator[Worked]:
    yield from (replace(worked, y=y) for y in _moved(worked.y, size))
    for i, dx in enumerate(worked.dx):
        if dx is not None:
            yield from (replace(worked, dx=(*worked.dx[:i], moved, *worked.dx[i + 1 :])) for moved in _moved(dx, size))
    for name, value in worked.dparams.items():
        yield from (replace(worked, dparams={**worked.dparams, name: moved}) for moved in _moved(value, size))


@pytest.mark.parametrize(("kind", "worked"), EXAMPLES)
def test_every_number_is_sharp_enough_to_show_an_error_in_the_fourteenth_digit(kind, worked):
    mutants = list(_mutants(worked, 1e-13))
    numbers = np.size(worked.y) + sum(np.size(dx) for dx in worked.dx if dx is not None)
    assert len(mutants) == numbers + sum(np.size(value) for value in worked.dparams.values())
    for mutant in mutants:
        (red,) = [row for row in judge_formula(kind, mutant, "float64") if row.fails]
        assert (red.verdict, red.n_wrong, red.culprit) == ("mismatch", 1, "formula")
