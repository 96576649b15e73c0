"""Layers that trap numerical differentiation come in; that the reference found for them is right to its own doubt must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import LayerSpec
from harness.custom.adopted import adopt
from harness.custom.differences import NoSlope
from harness.custom.reference import AUTODIFF, COMPLEX, DIFFERENCES, Reference, find_gradients, find_reference, open_ground
from harness.isolation import quiet
from harness.judge.local import name_node
from reference_layers import Affine
from tests.custom import layers
from tests.custom import own_layers as own

# Each layer, the shape of its input, by which way its gradient must have been found, and how precisely at least.
TRAPS: dict[str, tuple[Any, tuple[int, ...], str, float]] = {
    "nothing": (layers.Swish, (8, 5), COMPLEX, 1e-15),
    "maximum": (own.ReLU, (6, 4), COMPLEX, 1e-15),
    "indexing": (own.MaxPool, (4, 6), COMPLEX, 1e-15),
    "argsort": (own.Sorted, (4, 5), COMPLEX, 1e-15),
    "abs": (own.Abs, (6, 4), DIFFERENCES, 1e-13),
    "sign(z) z": (own.SignTimes, (6, 4), DIFFERENCES, 1e-13),
    "norm": (own.Norm, (5, 3), DIFFERENCES, 1e-12),
    "var": (own.VarNorm, (4, 5), DIFFERENCES, 1e-11),
    "real": (own.RealPart, (4, 3), DIFFERENCES, 1e-12),
    "astype": (own.Cast, (4, 3), DIFFERENCES, 1e-10),
    "float()": (own.Listed, (4, 3), DIFFERENCES, 1e-10),
    "a real buffer": (own.Buffered, (4, 3), DIFFERENCES, 1e-10),
}


def settle(layer: Any, inputs: tuple[Any, ...], seed: int = 0) -> tuple[Any, dict[str, Any], tuple[Any, ...], Any]:
    """Return what the reference is found of: the class, its parameters, the inputs, and a cotangent."""
    spec = LayerSpec(layer, inputs=[value.shape for value in inputs])
    constants = frozenset(i for i, value in enumerate(inputs) if value.dtype.kind != "f")
    kind = adopt(spec, len(inputs), constants)
    params = spec.draw_params(np.random.default_rng(seed))
    with quiet():
        y = kind(**params).forward(*(value.copy() for value in inputs))
    return kind, params, inputs, np.asarray(np.random.default_rng([seed, 1]).uniform(0.5, 2, np.shape(y)))


def go_back(kind: Any, params: dict[str, Any], inputs: tuple[Any, ...], dy: Any) -> dict[str, Any]:
    """Return the gradients of the layer's own backward pass, which is right, in longdouble where it computes in it."""
    wide = [value.astype(np.longdouble) if value.dtype.kind == "f" else value for value in inputs]
    layer = kind(**{name: value.astype(np.longdouble) for name, value in params.items()})
    layer.forward(*wide)
    dx = layer.backward(dy.astype(np.longdouble))
    constants = frozenset(i for i, varies in enumerate(kind.differentiable) if not varies)
    from harness.core import NodeTrace

    seen = NodeTrace((), None, None, dx if isinstance(dx, tuple) else (dx,), layer.grads)  # type: ignore[arg-type]  # reason: neither is looked at
    return {name: value for name, value in name_node(seen, constants).items() if name != "y"}


def require_right(reference: Reference, truth: dict[str, Any]) -> None:
    assert set(reference.known) == set(truth)
    for name, known in reference.known.items():
        apart = np.abs(known.value - truth[name].astype(np.float64))
        assert (known.looked | known.kinks).all()
        assert (apart[known.looked] <= known.doubt[known.looked]).all(), name


@pytest.mark.parametrize("trap", TRAPS)
def test_the_reference_is_right_whatever_the_code_does_to_complex_numbers(trap: str) -> None:
    layer, shape, how, precision = TRAPS[trap]
    for seed in range(5):
        given = settle(layer, (np.random.default_rng([seed, 2]).standard_normal(shape),), seed)
        found = find_reference(*given)
        assert found.known["dx"].how == how
        assert found.known["dx"].precision < precision
        assert found.known["dx"].confirmed < 1e-6
        require_right(found, go_back(*given))


@pytest.mark.parametrize("layer", [layers.Linear, own.LayerNorm, own.BatchNorm, own.Softmax, own.Huber])
def test_the_reference_of_parameters_and_of_coupled_rows_is_right(layer: Any) -> None:
    for seed in range(3):
        given = settle(layer, (np.random.default_rng([seed, 3]).standard_normal((6, 5)),), seed)
        require_right(find_reference(*given), go_back(*given))


def test_integers_have_no_gradient() -> None:
    rng = np.random.default_rng(4)
    given = settle(own.CrossEntropy, (rng.standard_normal((4, 3)), rng.integers(0, 3, 4)))
    found = find_reference(*given)
    assert set(found.known) == {"dx"}
    require_right(found, go_back(*given))


def test_a_kink_is_an_interval_and_the_rest_is_known() -> None:
    x = np.array([[-1.0, 0.0, 2.0], [0.0, 3.0, -0.5]])
    for layer, low in ((own.ReLU, 0.0), (own.Abs, -1.0)):
        kind, params, inputs, _ = settle(layer, (x,))
        known = find_reference(kind, params, inputs, np.ones_like(x)).known["dx"]
        assert np.array_equal(known.kinks, x == 0)
        assert np.array_equal(known.looked, x != 0)
        assert known.low[x == 0] == pytest.approx(low)
        assert known.high[x == 0] == pytest.approx(1.0)


def test_a_silent_trap_in_one_branch_is_seen_by_the_confirmation() -> None:
    """Only a part of the slope is lost, and only where the branch is taken."""

    class Branch:
        def forward(self, x: Any) -> Any:
            return np.where(x > 1, np.sqrt(np.conj(x) * x + 1), x)

        def backward(self, dy: Any) -> Any:
            return dy

    x = np.linspace(-2, 2, 12).reshape(3, 4)
    known = find_reference(*settle(Branch, (x,))).known["dx"]
    assert known.how == DIFFERENCES
    truth = settle(Branch, (x,))[3] * np.where(x > 1, x / np.sqrt(x * x + 1), 1)
    assert (np.abs(known.value - truth) <= known.doubt).all()


def test_of_a_large_layer_some_entries_and_some_directions_are_known() -> None:
    given = settle(lambda: _Wide(), (np.random.default_rng(5).standard_normal((4, 40)),))
    found = find_reference(*given)
    weights, truth = found.known["dW"], go_back(*given)
    assert 0 < weights.looked.sum() < weights.value.size
    assert len(weights.lines) == 2
    for part, slope in weights.lines:
        assert abs(slope.value - float(np.sum(part * truth["dW"]))) <= slope.doubt
        assert (part != 0).all()
    assert (np.abs(weights.value - truth["dW"])[weights.looked] <= weights.doubt[weights.looked]).all()


class _Wide(layers.Linear):
    def __init__(self) -> None:
        rng = np.random.default_rng(6)
        self.W, self.b = rng.standard_normal((40, 30)), rng.standard_normal(30)
        self.params, self.grads = {"W": self.W, "b": self.b}, dict[str, Any]()


def test_fewer_entries_of_a_slow_forward_pass_are_looked_at() -> None:
    ground = open_ground(*settle(own.ReLU, (np.ones((2, 3)),))[:3])
    counts = []
    for seconds in (0.0, 0.002, 0.005, 0.1, 10.0):
        ground.cost = seconds
        counts.append((ground.limit("complex"), ground.limit("central")))
    assert counts == [(600, 150), (600, 150), (150, 37), (32, 32), (32, 32)]


def test_gradients_for_other_cotangents_take_no_further_pass() -> None:
    passes = []

    class Counted(layers.Swish):
        def forward(self, x: Any) -> Any:
            passes.append(1)
            return super().forward(x)

    kind, params, inputs, dy = settle(Counted, (np.random.default_rng(7).standard_normal((3, 4)),))
    find_gradients(kind, params, inputs, dy)
    before = len(passes)
    _, found = find_gradients(kind, params, inputs, -2 * dy)
    truth = go_back(kind, params, inputs, -2 * dy)
    assert found["dx"] == pytest.approx(truth["dx"].astype(np.float64), rel=1e-14)
    assert len(passes) - before < 150  # for the confirmation along two directions; every entry alone would be 24 or more each


def test_a_layer_that_changes_what_it_is_given_is_given_it_afresh() -> None:
    class Overwrites(layers.Swish):
        def forward(self, x: Any) -> Any:
            y = super().forward(x.copy())
            x *= 0
            return y

    given = settle(Overwrites, (np.random.default_rng(8).standard_normal((3, 4)),))
    again = settle(layers.Swish, (np.random.default_rng(8).standard_normal((3, 4)),))
    assert find_reference(*given).known["dx"].value == pytest.approx(find_reference(*again).known["dx"].value, rel=1e-14)


COUNT = [0]


class Random(layers.Swish):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * np.random.default_rng().uniform(size=x.shape)


class Counts(layers.Swish):
    """What it returns hangs on how often any layer of its class ran."""

    def forward(self, x: Any) -> Any:
        COUNT[0] += 1
        return super().forward(x) + COUNT[0]


class Explodes(layers.Swish):
    def forward(self, x: Any) -> Any:
        return np.log(-np.abs(x))


@pytest.mark.parametrize(("layer", "words"), [(Random, "is random"), (Counts, "keeps a state"), (Explodes, "not finite")])
def test_what_has_no_reference_is_said(layer: Any, words: str) -> None:
    with pytest.raises(NoSlope, match=words):
        find_reference(*settle(layer, (np.ones((2, 3)),)))


def test_too_many_entries_are_not_differentiated_whole() -> None:
    with pytest.raises(NoSlope, match="more than"):
        find_gradients(*settle(layers.Swish, (np.ones((80, 80)),)))


def test_a_function_of_torch_is_differentiated_by_its_code() -> None:
    torch = pytest.importorskip("torch")
    from harness.styles import from_torch

    class Cube(torch.autograd.Function):  # type: ignore[misc, name-defined]  # reason: torch is imported as a test asks for it
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * 0

    x = np.random.default_rng(9).standard_normal((3, 4))
    kind, params, inputs, dy = settle(from_torch(Cube), (x,))
    known = find_reference(kind, params, inputs, dy).known["dx"]
    assert known.how == AUTODIFF
    assert (np.abs(known.value - 3 * x * x * dy) <= known.doubt).all()


def test_code_that_detaches_is_not_believed() -> None:
    torch = pytest.importorskip("torch")
    from harness.styles import from_torch

    class Detaches(torch.autograd.Function):  # type: ignore[misc, name-defined]  # reason: as above
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * torch.exp(x.detach())

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy

    x = np.random.default_rng(10).standard_normal((3, 4))
    kind, params, inputs, dy = settle(from_torch(Detaches), (x,))
    known = find_reference(kind, params, inputs, dy).known["dx"]
    assert known.how != AUTODIFF
    assert (np.abs(known.value - (1 + x) * np.exp(x) * dy) <= known.doubt).all()


def test_the_layers_of_the_project_serve_without_their_formulas() -> None:
    rng = np.random.default_rng(11)
    W, b = rng.standard_normal((4, 3)), rng.standard_normal(3)
    require_right(find_reference(*(given := settle(lambda: Affine(W, b), (rng.standard_normal((5, 4)),)))), go_back(*given))
