"""Every layer comes in; what the layer contract promises of it is held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference_layers
from reference_layers import Layer, LayerBase, Pair

KINDS = [
    kind
    for kind in (getattr(reference_layers, name) for name in reference_layers.__all__)
    if isinstance(kind, type) and issubclass(kind, LayerBase) and kind is not LayerBase
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def _copies(arrays):
    return [np.array(array) for array in arrays]


def _equal(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


def _decisions(kind, layer, inputs):
    return {"decisions": kind.decisions(np, layer.params, *inputs)} if hasattr(kind, "decisions") else {}


def _pairs(arrays):
    return [Pair(np.asarray(array, np.float64), np.zeros(np.shape(array))) for array in arrays]


def _bounds(kind, sample, r):
    """Return the layer's bounds, by name, of its output and gradients on exact inputs."""
    params = {name: value.astype(np.float64) for name, value in sample.layer.params.items()}
    inputs, (dy,) = _pairs(sample.inputs), _pairs([sample.dy])
    chosen = _decisions(kind, sample.layer, sample.inputs)
    labels = [Pair(t, np.zeros(t.shape)) if t.dtype.kind in "iu" else pair for t, pair in zip(sample.inputs, inputs, strict=True)]
    bound = kind.backward_bound(r, params, *labels, dy, **chosen)
    dx = {f"dx{i}": value for i, value in enumerate(bound.dx) if value is not None}
    dparams = {f"d{name}": value for name, value in bound.dparams.items()}
    return {"y": kind.forward_bound(r, params, *labels, **chosen)} | dx | dparams


def _results(sample):
    return {"y": np.asarray(sample.forward())} | sample.backward()


def test_every_kind_is_found():
    assert {kind.name for kind in KINDS} == {
        "add",
        "affine",
        "mean_squared_error",
        "multiply",
        "relu",
        "sigmoid",
        "softmax_cross_entropy",
    }


@every_kind
def test_a_layer_keeps_the_protocol_and_shows_its_parameters(kind, draw):
    layer = draw(kind, "float32").layer
    assert isinstance(layer, Layer)
    assert repr(layer).startswith(f"{kind.__name__}(")
    assert all(f"{name}: float32{list(value.shape)}" in repr(layer) for name, value in layer.params.items())


@every_kind
@every_dtype
@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("width", [1, 4])
def test_dtype_and_shape_are_kept(kind, dtype, batch, width, draw):
    sample = draw(kind, dtype, batch, width)
    results = _results(sample)
    wanted = [value.shape for value, wanted in zip(sample.inputs, kind.differentiable, strict=True) if wanted]
    wanted += [value.shape for value in sample.layer.params.values()]
    assert {name: value.dtype for name, value in results.items()} == dict.fromkeys(results, np.dtype(dtype))
    assert [value.shape for name, value in results.items() if name != "y"] == wanted


@every_kind
@every_dtype
def test_an_empty_batch_has_empty_gradients_and_zero_ones_of_parameters(kind, dtype, draw):
    sample = draw(kind, dtype, batch=0)
    results = _results(sample)
    assert np.isnan(results["y"]).all() if kind.place == "loss" else results["y"].size == 0
    assert all(value.size == 0 for name, value in results.items() if name.startswith("dx"))
    assert all(value.size > 0 and not value.any() for name, value in results.items() if name in ("dW", "db"))


def _fortran(array):
    return np.asfortranarray(array)


def _strided(array):
    spaced = np.full([2 * size + 1 for size in array.shape], 7, array.dtype)
    view = spaced[tuple(slice(1, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def _reversed(array):
    return np.ascontiguousarray(array[..., ::-1])[..., ::-1]


def _read_only(array):
    frozen = array.copy()
    frozen.setflags(write=False)
    return frozen


@every_kind
@every_dtype
@pytest.mark.parametrize("store", [_fortran, _strided, _reversed, _read_only])
def test_the_memory_layout_changes_nothing_but_rounding(kind, dtype, store, draw, rounding):
    plain = draw(kind, dtype, batch=7, width=6)
    layer = kind(**{name: store(value) for name, value in plain.layer.params.items()})
    dy = store(plain.dy) if np.ndim(plain.dy) else plain.dy
    stored = type(plain)(layer, tuple(store(value) for value in plain.inputs), dy)
    bounds, one, other = _bounds(kind, plain, rounding(dtype)), _results(plain), _results(stored)
    for name in one:
        part = np.abs(one[name].astype(np.float64) - other[name])
        exact = kind.name in ("add", "multiply", "relu")
        assert (part <= (0 if exact else 2 * bounds[name])).all(), name


@every_kind
def test_nothing_that_is_given_is_changed(kind, draw):
    sample = draw(kind)
    given_arrays = [*sample.inputs, np.asarray(sample.dy), *sample.layer.params.values()]
    before = _copies(given_arrays)
    sample.forward()
    sample.backward()
    assert _equal(given_arrays, before)


@every_kind
def test_what_is_returned_is_the_callers_own(kind, draw):
    sample = draw(kind)
    y = np.asarray(sample.forward())
    returned = sample.backward()
    results = [y, *returned.values()]
    inside = [value for value in sample.layer.cache if isinstance(value, np.ndarray)]
    others = [*sample.inputs, *sample.layer.params.values(), np.asarray(sample.dy), *inside]
    assert not any(np.shares_memory(result, other) for result in results for other in others)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(results) for b in results[:i])
    before = _copies(returned.values())
    for value in [y, *returned.values()]:
        np.asarray(value)[...] = 77
    assert _equal(list(sample.backward().values()), before)


@every_kind
def test_an_older_cache_gives_the_gradients_of_its_own_pass(kind, draw):
    sample, other = draw(kind, seed=1), draw(kind, batch=3, seed=2)
    expected = _copies(draw(kind, seed=1).gradients().values())
    sample.forward()
    kept = sample.layer.cache
    sample.layer.forward(*other.inputs)
    assert _equal(list(sample.backward(kept).values()), expected)
    fresh = type(other)(kind(**sample.layer.params), other.inputs, other.dy)
    last = type(other)(sample.layer, other.inputs, other.dy)
    assert _equal(list(last.backward().values()), list(fresh.gradients().values()))


@every_kind
def test_backward_may_run_again(kind, draw):
    sample = draw(kind)
    first = _copies(sample.gradients().values())
    assert _equal(list(sample.backward().values()), first)


@every_kind
def test_gradients_that_were_handed_out_stay_as_they_are(kind, draw):
    sample = draw(kind, seed=1)
    first = list(sample.gradients().values())
    before = _copies(first)
    other = draw(kind, seed=2)
    sample.layer.forward(*other.inputs)
    sample.layer.backward(other.dy)
    assert _equal(first, before)


@every_kind
def test_backward_before_forward_is_an_error(kind, draw):
    sample = draw(kind)
    with pytest.raises(RuntimeError, match=f"{kind.__name__}.backward needs a forward pass"):
        sample.backward()


@every_kind
@given(power=st.integers(-30, 30), sign=st.sampled_from([-1, 1]), seed=st.integers(0, 99))
def test_gradients_scale_with_the_upstream_gradient_exactly(kind, draw, power, sign, seed):
    sample = draw(kind, seed=seed)
    scaled = type(sample)(sample.layer, sample.inputs, sample.dy * (sign * 2.0**power))
    one, other = sample.gradients(), scaled.gradients()
    assert any(value.any() for value in one.values())
    assert _equal([value * (sign * 2.0**power) for value in one.values()], list(other.values()))


@every_kind
@given(seed=st.integers(0, 99))
def test_gradients_add_where_upstream_gradients_do(kind, draw, rounding, seed):
    one, other = draw(kind, seed=seed), draw(kind, seed=seed + 1)
    upstream = [np.round(sample.dy * 2**10) / 2**10 for sample in (one, other)]  # so that their sum is exact
    samples = [type(one)(one.layer, one.inputs, dy) for dy in (*upstream, sum(upstream))]
    bounds = [_bounds(kind, sample, rounding("float64")) for sample in samples]
    a, b, c = (sample.gradients() for sample in samples)
    for name in c:
        allowed = sum(bound[name] for bound in bounds) + np.spacing(np.abs(c[name]))
        assert (np.abs(a[name] + b[name] - c[name]) <= allowed).all(), name


@every_kind
def test_a_zero_upstream_gradient_gives_zeros(kind, draw):
    sample = draw(kind)
    assert not any(value.any() for value in type(sample)(sample.layer, sample.inputs, sample.dy * 0).gradients().values())


def _finer(sample, dtype):
    """Return the same values in a finer dtype."""
    layer = type(sample.layer)(**{name: value.astype(dtype) for name, value in sample.layer.params.items()})
    inputs = tuple(value.astype(dtype) if value.dtype.kind == "f" else value for value in sample.inputs)
    return type(sample)(layer, inputs, np.asarray(sample.dy).astype(dtype)[()])


FINER = [("float32", "float64"), ("float64", "longdouble")]


@every_kind
@pytest.mark.parametrize(("dtype", "finer"), FINER)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 40), width=st.integers(1, 40), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_rounding_stays_within_the_bounds(kind, dtype, finer, draw, rounding, seed, batch, width, scale):
    if np.finfo(finer).eps > np.finfo(dtype).eps / 2**10:
        pytest.skip("longdouble is double here")
    drawn = draw(kind, dtype, batch, width, seed)
    inputs = tuple(value * np.dtype(dtype).type(scale) if value.dtype.kind == "f" else value for value in drawn.inputs)
    sample = type(drawn)(drawn.layer, inputs, drawn.dy)
    bounds, got, truth = _bounds(kind, sample, rounding(dtype)), _results(sample), _results(_finer(sample, finer))
    slack = 1 + 8 * float(np.finfo(finer).eps) / float(np.finfo(dtype).eps)
    assert set(bounds) == set(got)
    for name, bound in bounds.items():
        assert bound.shape == got[name].shape, name
        assert (np.abs(got[name] - truth[name]) <= bound * slack).all(), name


@every_kind
def test_the_bounds_are_small_enough_to_say_something(kind, draw, rounding):
    sample = draw(kind, "float32", batch=32, width=32)
    bounds, got = _bounds(kind, sample, rounding("float32")), _results(sample)
    for name, bound in bounds.items():
        assert np.linalg.norm(bound) <= 1e-4 * np.linalg.norm(got[name]), name


@every_kind
def test_the_formula_is_the_same_function(kind, draw, rounding):
    sample = draw(kind)
    bound = _bounds(kind, sample, rounding("float64"))["y"]
    formula = kind.formula(np, sample.layer.params, *sample.inputs)
    assert (np.abs(formula - sample.forward()) <= 4 * bound + 4 * np.finfo(float).eps * np.abs(formula)).all()


@every_kind
@pytest.mark.parametrize("seed", range(3))
def test_backpropagation_equals_numerical_differentiation(kind, seed, draw, rounding, differentiate):
    sample = _on_a_grid(draw(kind, batch=3, width=3, seed=seed))
    noise = _noise(kind, sample, rounding("float64"))
    gradients = sample.gradients()
    for i in np.flatnonzero(kind.differentiable):
        numerical, error = differentiate(lambda x, i=i: _value(kind, sample, inputs={i: x}), sample.inputs[i], noise)
        _hold(gradients[f"dx{i}"], numerical, error)
    for name, value in sample.layer.params.items():
        numerical, error = differentiate(lambda x, name=name: _value(kind, sample, params={name: x}), value, noise)
        _hold(gradients[f"d{name}"], numerical, error)


def _hold(gradient, numerical, error):
    assert error < 1e-4 * np.abs(gradient).max()
    assert (np.abs(gradient - numerical) <= error).all()


def _on_a_grid(sample):
    """Return a sample whose numbers are multiples of 2^-12, odd ones, further from a kink at 0 than the largest step."""

    def snap(value):
        return value if value.dtype.kind != "f" else np.sign(value) * (np.floor(np.abs(value) * 2**6) / 2**6 + 2.0**-7)

    layer = type(sample.layer)(**{name: snap(value) for name, value in sample.layer.params.items()})
    return type(sample)(layer, tuple(snap(value) for value in sample.inputs), sample.dy)


def _value(kind, sample, inputs=None, params=None):
    """Return the sum of dy y, where some inputs or parameters are replaced."""
    layer = kind(**(sample.layer.params | (params or {})))
    y = layer.forward(*[(inputs or {}).get(i, value) for i, value in enumerate(sample.inputs)])
    return float((sample.dy * y).sum())


def _noise(kind, sample, r):
    """Return how far rounding may move the sum of dy y: the bound of y, doubled for the steps to either side, and of the sum."""
    y = np.asarray(sample.forward())
    terms = np.abs(sample.dy * y).sum()
    return float(2 * (np.abs(sample.dy) * _bounds(kind, sample, r)["y"]).sum() + 2 * r.gamma(y.size + 1) * terms)


HAZARDS = [(kind, hazard) for kind in KINDS for hazard in kind.hazards]


@pytest.mark.parametrize(("kind", "hazard"), HAZARDS, ids=[hazard.name for _, hazard in HAZARDS])
@every_dtype
@pytest.mark.parametrize("seed", range(5))
def test_a_hazard_is_planted_in_a_copy_and_survived(kind, hazard, dtype, seed, draw):
    sample = draw(kind, dtype, batch=8, width=6, seed=seed)
    before = sample.inputs[0].copy()
    planted = hazard.plant(np.random.default_rng(seed), sample.inputs[0]).astype(dtype)
    assert planted.shape == before.shape
    assert np.array_equal(sample.inputs[0], before)
    hit = type(sample)(sample.layer, (planted, *sample.inputs[1:]), sample.dy)
    assert all(np.isfinite(value).all() for value in _results(hit).values())


@pytest.mark.parametrize(("kind", "hazard"), HAZARDS, ids=[hazard.name for _, hazard in HAZARDS])
def test_a_hazard_is_planted_more_often_than_not(kind, hazard, draw):
    columns = draw(kind, batch=8, width=6).inputs[0]
    changed = [not np.array_equal(hazard.plant(np.random.default_rng(seed), columns), columns) for seed in range(20)]
    assert sum(changed) > 10
