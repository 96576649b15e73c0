"""Scenes: a trial and the wrong gradient that a layer gave come in, everything by which it can be explained goes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.array_api import make_autograd_namespace
from harness.backends.autograd_hips import differentiate
from harness.core import Array
from harness.custom.probe import Call, Operation, Tamper, Tape, detach
from harness.custom.reference import find_gradients
from harness.custom.trials import Trial
from harness.floats import is_float
from harness.isolation import quiet

STEP, CHANGE = 1e-9, 1e-5
MOST_RUNS = 150_000  # operations that are run to explain one gradient of one trial, some 15 s
Family = Callable[["Scene"], Iterator["Fault"]]


@dataclass(frozen=True, eq=False)
class Fault:
    """A prediction: what the gradient would be had its author made this mistake.

    `cause` is one of `harness.custom.faults.CAUSES`, `name` tells the mistake from others of its cause by what is the same
    in every trial, `words` say it to the author.
    """

    cause: str
    name: str
    words: str
    gradient: Array


@dataclass(frozen=True, eq=False)
class Scene:
    """One trial in float64: what went in, the true output and gradients by quantity, and what the layer gave for one of them.

    `free` marks the entries at a kink, where a right gradient is one of many: they are 0 in the truth, in `got` and in every
    prediction. `shifted` tells that the formula subtracts a maximum that cancels: no gradient flows through it then. `spent`
    counts the operations that were run.
    """

    trial: Trial
    params: Mapping[str, Array]
    inputs: tuple[Array, ...]
    dy: Array
    y: Array
    true: Mapping[str, Array]
    quantity: str
    got: Array
    free: Array
    shifted: bool = False
    spent: list[int] = field(default_factory=lambda: [0])

    @property
    def truth(self) -> Array:
        """The true value of the quantity."""
        return self.true[self.quantity]

    @property
    def error(self) -> Array:
        """What the layer gave, less the truth."""
        return self.got - self.truth

    @property
    def is_of_first_input(self) -> bool:
        """Whether the quantity is the gradient of the first input."""
        return self.quantity in ("dx", "dx0")

    def pull(self, dy: Array | None = None, inputs: tuple[Array, ...] | None = None, params: Mapping[str, Array] | None = None,
             tamper: Tamper | None = None) -> Array:  # fmt: skip
        """Return the quantity's gradient of the formula with something changed: the cotangent, what goes in, an operation.

        It is NaN where the formula does not take the change, and when so many were tried that it is time to give up.
        """
        self.spent[0] += max(len(self.operations), 1)
        if self.spent[0] > MOST_RUNS:
            return np.full_like(self.truth, np.nan)
        given = (self.params if params is None else params, self.inputs if inputs is None else inputs)
        try:
            changed = _skip_maxima(tamper) if self.shifted else tamper
            _, found = find_vjp(self.trial.declared, *given, self.dy if dy is None else dy, changed)
        except Exception:  # reason: a stranger's formula, changed, may raise anything; then nothing is predicted
            return np.full_like(self.truth, np.nan)
        return np.where(self.free, 0.0, found[self.quantity])

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of the formula, in their order; none where it does more with its arrays than can be followed."""
        seen: list[Operation] = []
        if self.trial.declared.formula is None:
            return ()
        try:
            find_vjp(self.trial.declared, self.params, self.inputs, self.dy, lambda call: seen.append(call.operation))
        except Exception:  # reason: as above
            return ()
        return tuple(seen)


def run_once(trial: Trial) -> dict[str, Array]:
    """Return the gradients that a fresh layer gives on the trial, by quantity."""
    problem = trial.problem
    layer = trial.kind(**problem.params[trial.node])
    with quiet():
        layer.forward(*(problem.inputs[name] for name in problem.case.network.output.inputs))
        returned = layer.backward(problem.dy)
    parts = returned if isinstance(returned, tuple) else (returned,)
    wanted = [i for i, varies in enumerate(trial.kind.differentiable) if varies]
    names = {i: "dx" if len(wanted) == 1 else f"dx{i}" for i in wanted}
    dx = {names[i]: np.array(part) for i, part in enumerate(parts) if i in names and part is not None}
    return dx | {f"d{name}": np.array(value) for name, value in layer.grads.items()}


def set_scene(trial: Trial, quantity: str, got: Array) -> Scene:
    """Return the trial in float64 with its truth."""
    problem = trial.problem
    inputs = tuple(_widen(problem.inputs[name]) for name in problem.case.network.output.inputs)
    params = {name: _widen(value) for name, value in problem.params[trial.node].items()}
    dy, given = _widen(problem.dy), np.asarray(got, np.float64)
    y, true = find_vjp(trial.declared, params, inputs, dy)
    free = _find_free(trial, params, inputs, dy, true[quantity], quantity, given)
    known = {name: np.where(free, 0.0, value) if name == quantity else value for name, value in true.items()}
    scene = Scene(trial, params, inputs, dy, y, known, quantity, np.where(free, 0.0, given), free, shifted=True)
    maxima = any(one.name == "xp.max" for one in scene.operations)
    return scene if maxima and _are_near(scene.pull(), scene.truth) else replace(scene, shifted=False)


def _find_free(
    trial: Trial, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, truth: Array, quantity: str, got: Array
) -> Array:
    """Return which entries lie at a kink: a tiny step to either side changes them. None where all of the error is in those."""
    if trial.declared.formula is None:  # differences know their kinks themselves
        return np.zeros(truth.shape, bool)
    sides = []
    for sign in (1, -1):
        moved = tuple(value + sign * STEP * (1 + np.abs(value)) if is_float(value) else value for value in inputs)
        sides.append(find_vjp(trial.declared, params, moved, dy)[1][quantity])
    size = np.abs(truth).max(initial=0.0)
    at_kink = np.asarray(
        (np.abs(sides[0] - sides[1]) > CHANGE * size) | (np.abs(sides[0] + sides[1] - 2 * truth) > CHANGE * size)
    )
    elsewhere = np.linalg.norm(np.where(at_kink, 0.0, got - truth)) > 1e-12 * np.linalg.norm(truth)
    return at_kink if at_kink.any() and elsewhere else np.zeros(truth.shape, bool)


def _are_near(one: Array, other: Array) -> bool:
    return bool(np.linalg.norm(one - other) <= 1e-12 * np.linalg.norm(other))


def _skip_maxima(tamper: Tamper | None) -> Tamper:
    """Return the change that lets no gradient through a maximum either."""

    def change(call: Call) -> Any:
        other = None if tamper is None else tamper(call)
        return detach(call.value) if other is None and call.operation.name == "xp.max" else other

    return change


def _widen(value: Array) -> Array:
    return value.astype(np.float64) if is_float(value) else value


def find_vjp(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, tamper: Tamper | None = None
) -> tuple[Array, dict[str, Array]]:
    """Return the output of the formula and its gradients by quantity; `tamper` sees each operation, and may change it.

    Without a formula they are those of the forward pass itself, in which there is nothing to tamper with.
    """
    if kind.formula is None:
        return find_gradients(kind, params, inputs, dy)
    variable = {i: value for i, value in enumerate(inputs) if kind.differentiable[i]}
    lone = len(variable) == 1

    def forward(leaves: Any) -> Any:
        given = [leaves[1].get(i, value) for i, value in enumerate(inputs)]
        if tamper is None:
            return kind.formula(make_autograd_namespace(), leaves[0], *given)
        return Tape(tamper).run(kind.formula, leaves[0], given)

    y, (dparams, dx) = differentiate(forward, (dict(params), variable), dy)
    return y, {("dx" if lone else f"dx{i}"): value for i, value in dx.items()} | {f"d{key}": v for key, v in dparams.items()}
