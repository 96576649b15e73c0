"""Every mutation on every layer that it fits comes in; that it changes what it says, and nothing else, is held."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil

import numpy as np
import pytest

import harness.mutations
from harness.judge.local import same_bits
from harness.mutations.mutation import Mutation, find_mutation, find_mutations, find_named
from reference_layers import Affine, ReLU
from tests.mutations.one_pass import LAYERS, give, run_once, run_pass

EVERY = (*find_mutations(), *find_named())
RESHAPES = {"one axis too many", "another dtype", "gradients of two parameters under each other's names"}
DROPS = {"gradient of an input left out", "gradient of a parameter left out", "nothing returned", "backward raises"}
OVERWRITES = {"input overwritten", "upstream gradient overwritten", "parameters changed by backward"}
LASTING = {  # what the second of two passes gives is another thing than what the first does, and so it is meant
    "inputs of the pass before",
    "inputs of the first pass for good",
    "gradients added up over passes",
    "gradients scaled by 1 + e from the second pass on",
} | OVERWRITES
MARKS = {"dW": "matrix", "db": "vector", "dx": "input"}
MARKED = [mutation for mutation in find_mutations() if MARKS.keys() & set(mutation.name.split())]


def _name(value):
    return value.name


def _fitting(mutation):
    return [kind for kind in LAYERS.values() if mutation.fits(kind)]


def _largest(mutation):
    """Return a size at which a graded mutation shows in float32 and breaks nothing."""
    return next((size for size in mutation.sizes if size >= 0.1), mutation.sizes[-1] if mutation.sizes else 0.0)


def _plant(mutation, kind, seed=1):
    return mutation.plant(kind, _largest(mutation), seed)


def _is_changed(right, wrong):
    return wrong is not None and not same_bits(right, wrong)


def _sort_of(key, value):
    return "input" if isinstance(key, int) else "matrix" if np.ndim(value) >= 2 else "vector"


def test_there_are_as_many_kinds_as_promised():
    assert len(find_mutations()) >= 35
    assert len({mutation.name for mutation in EVERY}) == len(EVERY)
    families = {mutation.family for mutation in find_mutations()}
    assert families == {"scale", "element", "structure", "formula", "arithmetic", "state"}


def test_discovered_are_those_of_the_modules():
    modules = [
        importlib.import_module(f"harness.mutations.{found.name}") for found in pkgutil.iter_modules(harness.mutations.__path__)
    ]
    held = {id(value) for module in modules for group in vars(module).values() if isinstance(group, tuple) for value in group}
    assert {id(mutation) for mutation in EVERY} == {key for key in held if key in {id(mutation) for mutation in EVERY}}
    assert all(isinstance(mutation, Mutation) for mutation in EVERY)


@pytest.mark.parametrize("mutation", EVERY, ids=_name)
def test_a_mutation_is_described(mutation):
    assert mutation.why.strip()
    assert mutation.dtypes
    assert list(mutation.sizes) == sorted(set(mutation.sizes))
    assert all(size > 0 for size in mutation.sizes)
    assert pickle.loads(pickle.dumps(mutation)) is mutation  # noqa: S301  # reason: it was pickled in this line


@pytest.mark.parametrize("mutation", EVERY, ids=_name)
def test_a_mutation_fits_some_layer_and_shows_there(mutation):
    assert _fitting(mutation)
    assert any(_shows(mutation, kind, **settings) for kind in _fitting(mutation) for settings in SETTINGS)


SETTINGS = ({}, {"dtype": "float32"}, {"hazards": ("relu-zeros",)}, {"batch": 1}, {"storage": "fortran"})


def _shows(mutation, kind, dtype="float64", **settings):
    """Whether a faulty layer returns something else than the right one in a first or a second pass, or raises."""
    given = give(kind, dtype, **settings)
    given.inputs = tuple(np.asfortranarray(x) if "storage" in settings else x for x in given.inputs)
    right, other = run_once(kind, given), copy.deepcopy(given)
    layer = _plant(mutation, kind)(**other.params)
    first = _another(other)
    run_pass(layer, first)
    wrong = run_pass(layer, other)
    shown = wrong.raised or wrong.gradients.keys() != right.gradients.keys() or _is_changed(right.y, wrong.y)
    spoiled = not all(same_bits(a, b) for a, b in zip((*given.inputs, given.dy), (*other.inputs, other.dy), strict=True))
    return bool(shown) or spoiled or any(not same_bits(value, wrong.gradients[key]) for key, value in right.gradients.items())


def _another(given):
    """Return other numbers of the same shapes, for a pass before."""
    other = copy.deepcopy(given)
    other.inputs = tuple(-x if x.dtype.kind == "f" else x[::-1] for x in other.inputs)
    return other


def test_what_a_test_calls_shown_is_not_shown_by_the_right_layer():
    right = Mutation("nothing", "scale", "none at all")
    assert not any(_shows(right, kind, **settings) for kind in LAYERS.values() for settings in SETTINGS)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mutation", EVERY, ids=_name)
def test_a_mutation_keeps_what_it_does_not_change(mutation, dtype):
    for kind in _fitting(mutation):
        _hold_kept(mutation, kind, dtype)


def _hold_kept(mutation, kind, dtype):
    given = give(kind, dtype)
    right, wrong = run_once(kind, given), run_once(_plant(mutation, kind), given)
    if mutation.returns is None and mutation.receives is None:
        assert same_bits(right.y, wrong.y)
    assert np.shape(right.y) == np.shape(wrong.y)
    assert right.y.dtype == wrong.y.dtype
    if mutation.name in DROPS:
        assert wrong.raised or {key for key, value in wrong.gradients.items() if value is not None} < set(right.gradients)
        return
    assert wrong.gradients.keys() == right.gradients.keys()
    for key, value in right.gradients.items():
        if mutation.name not in RESHAPES and value is not None:
            assert np.shape(wrong.gradients[key]) == np.shape(value)
            assert wrong.gradients[key].dtype == value.dtype
            assert wrong.gradients[key].flags.c_contiguous == value.flags.c_contiguous


@pytest.mark.parametrize("mutation", MARKED, ids=_name)
def test_a_mutation_hits_the_gradients_in_its_name_alone(mutation):
    for kind in _fitting(mutation):
        given = give(kind, "float64")
        right, wrong = run_once(kind, given), run_once(_plant(mutation, kind), given)
        hit = {_sort_of(key, value) for key, value in right.gradients.items() if _is_changed(value, wrong.gradients[key])}
        assert hit <= {MARKS[word] for word in mutation.name.split() if word in MARKS}, kind.name


@pytest.mark.parametrize("mutation", [mutation for mutation in EVERY if mutation.name not in OVERWRITES], ids=_name)
def test_a_mutation_leaves_what_it_is_given_alone(mutation):
    for kind in _fitting(mutation):
        given = give(kind)
        kept = copy.deepcopy(given)
        run_pass(_plant(mutation, kind)(**given.params), given)
        assert all(map(same_bits, kept.inputs, given.inputs)), kind.name
        assert same_bits(kept.dy, given.dy), kind.name
        assert all(same_bits(value, given.params[key]) for key, value in kept.params.items()), kind.name


@pytest.mark.parametrize("mutation", EVERY, ids=_name)
def test_a_mutation_is_the_same_in_each_pass_and_each_object(mutation):
    for kind in _fitting(mutation):
        given = give(kind)
        once = run_once(_plant(mutation, kind), given)
        layer = _plant(mutation, kind)(**copy.deepcopy(given.params))
        first, second = run_pass(layer, copy.deepcopy(given)), run_pass(layer, copy.deepcopy(given))
        _hold_same(once, first)
        if mutation.name not in LASTING:
            _hold_same(once, second)


def _hold_same(once, other):
    assert same_bits(once.y, other.y)
    assert once.raised == other.raised
    assert once.gradients.keys() == other.gradients.keys()
    assert all(same_bits(value, other.gradients[key]) for key, value in once.gradients.items())


@pytest.mark.parametrize("mutation", EVERY, ids=_name)
def test_a_planted_layer_is_the_layer_in_all_but_its_passes(mutation):
    for kind in _fitting(mutation):
        faulty = _plant(mutation, kind)
        assert issubclass(faulty, kind)
        for name in ("name", "place", "differentiable", "formula", "forward_bound", "backward_bound", "native", "hazards"):
            assert getattr(faulty, name) is getattr(kind, name)
        assert (faulty.__name__, faulty.__doc__, faulty.__module__) == (kind.__name__, kind.__doc__, kind.__module__)


def test_the_seed_picks_the_entry():
    given, mutation = give(Affine), find_mutation("one entry of dW scaled by 1 + e")
    right = run_once(Affine, given).gradients["W"]
    hit = {
        tuple(np.argwhere(run_once(mutation.plant(Affine, 0.5, seed), given).gradients["W"] != right)[0]) for seed in range(20)
    }
    assert len(hit) > 5


def test_an_older_cache_finds_the_inputs_that_belong_to_it():
    layer = find_mutation("dx of float16 operands").plant(Affine)(**give(Affine).params)
    first, second = give(Affine), give(Affine, scale=7.0)
    layer.forward(*first.inputs)
    cache = layer.cache
    lone = layer.backward(first.dy)
    layer.forward(*second.inputs)
    assert same_bits(layer.backward(first.dy, cache), lone)


def test_backward_before_forward_says_so_as_the_right_layer_does():
    with pytest.raises(RuntimeError, match="forward pass before"):
        find_mutation("dx scaled by 1 + e").plant(ReLU, 0.5)().backward(np.ones(3))


class Strange:
    """A layer of a stranger: no base class, no cache argument, nothing but what has to be there."""

    name = "strange"
    differentiable = (True,)

    def __init__(self):
        self.params, self.grads, self.cache = {}, {}, ()

    def forward(self, x):
        self.cache = (x,)
        return x**3

    def backward(self, dy):
        return dy * 3 * self.cache[0] ** 2


def test_a_mutation_of_a_strangers_layer():
    x = np.array([1.0, 2.0])
    layer = find_mutation("dx scaled by 1 + e").plant(Strange, 0.5)()
    layer.forward(x)
    assert layer.backward(np.ones(2)).tolist() == [4.5, 18.0]
    assert not find_mutation("dW scaled by 1 + e").fits(Strange)
    assert not find_mutation("every entry moved by r bounds").fits(Strange)


@pytest.mark.parametrize("mutation", [mutation for mutation in EVERY if mutation.fits(Strange)], ids=_name)
def test_every_mutation_that_fits_runs_on_a_strangers_layer(mutation):
    x = np.linspace(-1, 1, 6).reshape(3, 2)
    layer = _plant(mutation, Strange)()
    with np.errstate(all="ignore"):
        assert layer.forward(x.copy()).shape == x.shape
        if mutation.name == "backward raises":
            with pytest.raises(FloatingPointError, match="planted"):
                layer.backward(np.ones_like(x))
        elif mutation.name == "nothing returned":
            assert layer.backward(np.ones_like(x)) is None
        else:
            layer.backward(np.ones_like(x))


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 1)])
@pytest.mark.parametrize("mutation", [mutation for mutation in EVERY if mutation.fits(ReLU)], ids=_name)
def test_every_mutation_runs_on_arrays_of_any_size(mutation, shape):
    layer = _plant(mutation, ReLU)()
    with np.errstate(all="ignore"):
        layer.forward(np.ones(shape))
        if mutation.name == "backward raises":
            return
        layer.backward(np.ones(shape))
    assert layer.grads == {}
