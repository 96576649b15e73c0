"""Layers that remember: what a second pass of a faulty layer returns is held against the pass that it mixes in."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from harness.mutations.mutation import find_mutation
from reference_layers import Affine, ReLU, Sigmoid
from tests.mutations.one_pass import give, run_once, run_pass


def _passes(name, kind, *given, size=0.0):
    """Return what one faulty layer returns in several passes, with the parameters of the first."""
    layer = find_mutation(name).plant(kind, size, 1)(**copy.deepcopy(given[0].params))
    return [run_pass(layer, copy.deepcopy(each)) for each in given], layer


def _three():
    first, second, third = give(Affine), give(Affine, seed=4), give(Affine, seed=5)
    second.params = third.params = first.params
    return first, second, third


@pytest.mark.parametrize(("name", "mixed"), [("inputs of the pass before", 1), ("inputs of the first pass for good", 0)])
def test_the_inputs_of_an_older_pass(name, mixed):
    given = _three()
    seen, _ = _passes(name, Affine, *given)
    stale = copy.deepcopy(given[2])
    stale.inputs = given[mixed].inputs
    assert (seen[0].gradients["W"] == run_once(Affine, given[0]).gradients["W"]).all()
    assert (seen[2].gradients["W"] == run_once(Affine, stale).gradients["W"]).all()
    assert (seen[2].y == run_once(Affine, given[2]).y).all()


def test_gradients_add_up():
    given = _three()
    seen, _ = _passes("gradients added up over passes", Affine, *given)
    total = sum(run_once(Affine, each).gradients["W"] for each in given)
    assert seen[2].gradients["W"] == pytest.approx(total)
    assert (seen[2].gradients[0] == run_once(Affine, given[2]).gradients[0]).all()


def test_the_first_pass_is_right_and_the_second_drifts():
    given = give(Sigmoid)
    (first, second), _ = _passes("gradients scaled by 1 + e from the second pass on", Sigmoid, given, given, size=0.5)
    right = run_once(Sigmoid, given).gradients[0]
    assert (first.gradients[0] == right).all()
    assert second.gradients[0] == pytest.approx(1.5 * right)


def test_backward_learns():
    given = give(Affine)
    (seen,), layer = _passes("parameters changed by backward", Affine, given)
    assert layer.params["W"] == pytest.approx(given.params["W"] - 0.01 * seen.gradients["W"])


@pytest.mark.parametrize("name", ["input overwritten", "upstream gradient overwritten"])
def test_what_belongs_to_others_is_overwritten(name):
    given = give(Sigmoid)
    kept = copy.deepcopy(given)
    run_pass(find_mutation(name).plant(Sigmoid)(), given)
    changed = {"input": given.inputs[0], "upstream gradient": given.dy}
    before = {"input": kept.inputs[0], "upstream gradient": kept.dy}
    for word, value in changed.items():
        assert (value == before[word] * (2 if name.startswith(word) else 1)).all()


@pytest.mark.parametrize("name", ["input overwritten", "upstream gradient overwritten"])
def test_overwriting_what_is_read_only_raises_as_it_does_in_real_code(name):
    given = give(Sigmoid)
    for value in (given.inputs[0], given.dy):
        value.setflags(write=False)
    layer = find_mutation(name).plant(Sigmoid)()
    with pytest.raises(ValueError, match="read-only"):
        run_pass(layer, given)


@pytest.mark.parametrize(("batch", "factor"), [(1, 2.0), (2, 1.0)])
def test_wrong_for_a_batch_of_one_alone(batch, factor):
    given = give(Affine, batch=batch)
    wrong = run_once(find_mutation("wrong for a batch of one alone").plant(Affine), given).gradients
    assert all((wrong[key] == factor * value).all() for key, value in run_once(Affine, given).gradients.items())


def test_wrong_for_other_orders_in_memory_alone():
    given = give(ReLU)
    right = run_once(ReLU, given).gradients[0]
    columns, strided = copy.deepcopy(given), copy.deepcopy(given)
    columns.inputs = (np.asfortranarray(given.inputs[0]),)
    strided.inputs = (np.repeat(given.inputs[0], 2, axis=1)[:, ::2],)
    layer = find_mutation("wrong for columns-first inputs alone").plant(ReLU)
    assert (run_once(layer, given).gradients[0] == right).all()
    assert (run_once(layer, columns).gradients[0] == right.ravel().reshape(right.shape, order="F")).all()
    layer = find_mutation("wrong for inputs that are not contiguous").plant(ReLU)
    assert (run_once(layer, given).gradients[0] == right).all()
    assert (run_pass(layer(), strided).gradients[0] == 2 * right).all()
