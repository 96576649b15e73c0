"""Formulas of every function of the subset come in; double-double values and gradients that balls and HIPS confirm go out."""

from __future__ import annotations

import flint
import numpy as np
import pytest

from harness.array_api import SUBSET, make_autograd_namespace
from harness.backends.autograd_hips import differentiate
from harness.judge.double_double import WIDE, DoubleDouble, widen
from harness.judge.wide_formula import differentiate_wide, find_wide_truth, lift_wide, scatter, spread, sum_to
from harness.judge.wide_operations import make_wide_namespace
from tests.judge.balls import to_balls, wide_balls
from tests.judge.measuring import find_worst
from tests.test_array_api import EXAMPLES, WEIGHTS, X

REFERENCE = np.dtype(np.longdouble) if np.finfo(np.longdouble).eps < 1e-18 else np.dtype(np.float64)


def _run(function, *arrays, dy=None):
    """Return value and gradients of a function of xp and arrays, in double-double."""
    leaves = tuple(widen(array) for array in arrays)
    y, gradients = differentiate_wide(
        lambda given: function(make_wide_namespace(), *given), leaves, WEIGHTS if dy is None else dy
    )
    return y, gradients


@pytest.mark.parametrize("name", SUBSET)
def test_values_and_gradients_are_those_of_hips_in_its_highest_precision(name):
    function, _ = EXAMPLES[name]
    y, (dx,) = _run(function, X)
    y_hips, (dx_hips,) = differentiate(lambda given: function(make_autograd_namespace(), *given), (X.astype(REFERENCE),), WEIGHTS)
    scale = 64 * np.finfo(REFERENCE).eps
    for wide, hips in ((y, y_hips), (dx, dx_hips)):
        assert wide.shape == hips.shape
        assert np.abs(wide.to_longdouble().astype(REFERENCE) - hips).max() <= scale * max(1, np.abs(hips).max())


BALLS = {
    "exp": lambda b: b.exp(), "expm1": lambda b: b.expm1(), "log": lambda b: b.log(), "log1p": lambda b: b.log1p(),
    "sin": lambda b: b.sin(), "cos": lambda b: b.cos(), "tanh": lambda b: b.tanh(), "erf": lambda b: b.erf(),
    "sqrt": lambda b: b.sqrt(), "square": lambda b: b * b, "abs": abs,
}  # fmt: skip
DERIVATIVES = {
    "exp": lambda b: b.exp(), "expm1": lambda b: b.exp(), "log": lambda b: 1 / b, "log1p": lambda b: 1 / (1 + b),
    "sin": lambda b: b.cos(), "cos": lambda b: -b.sin(), "tanh": lambda b: 1 - b.tanh() * b.tanh(),
    "erf": lambda b: (-b * b).exp() * 2 / flint.arb.pi().sqrt(), "sqrt": lambda b: 1 / (2 * b.sqrt()),
    "square": lambda b: 2 * b, "abs": lambda b: flint.arb(1),
}  # fmt: skip


@pytest.mark.parametrize("name", BALLS)
def test_derivatives_of_functions_of_one_entry_are_as_exact_as_their_values(name):
    x = np.array([1e-9, 0.03, 0.7, 1.0, 2.5, 9.0, 21.0])
    y, (dx,) = _run(lambda xp, given: getattr(xp, name)(given), x, dy=np.full(7, -3.0))
    with wide_balls():
        assert find_worst(y, [BALLS[name](flint.arb(value)) for value in x]) < 2.0**-98
        assert find_worst(dx, [-3 * DERIVATIVES[name](flint.arb(value)) for value in x]) < 2.0**-96


PAIRS = {
    "+": (lambda xp, a, b: a + b, lambda a, b: (1 + 0 * a, 1 + 0 * b)),
    "-": (lambda xp, a, b: a - b, lambda a, b: (1 + 0 * a, -1 + 0 * b)),
    "*": (lambda xp, a, b: a * b, lambda a, b: (b, a)),
    "/": (lambda xp, a, b: a / b, lambda a, b: (1 / b, -a / b / b)),
    "**": (lambda xp, a, b: a**b, lambda a, b: (b * a ** (b - 1), a**b * a.log())),
    "maximum": (lambda xp, a, b: xp.maximum(a, b), lambda a, b: (int(a > b), int(a < b))),
    "minimum": (lambda xp, a, b: xp.minimum(a, b), lambda a, b: (int(a < b), int(a > b))),
    "where": (lambda xp, a, b: xp.where(a > b, a, 2 * b), lambda a, b: (int(a > b), 2 * int(a <= b))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_functions_of_two_are_exact_and_summed_where_one_was_broadcast(name):
    function, slopes = PAIRS[name]
    a, b, dy = np.array([[0.5, 2.25], [3.125, 0.7]]), np.array([[1.5], [0.3]]), np.array([[1.0, -2.0], [3.0, 0.1]])
    _, (da, db) = _run(function, a, b, dy=dy)
    with wide_balls():
        pairs = [[slopes(flint.arb(a[i, j]), flint.arb(b[i, 0])) for j in range(2)] for i in range(2)]
        exact_a = np.array([[pairs[i][j][0] * flint.arb(dy[i, j]) for j in range(2)] for i in range(2)], object)
        exact_b = np.array([[sum(pairs[i][j][1] * flint.arb(dy[i, j]) for j in range(2))] for i in range(2)], object)
        for made, exact in ((da, exact_a), (db, exact_b)):
            assert made.shape == exact.shape
            assert (abs(to_balls(made) - exact) <= 2.0**-95).all()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda xp, x: xp.sum(x), [[3.0] * 3] * 2),
        (lambda xp, x: xp.mean(x), [[0.5] * 3] * 2),
        (lambda xp, x: xp.max(x), [[0, 0, 0], [3, 0, 0]]),
        (lambda xp, x: xp.min(x), [[3, 0, 0], [0, 0, 0]]),
    ],
)
def test_reductions_to_a_number(function, expected):
    _, (dx,) = _run(function, X, dy=3.0)
    assert dx.hi.tolist() == expected
    assert not dx.lo.any()


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("keepdims", [True, False])
def test_gradients_of_reductions_are_those_of_hips(name, axis, keepdims):
    shape = np.sum(X, axis=axis, keepdims=keepdims).shape
    dy = 1 + np.arange(np.prod(shape)).reshape(shape)
    _, (dx,) = _run(lambda xp, x: getattr(xp, name)(x, axis=axis, keepdims=keepdims), X, dy=dy)
    hips = make_autograd_namespace()
    _, (expected,) = differentiate(lambda given: getattr(hips, name)(given[0], axis=axis, keepdims=keepdims), (X,), dy)
    assert np.allclose(dx.hi, expected, rtol=1e-15)


def test_subgradients_at_ties_and_kinks_are_those_of_hips():
    x = np.array([1.0, 1.0, 0.0])
    hips = make_autograd_namespace()
    for function in (
        lambda xp, x: xp.maximum(x, xp.ones_like(x)), lambda xp, x: xp.minimum(x, xp.ones_like(x)),
        lambda xp, x: xp.max(x, axis=0), lambda xp, x: xp.abs(x), lambda xp, x: xp.sign(x) * x,
    ):  # fmt: skip
        dy = np.ones(np.shape(function(make_autograd_namespace(), x)))
        (expected,) = differentiate(lambda given: function(hips, *given), (x,), dy)[1]  # noqa: B023  # reason: called at once
        assert _run(function, x, dy=dy)[1][0].hi.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "shapes", [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((5, 2, 3), (3, 4)), ((1, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 1))]
)
def test_gradients_of_products_of_any_shape_are_those_of_hips(shapes):
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(shape) for shape in shapes)
    dy = rng.standard_normal((a @ b).shape)
    _, made = _run(lambda xp, a, b: a @ b, a, b, dy=dy)
    _, expected = differentiate(lambda given: given[0] @ given[1], (a, b), dy)
    for mine, theirs in zip(made, expected, strict=True):
        assert mine.shape == np.shape(theirs)
        assert np.allclose(mine.hi, theirs, rtol=1e-13, atol=1e-14)


INDICES = [
    0,
    slice(1, None),
    (slice(None), 1),
    (slice(None), None),
    ([0, 1, 0], [1, 1, 1]),
    ...,
    (slice(None, None, -1), slice(0, 3, 2)),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_what_an_index_takes_is_given_back_and_added_up(index):
    shape = X[index].shape
    dy = np.ldexp(1.0, -np.arange(int(np.prod(shape)))).reshape(shape)
    expected = np.zeros_like(X)
    np.add.at(expected, index, dy)
    assert scatter(widen(dy), X.shape, index).hi.tolist() == expected.tolist()
    assert _run(lambda xp, x: x[index], X, dy=dy)[1][0].hi.tolist() == expected.tolist()


def test_what_is_taken_twice_is_added_in_double_double():
    made = scatter(DoubleDouble(np.array([1.0, 2.0**-80])), (1,), [0, 0])
    assert (made.hi.tolist(), made.lo.tolist()) == ([1.0], [2.0**-80])


def test_the_mean_of_nothing_is_nan_and_its_gradient_empty():
    y, (dx,) = _run(lambda xp, x: xp.sum(x) / x.shape[0] + xp.mean(x), np.ones((0, 4)), dy=1.0)
    assert np.isnan(y.hi)
    assert dx.shape == (0, 4)


def test_a_leaf_that_nothing_reads_has_a_gradient_of_zero():
    _, (_, unused) = _run(lambda xp, x, z: x * 2, X, np.ones(3))
    assert unused.hi.tolist() == [0, 0, 0]


def test_a_value_that_is_read_twice_gets_the_sum_of_its_gradients():
    (dx,) = _run(lambda xp, x: x * 2.0**-70 + x, X, dy=np.ones(X.shape))[1]
    assert (dx.hi == 1).all()
    assert (dx.lo == 2.0**-70).all()


def test_traced_values_tell_shape_and_precision_and_refuse_to_become_narrower():
    def look(xp, x):
        assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.T.shape) == ((2, 3), 2, 6, WIDE, 2, (3, 2))
        assert x.astype(WIDE) is x
        assert (x >= 0.5).tolist() == (X >= 0.5).tolist()
        assert (np.full(3, 0.5) > x).tolist() == (X < 0.5).tolist()
        with pytest.raises(TypeError, match="changes double-double to"):
            x.astype(np.float64)
        return np.ones(3) * x + abs(-x)

    assert _run(look, X)[1][0].hi.tolist() == (2 * WEIGHTS).tolist()


def test_branches_are_replayed(layers):
    x, dy = np.array([-1.0, 2.0]), np.array([3.0, 5.0])
    y, (dx,), dparams = find_wide_truth(layers["relu"], {}, (x,), dy, np.array([True, False]))
    assert (y.hi.tolist(), dx.hi.tolist(), dparams) == ([-1, 0], [3, 0], {})


def test_labels_are_left_as_they_are():
    labels = np.array([1, 2])
    assert lift_wide(labels) is labels
    assert isinstance(lift_wide(np.ones(2, np.float32)), DoubleDouble)


def test_a_gradient_is_summed_to_and_spread_from_the_shape_of_its_array():
    g = widen(np.arange(6.0).reshape(1, 2, 3))
    assert sum_to(g, (2, 1)).hi.tolist() == [[3.0], [12.0]]
    assert sum_to(g, ()).hi == 15
    assert spread(widen(np.array([1.0, 2.0])), (2, 3), 1, False).hi.tolist() == [[1.0] * 3, [2.0] * 3]
