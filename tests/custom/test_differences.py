"""Functions with known derivatives come in; that the slopes found lie within their doubts, and kinks are seen, must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.custom.differences import Forward, NoSlope, Slope, open_complex, open_real, weigh_complex

SMOOTH = {
    "square": (lambda x: x * x, lambda x: 2 * x),
    "linear": (lambda x: 3 * x, lambda x: np.full_like(x, 3)),
    "exp": (np.exp, np.exp),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "sine": (lambda x: np.sin(7 * x), lambda x: 7 * np.cos(7 * x)),
    "root": (lambda x: np.sqrt(x * x + 1e-4), lambda x: x / np.sqrt(x * x + 1e-4)),
    "narrow": (lambda x: np.exp(-1e4 * x * x), lambda x: -2e4 * x * np.exp(-1e4 * x * x)),
    "cancels": (lambda x: (1e6 + x) ** 2 - 1e12, lambda x: 2 * (1e6 + x)),
    "through float64": (lambda x: (x**3).astype(np.float64), lambda x: 3 * x * x),
    "through float32": (lambda x: (x * np.float64(1)).astype(np.float32).astype(np.float64) ** 2, lambda x: 2 * x),
}


def make(function: Any, x: Any) -> Forward:
    return Forward(lambda moved: function(moved["x"]), {"x": np.asarray(x, np.float64)})


def find_slopes(function: Any, x: Any) -> list[Slope]:
    """Return the slope by each entry of an elementwise function, by differences."""
    probe = open_real(make(function, x))
    dy = np.ones(np.shape(x))
    return [probe.weigh(probe.walk({"x": unit.reshape(dy.shape)}), dy) for unit in np.eye(dy.size)]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 8.0])
@pytest.mark.parametrize("name", SMOOTH)
def test_differences_lie_within_their_doubt(name: str, scale: float) -> None:
    function, derivative = SMOOTH[name]
    x = scale * np.random.default_rng(5).standard_normal(60)
    if name == "exp":
        x = np.minimum(x, 10)
    found = find_slopes(function, x)
    truth = derivative(x.astype(np.longdouble)).astype(np.float64)
    error = np.array([abs(one.value - true) for one, true in zip(found, truth, strict=True)])
    doubt = np.array([one.doubt for one in found])
    assert not any(one.is_kink for one in found)
    assert (error <= doubt).all(), (x[error > doubt], error[error > doubt], doubt[error > doubt])


@pytest.mark.parametrize(
    ("name", "most"), [("square", 1e-14), ("tanh", 1e-13), ("through float64", 1e-10), ("through float32", 1e-3)]
)
def test_the_doubt_follows_what_the_function_keeps(name: str, most: float) -> None:
    """A cast inside shows in the noise: what cannot be told is not said to be known."""
    function, derivative = SMOOTH[name]
    x = np.random.default_rng(6).uniform(0.5, 2, 40)
    doubt = np.array([one.doubt for one in find_slopes(function, x)]) / np.abs(derivative(x))
    assert np.median(doubt) < most
    if name == "through float32":
        assert np.median(doubt) > 1e-8


@pytest.mark.parametrize("x", [0.0, 1e-12, -1e-12, 3e-6, 0.001, -0.002, 0.01, 0.03, 0.2, -0.5])
def test_no_slope_is_believed_across_a_kink(x: float) -> None:
    """Steps that cross a kink give estimates that agree with one another, and are all wrong."""
    (found,) = find_slopes(np.abs, [x, 1.0])[:1]
    if found.is_kink:
        assert found.low - found.slack <= np.sign(x) <= found.high + found.slack
        assert abs(x) < 1e-6
    else:
        assert abs(found.value - np.sign(x)) <= found.doubt < 1e-6


def test_a_kink_gives_the_slopes_to_both_sides() -> None:
    (found,) = find_slopes(lambda x: np.where(x > 0, 3 * x, 0.5 * x), [0.0])
    assert found.is_kink
    assert found.low == pytest.approx(0.5)
    assert found.high == pytest.approx(3.0)
    assert found.slack < 1e-3
    assert np.isinf(found.doubt)


def test_the_slope_of_a_staircase_is_not_known() -> None:
    """Nobody who casts to half precision means the slope 0; but what is flat is flat."""
    x = np.random.default_rng(14).standard_normal(30)
    for function in (lambda x: x.astype(np.float16).astype(x.dtype), lambda x: np.round(1e3 * x) / 1e3):
        found = find_slopes(function, x)
        assert not any(one.doubt < 0.01 for one in found)
    assert {(one.value, one.doubt < 1e-200) for one in find_slopes(lambda x: 0 * x, x)} == {(0.0, True)}


def test_steps_out_of_the_domain_are_left_out() -> None:
    (found,) = find_slopes(np.log, [0.01, 1.0])[:1]
    assert abs(found.value - 100) <= found.doubt < 1e-8


def test_the_complex_step_of_analytic_code_is_right_to_the_last_bit_or_two() -> None:
    x = np.random.default_rng(7).standard_normal(20)
    forward = make(np.tanh, x)
    probe = open_complex(forward, open_real(forward))
    for i, unit in enumerate(np.eye(20)):
        found = weigh_complex(probe.step({"x": unit}), np.ones(20))
        assert found is not None
        assert found[0] == pytest.approx(float(1 - np.tanh(np.longdouble(x[i])) ** 2), rel=1e-15)


def test_the_complex_step_says_where_it_met_a_tie() -> None:
    forward = make(lambda x: np.maximum(x, 0), [0.0, 1.0])
    probe = open_complex(forward, open_real(forward))
    assert weigh_complex(probe.step({"x": np.array([1.0, 0.0])}), np.ones(2)) is None
    assert weigh_complex(probe.step({"x": np.array([0.0, 1.0])}), np.ones(2)) == (1.0, 0.0)


def write_into_buffer(x: Any) -> Any:
    y = np.zeros(x.shape)
    y[...] = x
    return y


@pytest.mark.parametrize(
    "function",
    [
        np.abs, write_into_buffer, lambda x: x.astype(float) ** 2, lambda x: np.array([float(one) for one in x]), np.arctan2,
        lambda x: x.real * 2.0,
    ],
    ids=["abs", "buffer", "astype", "float", "refuses", "real"],
)  # fmt: skip
def test_code_that_loses_the_imaginary_part_openly_is_not_stepped_through(function: Any) -> None:
    forward = make(lambda x: function(x, x) if function is np.arctan2 else function(x), [0.5, 1.0])
    with pytest.raises(NoSlope):
        open_complex(forward, open_real(forward))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: None, "forward returned object"),
        (lambda x: np.log(-np.abs(x)), "not finite"),
        (lambda x: 1 // 0, "ZeroDivisionError"),
        (lambda x: x > 0, "forward returned bool"),
    ],
)
def test_what_has_no_slope_is_said(function: Any, words: str) -> None:
    with pytest.raises(NoSlope, match=words):
        open_real(make(function, [1.0, 2.0]))


@pytest.mark.parametrize("order", ["C", "F"])
def test_every_pass_is_given_the_layout_of_the_arrays_themselves(order: Any) -> None:
    """A mask that is drawn in the order of memory would be another function in another layout."""
    seen = set()

    def function(x: Any) -> Any:
        seen.add(x.strides[0] > x.strides[1])
        return x * 2

    forward = make(function, np.asarray(np.random.default_rng(15).standard_normal((3, 4)), order=order))
    real = open_real(forward)
    real.weigh(real.walk({"x": np.ones((3, 4))}), np.ones((3, 4)))
    open_complex(forward, real).step({"x": np.ones((3, 4))})
    assert seen == {order == "C"}
