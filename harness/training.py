"""Training: a seed and settings come in, one network trained on real digits in NumPy, torch and JAX goes out, step by step.

All start from the same weights and take the same batches, so that the trajectories of loss and weights part by
rounding alone. How far rounding takes them is found by twins: the NumPy training again, with the results of every layer
moved at random within that layer's own bound (its sums by the square root of their length) and every new weight within
its rounding. That is calibrated, not proven: real roundings are smaller than the bounds, and a few twins stand for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.backends.jax_grad import wide_types
from harness.core import USUAL_DTYPES, Arithmetic, Array, BadInput
from harness.isolation import one_thread, quiet
from harness.judge.propagate import exact, flat
from harness.judge.rounding import make_rounding
from reference_layers import Affine, Network, Node, ReLU, Rounding, SoftmaxCrossEntropy, descend

if TYPE_CHECKING:
    import pandas as pd

PARAMS = ("affine1.W", "affine1.b", "affine2.W", "affine2.b")
TWINS = 8
CLASSES = 10
Weights = dict[str, Array]
Step = tuple[float, Weights]


@dataclass(frozen=True, eq=False)
class Digits:
    """The UCI handwritten digits, 8 x 8 pixels from 0 to 1: rows `x` (N, 64) and labels `t` (N,), for training and test."""

    x: Array
    t: Array
    test_x: Array
    test_t: Array


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One training: the loss at each step, and after it how far the weights and the loss are from NumPy's."""

    losses: Array
    weights_apart: Array
    losses_apart: Array
    weights: Weights


@dataclass(frozen=True, eq=False)
class Training:
    """What became of a training in each framework; `missing` are those not installed."""

    trajectories: Mapping[str, Trajectory]
    twins: Sequence[Trajectory]
    accuracies: Mapping[str, float]
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights_explained(self) -> Array:
        """How far rounding alone takes the weights, relative to their norm, by step."""
        return np.maximum.accumulate(np.max([twin.weights_apart for twin in self.twins], axis=0))

    @property
    def losses_explained(self) -> Array:
        """How far rounding alone takes the loss, relative to it, by step."""
        return np.maximum.accumulate(np.max([twin.losses_apart for twin in self.twins], axis=0))

    @property
    def within(self) -> dict[str, bool]:
        """Whether each framework's weights and loss stayed, at every step, within what rounding explains."""
        return {name: self._explains(run) for name, run in self.trajectories.items() if name != "numpy"}

    def _explains(self, run: Trajectory) -> bool:
        weights, losses = run.weights_apart <= self.weights_explained, run.losses_apart <= self.losses_explained
        return bool((weights & losses).all())

    def frame(self) -> pd.DataFrame:
        """Return one row a step: losses, how far the weights are apart, what rounding explains, and last the test accuracies."""
        pandas = import_module("pandas")
        steps = len(self.weights_explained)
        columns: dict[str, Any] = {"step": np.arange(1, steps + 1)}
        columns |= {f"loss_{name}": run.losses for name, run in self.trajectories.items()}
        columns |= {f"weights_apart_{name}": run.weights_apart for name, run in self.trajectories.items() if name != "numpy"}
        columns |= {f"rounding_explains_{name}": self.weights_explained for name in self.within}
        columns["loss_rounding_explains"] = self.losses_explained
        last = np.arange(1, steps + 1) == steps
        columns |= {f"accuracy_{name}": np.where(last, value, np.nan) for name, value in self.accuracies.items()}
        frame: pd.DataFrame = pandas.DataFrame(columns)
        return frame


def load_digits(seed: int, dtype: str) -> Digits:
    """Return the digits, a fifth of them for the test. Raises BadInput when scikit-learn, which ships them, is missing."""
    try:
        bunch = import_module("sklearn.datasets").load_digits()
    except ImportError as error:
        raise BadInput(f"the handwritten digits come with scikit-learn: {error}; install backprop-harness[train]") from None
    order = np.random.default_rng(seed).permutation(len(bunch.data))
    x, t = (bunch.data[order] / 16).astype(dtype), bunch.target[order].astype(np.int64)
    held = len(x) // 5
    return Digits(x[held:], t[held:], x[:held], t[:held])


def train(
    *,
    seed: int = 0,
    steps: int = 600,
    batch: int = 64,
    learning_rate: float = 0.25,
    dtype: str = "float32",
    hidden: int = 64,
    frameworks: Sequence[str] = ("torch", "jax"),
) -> Training:
    """Train 64-hidden-10 with ReLU and softmax-with-loss on the digits, in NumPy and in each framework, and compare.

    Raises BadInput on an impossible setting and when scikit-learn is missing. A framework that is not installed is left
    out and named in `missing`. The caller's thread counts, flags and random states stay as they were.
    """
    _check(seed, steps, batch, hidden, dtype, learning_rate, frameworks)
    digits, start = load_digits(seed, dtype), draw_weights(seed, hidden, dtype)
    batches = list(draw_batches(digits, seed, steps, batch))
    runs: dict[str, Callable[[], Iterator[Step]]] = {"numpy": partial(descend_numpy, start, batches, learning_rate)}
    missing: dict[str, str] = {}
    for name in frameworks:
        try:
            import_module(name)
        except ImportError as error:
            missing[name] = str(error)
            continue
        runs[name] = partial(DESCENTS[name], start, batches, learning_rate)
    with one_thread(), quiet():
        base = list(runs["numpy"]())
        trajectories = {name: follow(run(), base) for name, run in runs.items()}
        twins = [follow(descend_twin(start, batches, learning_rate, seed, twin), base) for twin in range(TWINS)]
    accuracies = {name: find_accuracy(run.weights, digits) for name, run in trajectories.items()}
    return Training(trajectories, twins, accuracies, missing)


def draw_weights(seed: int, hidden: int, dtype: str) -> Weights:
    """Return the initial weights of 64-hidden-10."""
    rng = np.random.default_rng([seed, 1])
    first, second = Affine.initial_params(rng, 64, hidden), Affine.initial_params(rng, hidden, CLASSES)
    named = {f"affine{i + 1}.{key}": value for i, group in enumerate((first, second)) for key, value in group.items()}
    return {name: value.astype(dtype) for name, value in named.items()}


def draw_batches(digits: Digits, seed: int, steps: int, batch: int) -> Iterator[dict[str, Array]]:
    """Yield `steps` random batches. Raises BadInput when a batch is larger than the digits are many."""
    if batch > len(digits.x):
        raise BadInput(f"--batch {batch}; accepted is a whole number from 1 to {len(digits.x)}, the digits for training")
    rng = np.random.default_rng([seed, 2])
    for _ in range(steps):
        chosen = rng.choice(len(digits.x), batch, replace=False)
        yield {"x": digits.x[chosen], "t": digits.t[chosen]}


def build_network(weights: Weights, wrap: Callable[[Any], Any] = lambda layer: layer) -> Network:
    """Return the network with these weights."""
    affine1, affine2 = (Affine(weights[f"affine{i}.W"], weights[f"affine{i}.b"]) for i in (1, 2))
    nodes = [
        Node("affine1", wrap(affine1), ("x",)),
        Node("relu1", wrap(ReLU()), ("affine1",)),
        Node("affine2", wrap(affine2), ("relu1",)),
        Node("loss", wrap(SoftmaxCrossEntropy()), ("affine2", "t")),
    ]
    return Network(nodes, ["x", "t"])


def descend_numpy(start: Weights, batches: Sequence[Mapping[str, Array]], learning_rate: float) -> Iterator[Step]:
    """Yield loss and weights after each step of the hand-written layers."""
    network = build_network(start)
    for loss in descend(network, batches, learning_rate):
        yield loss, dict(network.params)


def descend_twin(
    start: Weights, batches: Sequence[Mapping[str, Array]], learning_rate: float, seed: int, twin: int
) -> Iterator[Step]:
    """Yield loss and weights after each step, with every layer and every new weight moved within its rounding."""
    rng, dtype = np.random.default_rng([seed, 3, twin]), str(start[PARAMS[0]].dtype)
    rounding = replace(make_rounding(dtype, Arithmetic(), "layer"), typical=True)
    network = build_network(start, lambda layer: Shaken(layer, rounding, rng))
    for loss in descend(network, batches, learning_rate):
        for node in network.nodes:
            params = node.layer.params
            params.update({name: _shake(value, rounding.u * np.abs(value), rng) for name, value in params.items()})
        yield loss, dict(network.params)


class Shaken:
    """A layer whose output and gradients are moved at random within how far its own rounding typically moves them."""

    def __init__(self, layer: Any, rounding: Rounding, rng: np.random.Generator) -> None:
        self.layer, self.rounding, self.rng = layer, rounding, rng
        self.params: dict[str, Array] = layer.params
        self.grads: dict[str, Array] = {}
        self.cache: tuple[Any, ...] = ()
        self.inputs: tuple[Array, ...] = ()

    def forward(self, *inputs: Array) -> Array:
        self.inputs = inputs
        bound = self.layer.forward_bound(self.rounding, flat(self.params), *map(exact, inputs), *self._branches())
        return _shake(self.layer.forward(*inputs), bound, self.rng)

    def backward(self, dy: Array, cache: tuple[Any, ...] | None = None) -> Array:
        pairs = [exact(value) for value in (*self.inputs, np.asarray(dy))]
        bound = self.layer.backward_bound(self.rounding, flat(self.params), *pairs, *self._branches())
        dx = self.layer.backward(dy)
        self.grads = {name: _shake(value, bound.dparams[name], self.rng) for name, value in self.layer.grads.items()}
        return _shake(dx, bound.dx[0], self.rng)

    def _branches(self) -> tuple[Any, ...]:
        return (self.layer.decisions(np, self.params, *self.inputs),) if hasattr(self.layer, "decisions") else ()


def descend_torch(start: Weights, batches: Sequence[Mapping[str, Array]], learning_rate: float) -> Iterator[Step]:
    """Yield loss and weights after each step of PyTorch's own ops under autograd."""
    torch = import_module("torch")
    functional = torch.nn.functional
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    for batch in batches:
        x, t = torch.tensor(batch["x"]), torch.tensor(batch["t"])
        hidden = functional.relu(functional.linear(x, weights["affine1.W"].T, weights["affine1.b"]))
        loss = functional.cross_entropy(functional.linear(hidden, weights["affine2.W"].T, weights["affine2.b"]), t)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        moved = [value.detach() - learning_rate * gradient for value, gradient in zip(weights.values(), gradients, strict=True)]
        weights = {name: value.requires_grad_() for name, value in zip(weights, moved, strict=True)}
        yield float(loss.detach()), {name: value.detach().numpy().copy() for name, value in weights.items()}


def descend_jax(start: Weights, batches: Sequence[Mapping[str, Array]], learning_rate: float) -> Iterator[Step]:
    """Yield loss and weights after each step of one jitted JAX program."""
    jax = import_module("jax")

    def find_loss(weights: Any, x: Any, t: Any) -> Any:
        hidden = jax.nn.relu(x @ weights["affine1.W"] + weights["affine1.b"])
        log_p = jax.nn.log_softmax(hidden @ weights["affine2.W"] + weights["affine2.b"])
        return -jax.numpy.take_along_axis(log_p, t[:, None], axis=1).mean()

    @jax.jit  # type: ignore[untyped-decorator]  # reason: the module is imported by name, so that JAX stays optional
    def step(weights: Any, x: Any, t: Any) -> Any:
        loss, gradients = jax.value_and_grad(find_loss)(weights, x, t)
        return loss, jax.tree.map(lambda value, gradient: value - learning_rate * gradient, weights, gradients)

    weights: Any = start
    for batch in batches:
        with wide_types(start[PARAMS[0]].dtype == np.float64):
            loss, weights = step(weights, batch["x"], batch["t"])
            here = float(loss), {name: np.asarray(weights[name]) for name in PARAMS}
        yield here


DESCENTS: dict[str, Callable[..., Iterator[Step]]] = {"torch": descend_torch, "jax": descend_jax}


def follow(run: Iterator[Step], base: Sequence[Step]) -> Trajectory:
    """Return a run as a trajectory beside the base run: relative distances of all weights together and of the loss."""
    steps = list(run)
    norms = [_distance(ours, theirs) for (_, ours), (_, theirs) in zip(steps, base, strict=True)]
    losses, reference = np.array([loss for loss, _ in steps]), np.array([loss for loss, _ in base])
    return Trajectory(losses, np.array(norms), np.abs(losses - reference) / np.abs(reference), steps[-1][1])


def find_accuracy(weights: Weights, digits: Digits) -> float:
    """Return the share of test digits that the network with these weights names right."""
    hidden = np.maximum(digits.test_x @ weights["affine1.W"] + weights["affine1.b"], 0)
    return float(np.mean((hidden @ weights["affine2.W"] + weights["affine2.b"]).argmax(axis=1) == digits.test_t))


def _distance(ours: Weights, theirs: Weights) -> float:
    apart = sum(float(np.sum((ours[name].astype(np.float64) - theirs[name]) ** 2)) for name in PARAMS)
    return float(np.sqrt(apart / sum(float(np.sum(theirs[name].astype(np.float64) ** 2)) for name in PARAMS)))


def _shake(value: Array, bound: Array, rng: np.random.Generator) -> Array:
    moved = np.asarray(value, np.float64) + bound * rng.uniform(-1, 1, np.shape(value))
    out: Array = moved.astype(value.dtype)[()]
    return out


def _check(seed: int, steps: int, batch: int, hidden: int, dtype: str, learning_rate: float, frameworks: Sequence[str]) -> None:
    for name, value, least in (("seed", seed, 0), ("steps", steps, 1), ("batch", batch, 1), ("hidden", hidden, 1)):
        if value < least:
            raise BadInput(f"--{name} {value}; accepted is a whole number of at least {least}")
    if dtype not in USUAL_DTYPES:
        raise BadInput(f"--dtype {dtype}; accepted are {', '.join(USUAL_DTYPES)}")
    if not 0 < learning_rate < np.inf:
        raise BadInput(f"learning_rate {learning_rate}; accepted is a positive number")
    if unknown := sorted(set(frameworks) - set(DESCENTS)):
        raise BadInput(f"unknown frameworks {unknown}; accepted are {', '.join(DESCENTS)}")
