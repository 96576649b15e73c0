"""Strangers' objects in every style come in; what each adapter makes of their peculiarities, and refuses, goes out."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch

from harness import LayerSpec, check_layer, styles
from harness.core import BadInput
from harness.styles.updating import LARGE_STEP


class Scale:
    """y = g x, whose gradient is an attribute; `rate` is the step of an update inside backward, if any."""

    def __init__(self):
        self.g, self.rate = np.array([2.0, -3.0]), 0.1

    def forward(self, x):
        self.x = x
        return x * self.g

    def backward(self, dy):
        dx, self.dg = dy * self.g, (dy * self.x).sum(axis=0)
        return dx

    def backward_and_update(self, dy):
        dx = self.backward(dy)
        self.g = self.g - self.rate * self.dg
        return dx


def formula(xp, params, x):
    return x * params["g"]


X, DY = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.5, 1.0], [-1.0, 2.0]])


def run(make):
    layer = make()
    return layer.forward(X), layer.backward(DY), layer.grads


def test_missing_attributes_are_named():
    with pytest.raises(BadInput, match=r"params: 'h' is no attribute of Scale"):
        styles.from_attributes(Scale, params=["h"])()
    layer = styles.from_attributes(Scale, params=["g"], grads="grad_{}")()
    layer.forward(X)
    with pytest.raises(BadInput, match=r"grads: 'grad_g' is no attribute of Scale"):
        layer.backward(DY)


def test_a_step_taken_inside_backward_gives_the_gradient_back_to_a_few_ulps():
    y, dx, grads = run(styles.from_updating(Scale, ["g"], learning_rate="rate", backward="backward_and_update"))
    np.testing.assert_array_equal(y, X * [2, -3])
    np.testing.assert_array_equal(dx, DY * [2, -3])
    np.testing.assert_allclose(grads["g"], (DY * X).sum(axis=0), rtol=1e-15)
    assert LARGE_STEP > 1e9


def test_a_layer_that_updates_inside_backward_is_judged_like_any_other():
    make = styles.from_updating(Scale, ["g"], learning_rate="rate", backward="backward_and_update")
    assert check_layer(make, formula, inputs=[(4, 2)], against=[]).passed


def test_an_updating_layer_needs_just_one_way_to_its_gradient():
    for given in ({}, {"install": setattr, "learning_rate": "rate"}):
        with pytest.raises(BadInput, match=r"install, learning_rate: accepted is just one"):
            styles.from_updating(Scale, ["g"], **given)


def test_lists_must_have_a_name_for_each_parameter():
    with pytest.raises(BadInput, match=r"names: \['a'\]; accepted are 2 of them"):
        styles.from_lists(lambda: SimpleNamespace(params=[X, X], grads=[X, X]), names=["a"])()


class Adding:
    """y = g x, with dicts, whose gradient adds up."""

    def __init__(self):
        self.params, self.grads = {"g": np.array([2.0, -3.0])}, {"g": np.zeros(2)}

    def forward(self, x):
        self.x = x
        return x * self.params["g"]

    def backward(self, dy):
        self.grads["g"] = self.grads["g"] + (dy * self.x).sum(axis=0)
        return dy * self.params["g"]


def test_gradients_that_add_up_are_a_failure_unless_that_is_declared():
    report = check_layer(styles.from_dicts(Adding), formula, inputs=[(4, 2)], against=[], on_fail="report")
    assert {one.check for one in report.failures} >= {"backward_twice", "no_stale_state"}
    assert check_layer(styles.from_dicts(Adding, accumulates=True), formula, inputs=[(4, 2)], against=[]).passed


@pytest.mark.parametrize("rest", [lambda dg: [[dg]], lambda dg: [{"g": dg}], lambda dg: [dg]], ids=["list", "dict", "flat"])
def test_gradients_may_follow_dx_in_any_of_three_ways(rest):
    class Returning(Scale):
        def backward(self, dy):
            dx = super().backward(dy)
            return (dx, *rest(self.dg))

    assert run(styles.from_returned(Returning, ["g"]))[2]["g"].tolist() == (DY * X).sum(axis=0).tolist()


def test_too_few_gradients_are_counted():
    class Returning(Scale):
        def backward(self, dy):
            return super().backward(dy), []

    with pytest.raises(BadInput, match=r"backward: it returned 0 gradients behind dx; accepted are 1: g"):
        run(styles.from_returned(Returning, ["g"]))


def test_pairs_of_functions_take_their_arguments_in_the_order_that_is_named():
    def forward(g, x, options):
        return x * g, (x, g, options.pop("mode"))

    def backward(dout, cache):
        x, g, _ = cache
        return (dout * x).sum(axis=0), dout * g

    make = styles.from_functions(forward, backward, params={"g": np.ones(2)}, order=["g", "x"], extra=[{"mode": 1}])
    assert check_layer(make, formula, inputs=[(4, 2)], against=[]).passed
    with pytest.raises(BadInput, match=r"order: \['x'\] names no g"):
        styles.from_functions(forward, backward, params={"g": np.ones(2)}, order=["x"])
    with pytest.raises(BadInput, match=r"backward: it returned 1 gradients; accepted are 2"):
        run(styles.from_functions(lambda x, g: (x, g), lambda dout, cache: dout, params={"g": np.ones(2)}))


def test_the_place_of_a_derivative_is_input_or_output():
    with pytest.raises(BadInput, match=r"at: 'middle'; accepted are input, output"):
        styles.from_activation(np.tanh, np.cos, at="middle")


class SquaredError:
    """The mean over rows, with a backward pass that takes the cotangent, or none."""

    def forward(self, x, t):
        self.d = x - t
        return (self.d**2).sum(axis=1).mean()

    def backward(self, dout=1):
        return dout * 2 * self.d / len(self.d)


class WithoutCotangent(SquaredError):
    def backward(self):
        return 2 * self.d / len(self.d)


@pytest.mark.parametrize("kind", [SquaredError, WithoutCotangent])
def test_a_loss_layer_may_take_the_cotangent_or_none(kind):
    spec = LayerSpec(
        styles.from_loss_layer(kind),
        lambda xp, params, x, t: xp.mean(xp.sum((x - t) * (x - t), axis=1)),
        inputs=[(4, 3), (4, 3)],
        constants=(1,),
    )
    report = check_layer(spec, against=[], on_fail="report")
    assert {one.check for one in report.failures} <= {"empty_batch"}  # the mean of nothing is NaN


def test_a_loss_layer_of_more_arguments_is_refused():
    class Odd(SquaredError):
        def backward(self, dout, more):
            return dout

    layer = styles.from_loss_layer(Odd)()
    layer.forward(X, X)
    with pytest.raises(BadInput, match=r"backward: it takes dout, more"):
        layer.backward(1.0)


def test_a_module_of_torch_keeps_its_own_parameters():
    module = torch.nn.Linear(5, 3).double()
    before = module.weight.detach().clone()
    spec = LayerSpec(
        styles.from_torch(module), lambda xp, params, x: x @ params["weight"].T + params["bias"], inputs=[(4, 5)], name="linear"
    )
    assert check_layer(spec, against=[]).passed
    assert torch.equal(module.weight, before)
    assert module.weight.grad is None


def test_the_buffers_of_a_module_follow_the_dtype():
    def formula(xp, params, x):
        centred = x - xp.mean(x, axis=0, keepdims=True)
        var = xp.mean(centred * centred, axis=0, keepdims=True)
        return params["weight"] * centred / xp.sqrt(var + 1e-5) + params["bias"]

    module, given = torch.nn.BatchNorm1d(3), np.random.default_rng(0).standard_normal((6, 3))
    assert check_layer(LayerSpec(styles.from_torch(module), formula, [given], name="norm"), against=[]).passed
    assert module.running_mean.dtype == torch.float32


def test_an_input_that_a_function_of_torch_ignores_has_the_gradient_0():
    spec = LayerSpec(
        styles.from_torch(lambda a, b: a * 2 + 0 * b.detach()), lambda xp, params, a, b: a * 2 + 0 * b, [(3, 2), (3, 2)]
    )
    layer = spec.make()
    layer.forward(X, X)
    assert layer.backward(DY)[1].tolist() == np.zeros((2, 2)).tolist()


def test_torch_and_jax_refuse_what_cannot_be_called():
    for wrap in (styles.from_torch, styles.from_jax):
        with pytest.raises(BadInput, match=r"function: 3; accepted"):
            wrap(3)


def test_a_backward_pass_in_jax_is_given_jax_arrays_as_it_is_in_training():
    given = []
    cube = jax.custom_vjp(lambda params, x: params["g"] * x**3)
    cube.defvjp(
        lambda params, x: (params["g"] * x**3, (params["g"], x)),
        lambda kept, dy: (given.extend([*kept, dy]), ({"g": dy * kept[1] ** 3}, 3 * dy * kept[0] * kept[1] ** 2))[1],
    )
    layer = styles.from_jax(cube, params={"g": np.array([2.0])})()
    layer.forward(np.array([3.0]))
    assert layer.backward(np.array([5.0]))[0].tolist() == [270.0]
    assert [isinstance(value, jax.Array) for value in given] == [True] * 3


def test_a_function_of_jax_with_parameters_leaves_64_bit_numbers_switched_off():
    before = jax.config.jax_enable_x64
    make = styles.from_jax(lambda params, x: x * params["g"], params={"g": np.array([2.0, -3.0])})
    assert check_layer(make, formula, inputs=[(4, 2)], against=[]).passed
    assert jax.config.jax_enable_x64 == before


class ChannelsLast:
    """y = g x, over arrays whose channels come last, in training only."""

    training = False

    def __init__(self):
        self.params, self.grads = {"g": np.array([2.0, -3.0])}, {}

    def forward(self, x):
        assert self.training
        self.x = x
        return x * self.params["g"]

    def backward(self, dy):
        self.grads["g"] = (dy * self.x).sum(axis=(0, 1))
        return dy * self.params["g"]


def test_axes_and_modes_are_adjusted_to_those_of_the_formula():
    make = styles.adjust(
        ChannelsLast, input_axes=(0, 2, 1), output_axes=(0, 2, 1), before=lambda layer: setattr(layer, "training", True)
    )
    report = check_layer(make, lambda xp, params, x: x * params["g"][:, None], inputs=[(4, 2, 3)], against=[])
    assert report.passed


class TwoOutputs:
    """x squared, and x times 3."""

    def forward(self, x):
        self.x = x
        return x**2, 3 * x

    def backward(self, dy):
        return 2 * self.x * dy[0] + 3 * dy[1]


def test_several_outputs_are_judged_as_one_row():
    def both(xp, params, x):
        return xp.concat([xp.reshape(x**2, (-1,)), xp.reshape(3 * x, (-1,))])

    assert check_layer(styles.adjust(TwoOutputs, join=True), both, inputs=[(4, 3)], against=[]).passed


def test_a_declared_scale_is_divided_out_and_an_undeclared_one_is_found():
    class Averaging(Adding):
        def backward(self, dy):
            dx = super().backward(dy)
            self.grads = {"g": (dy * self.x).mean(axis=0)}
            return dx

    found = check_layer(styles.from_dicts(Averaging), formula, inputs=[(4, 2)], against=[], on_fail="report")
    assert "dg: it is 1/4 of the truth" in found.describe()
    adjusted = styles.adjust(styles.from_dicts(Averaging), gradient_scale=lambda x: 1 / max(len(x), 1))
    checks = ["forward", "gradients", "power"]  # a mean over no rows is NaN
    assert check_layer(adjusted, formula, inputs=[(4, 2)], against=[], checks=checks).passed
