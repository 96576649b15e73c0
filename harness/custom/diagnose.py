"""Diagnosis: a trial, a quantity and the wrong gradient that a layer gave come in, the known fault that explains it goes out.

Every known fault is a prediction: the gradient that the formula would have if its author had made that mistake. A fault
fits where its prediction comes so near to what the layer gave that next to nothing of the error is left. It must fit in
every trial that is looked at; where none does, that is said, for a wrong cause is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from harness.array_api import Namespace, make_autograd_namespace
from harness.backends.autograd_hips import differentiate
from harness.core import Array
from harness.custom.trials import Trial
from harness.floats import is_float
from harness.isolation import quiet

LEFT = 0.01
NOTHING_FITS = "no known fault explains it"
MOST_TRIALS, MOST_ROWS, MOST_COLUMNS, MOST_CALLS = 3, 16, 64, 8
DETACHED = ("mean", "sum", "max", "min", "sqrt", "exp")


@dataclass(frozen=True, eq=False)
class Scene:
    """One trial in float64: what went in, the true output and gradients by quantity, and what the layer gave for one of them."""

    trial: Trial
    params: Mapping[str, Array]
    inputs: tuple[Array, ...]
    dy: Array
    y: Array
    true: Mapping[str, Array]
    quantity: str
    got: Array

    @property
    def truth(self) -> Array:
        """The true value of the quantity."""
        return self.true[self.quantity]


@dataclass(frozen=True, eq=False)
class Fault:
    """A prediction: what the gradient would be, the name of the mistake by which trials are compared, and it in words."""

    name: str
    words: str
    gradient: Array


def diagnose_layer(trials: Sequence[Trial], quantity: str) -> str:
    """Return what explains the gradient that the layer gives in these trials; those of the most various sizes are run."""
    various = list({trial.problem.dy.shape: trial for trial in reversed(trials)}.values())[::-1]
    chosen = [*various, *(trial for trial in trials if trial not in various)][:MOST_TRIALS]
    got = [run_once(trial).get(quantity) for trial in chosen]
    pairs = [(trial, value) for trial, value in zip(chosen, got, strict=True) if value is not None]
    return diagnose([trial for trial, _ in pairs], quantity, [value for _, value in pairs]) if pairs else NOTHING_FITS


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


def diagnose(trials: Sequence[Trial], quantity: str, got: Sequence[Array]) -> str:
    """Return in words which known fault explains what the layer gave for the quantity in all the trials, or that none does.

    `got` holds an array of the truth's shape for each trial.
    """
    with quiet():
        scenes = [set_scene(trial, quantity, value) for trial, value in zip(trials, got, strict=True)]
        wrong = [scene for scene in scenes if not _explains(scene, scene.truth, LEFT)]
        if not wrong or not all(np.isfinite(scene.got).all() and np.isfinite(scene.truth).all() for scene in wrong):
            return NOTHING_FITS
        return _name(wrong)


def _name(scenes: Sequence[Scene]) -> str:
    for find in FAMILIES:
        fitting = [{fault.name: fault.words for fault in find(scene) if _fits(scene, fault.gradient)} for scene in scenes]
        common = [name for name in fitting[0] if all(name in one for one in fitting)]
        if common:
            return fitting[0][common[0]]
    return NOTHING_FITS


def set_scene(trial: Trial, quantity: str, got: Array) -> Scene:
    """Return the trial in float64 with its truth."""
    problem = trial.problem
    inputs = tuple(_widen(problem.inputs[name]) for name in problem.case.network.output.inputs)
    params = {name: _widen(value) for name, value in problem.params[trial.node].items()}
    dy = _widen(problem.dy)
    y, true = find_vjp(trial.declared, params, inputs, dy)
    return Scene(trial, params, inputs, dy, y, true, quantity, np.asarray(got, np.float64))


def _widen(value: Array) -> Array:
    return value.astype(np.float64) if is_float(value) else value


def find_vjp(
    kind: Any, params: Mapping[str, Array], inputs: tuple[Array, ...], dy: Array, xp: Namespace | None = None
) -> tuple[Array, dict[str, Array]]:
    """Return the output of the formula and its gradients by quantity."""
    names = xp or make_autograd_namespace()
    variable = {i: value for i, value in enumerate(inputs) if kind.differentiable[i]}
    lone = len(variable) == 1

    def forward(leaves: Any) -> Any:
        return kind.formula(names, leaves[0], *[leaves[1].get(i, value) for i, value in enumerate(inputs)])

    y, (dparams, dx) = differentiate(forward, (dict(params), variable), dy)
    return y, {("dx" if lone else f"dx{i}"): value for i, value in dx.items()} | {f"d{key}": v for key, v in dparams.items()}


def _fits(scene: Scene, gradient: Array) -> bool:
    """Whether the prediction leaves next to nothing of the error."""
    if np.shape(gradient) != scene.got.shape or not np.isfinite(gradient).all():
        return False
    left, error = np.linalg.norm(scene.got - gradient), np.linalg.norm(scene.got - scene.truth)
    return bool(left <= LEFT * error)


def _explains(scene: Scene, gradient: Array, share: float) -> bool:
    """Whether the truth itself is what came: to a share of what a fault is at least, it is no fault."""
    return bool(np.linalg.norm(scene.got - gradient) <= share * 1e-9 * np.linalg.norm(gradient))


def _find_plain(scene: Scene) -> Iterator[Fault]:
    """Predict gradients that are 0, another quantity's, or the cotangent itself."""
    yield Fault("zero", "it is 0 everywhere", np.zeros_like(scene.truth))
    for name, value in scene.true.items():
        if name != scene.quantity and not np.array_equal(value, scene.truth):
            yield Fault(
                f"swapped {name}", f"it is the gradient {name} instead: the two are swapped, or a factor is missing", value
            )
    if scene.quantity.startswith("dx"):
        yield Fault("identity", "it is dy itself: the local derivative is missing", scene.dy)


def _find_factors(scene: Scene) -> Iterator[Fault]:
    """Predict the truth times the one number that fits best, under each name that the number can have."""
    square = float(np.vdot(scene.truth, scene.truth))
    factor = float(np.vdot(scene.truth, scene.got)) / square if square else float("nan")
    if np.isfinite(factor) and factor:
        for name, words in _call_factor(scene, factor):
            yield Fault(name, words, factor * scene.truth)


def _call_factor(scene: Scene, factor: float) -> Iterator[tuple[str, str]]:
    """Yield name and words of what a constant factor may be, the plain number last.

    Trials of several sizes tell a factor that is a size from one that merely equals it in one of them.
    """
    if _is(factor, -1):
        yield "sign", "its sign is wrong"
    for name, size in _list_sizes(scene).items():
        if _is(factor, 1 / size):
            yield f"1/{name}", f"it is 1/{size} of the truth, and {size} is {name}: a mean for a sum, or divided once too often"
        if _is(factor, size):
            yield name, f"it is {size} times the truth, and {size} is {name}: a sum for a mean, or not divided"
        for off in (-1, 1):
            if size + off > 0 and _is(factor, size / (size + off)):
                yield f"{name}{off:+d}", f"it is {size}/{size + off} of the truth, and {size} is {name}: {size + off} for {size}"
    for value, words in ((2.0, "it is twice the truth: added twice"), (0.5, "it is half the truth")):
        if _is(factor, value):
            yield words, words
    yield f"factor {factor:.4g}", f"it is {factor:.7g} times the truth, a constant factor"


def _is(factor: float, value: float) -> bool:
    return abs(factor - value) <= 1e-5 * abs(factor - 1)


def _list_sizes(scene: Scene) -> dict[str, int]:
    """Return the sizes that a factor may be, by what they are; the batch first."""
    sizes = {}
    if scene.dy.ndim or scene.inputs[0].ndim:
        sizes["the batch"] = scene.inputs[0].shape[0] if scene.inputs[0].ndim else 1
    for label, value in (("input", scene.inputs[0]), ("output", scene.y)):
        sizes |= {f"axis {axis} of the {label}": size for axis, size in enumerate(value.shape)}
        sizes[f"the number of entries of the {label}"] = value.size
    return sizes


def _find_orders(scene: Scene) -> Iterator[Fault]:
    """Predict the right numbers in wrong places."""
    truth = scene.truth
    if truth.ndim == 2 and truth.shape[0] == truth.shape[1] > 1:
        yield Fault("transposed", "it is transposed", truth.T)
    if truth.ndim > 1:
        yield Fault("reshaped", "its numbers are right, in the memory order of its transpose: reshaped instead of transposed",
                    truth.T.reshape(truth.shape))  # fmt: skip
    for axis in range(truth.ndim):
        if truth.shape[axis] > 1:
            yield Fault(f"reversed {axis}", f"it is reversed along axis {axis}", np.flip(truth, axis))
            for step in (1, -1):
                yield Fault(f"rolled {axis} {step}", f"it is shifted by {step} along axis {axis}", np.roll(truth, step, axis))
    yield Fault("absolute", "its signs are lost: it is the absolute value", np.abs(truth))


def _find_sums(scene: Scene) -> Iterator[Fault]:
    """Predict sums and means of the cotangent over any axes that give the right shape."""
    axes = range(scene.dy.ndim)
    for count in range(1, scene.dy.ndim + 1):
        for over in combinations(axes, count):
            for name, reduce in (("summed", np.sum), ("averaged", np.mean)):
                value = np.asarray(reduce(scene.dy, axis=over))
                if value.size == scene.truth.size:
                    words = f"it is dy {name} over the axes {list(over)}, which are the wrong ones"
                    yield Fault(f"{name} {over}", words, value.reshape(scene.truth.shape))


def _find_cotangents(scene: Scene) -> Iterator[Fault]:
    """Predict gradients of other cotangents: of ones, without one row, of the mean."""
    kind, dy = scene.trial.declared, scene.dy
    others = {
        "ones": ("dy is ignored: it is the gradient for a cotangent of ones", np.ones_like(dy)),
        "mean": ("dy is averaged first", np.full_like(dy, dy.mean() if dy.size else 0.0)),
        "sum": ("dy is summed first", np.full_like(dy, dy.sum())),
        "sign": ("only the sign of dy is used", np.sign(dy)),
        "square": ("dy is used twice, as a square", dy * dy),
    }
    rows = len(dy) if dy.ndim else 0
    for row in range(rows) if rows <= MOST_ROWS else ():
        for place in [name for name, index in (("first", 0), ("last", rows - 1)) if index == row] or [f"row {row}"]:
            others[f"without the {place}"] = (f"row {row} of the batch is left out, the {place} of {rows}", _drop(dy, row))
    for name, (words, other) in others.items():
        yield Fault(name, words, find_vjp(kind, scene.params, scene.inputs, other)[1][scene.quantity])


def _drop(dy: Array, row: int) -> Array:
    out = dy.copy()
    out[row] = 0
    return out


def _find_places(scene: Scene) -> Iterator[Fault]:
    """Predict derivatives taken at the output for the input, or at the input where the rule is one of the output."""
    if scene.y.shape == scene.inputs[0].shape and scene.quantity in ("dx", "dx0"):
        moved = (scene.y, *scene.inputs[1:])
        at_output = find_vjp(scene.trial.declared, scene.params, moved, scene.dy)[1][scene.quantity]
        yield Fault("at output", "the derivative is taken at the output instead of the input", at_output)
        x = scene.inputs[0]
        for name, rule in (("y (1 - y)", x * (1 - x)), ("1 - y^2", 1 - x * x), ("y", x)):
            yield Fault(f"at input {name}", f"the derivative {name} is taken at the input instead of the output", scene.dy * rule)


def _find_transposed_params(scene: Scene) -> Iterator[Fault]:
    """Predict gradients through a square parameter that was not transposed on the way back, or was when it should not be."""
    for name, value in scene.params.items():
        if value.ndim == 2 and value.shape[0] == value.shape[1] > 1:
            turned = {**scene.params, name: value.T}
            gradient = find_vjp(scene.trial.declared, turned, scene.inputs, scene.dy)[1][scene.quantity]
            yield Fault(
                f"turned {name}", f"the parameter {name} is transposed where it must not be, or not where it must", gradient
            )


def _find_extra_factors(scene: Scene) -> Iterator[Fault]:
    """Predict the truth with a factor too many or too few that is one of the arrays at hand."""
    known: dict[str, Array] = {f"input {i}": value for i, value in enumerate(scene.inputs)} if len(scene.inputs) > 1 else {}
    known |= {"x": scene.inputs[0], "y": scene.y, "dy": scene.dy, "1 - y": 1 - scene.y, **scene.params}
    for name, value in known.items():
        try:
            shape = np.broadcast_shapes(np.shape(value), scene.truth.shape)
        except ValueError:
            continue
        if shape == scene.truth.shape and np.size(value) > 1 and is_float(np.asarray(value)):
            yield Fault(f"times {name}", f"it has the factor {name} too much", scene.truth * value)
            yield Fault(f"over {name}", f"the factor {name} is missing", scene.truth / value)


def _find_missing_terms(scene: Scene) -> Iterator[Fault]:
    """Predict gradients that do not flow through some calls of a reduction of the formula: their term was forgotten.

    What a formula subtracts to be safe from overflow, a maximum, has no part in the true gradient; without it, and without
    the term that cancels it, the prediction is that of somebody who never subtracted it.
    """
    for function in DETACHED:
        calls = _count_calls(scene, function)
        choices = [frozenset([i]) for i in range(min(calls, MOST_CALLS))] + ([frozenset(range(calls))] if calls > 1 else [])
        for chosen in choices:
            which = f"call {min(chosen) + 1} of {calls} of xp.{function}" if len(chosen) < calls else f"xp.{function}"
            words = f"the term that flows through {which} in the formula is missing"
            for also in ({}, {"max": frozenset(range(MOST_CALLS))}):
                xp = _detach({function: chosen, **also})
                gradient = find_vjp(scene.trial.declared, scene.params, scene.inputs, scene.dy, xp)[1]
                yield Fault(f"without {function} {sorted(chosen)} {sorted(also)}", words, gradient[scene.quantity])


def _detach(chosen: Mapping[str, frozenset[int]], seen: Mapping[str, list[int]] | None = None) -> Namespace:
    """Return the functions of formulas; no gradient flows through the chosen calls of each. `seen` takes the calls made."""
    own = make_autograd_namespace()
    calls = seen or {name: [] for name in chosen}
    return Namespace({**vars(own), **{name: _stop(getattr(own, name), which, calls[name]) for name, which in chosen.items()}})


def _stop(function: Callable[..., Any], chosen: frozenset[int], calls: list[int]) -> Callable[..., Any]:
    from autograd.tracer import getval, isbox

    def call(*arguments: Any, **options: Any) -> Any:
        value = function(*arguments, **options)
        calls.append(len(calls))
        while calls[-1] in chosen and isbox(value):
            value = getval(value)
        return value

    return call


def _count_calls(scene: Scene, function: str) -> int:
    calls: list[int] = []
    find_vjp(scene.trial.declared, scene.params, scene.inputs, scene.dy, _detach({function: frozenset()}, {function: calls}))
    return len(calls)


def _find_diagonal(scene: Scene) -> Iterator[Fault]:
    """Predict a Jacobian of which only the diagonal is used, where rows of the batch do not mix."""
    x, width = scene.inputs[0], scene.y.shape[-1] if scene.y.ndim else 0
    if scene.y.shape != x.shape or not 1 < width <= MOST_COLUMNS or scene.quantity not in ("dx", "dx0"):
        return
    diagonal = np.zeros_like(x, np.float64)
    for column in range(width):
        one = np.zeros_like(scene.dy)
        one[..., column] = 1.0
        diagonal[..., column] = find_vjp(scene.trial.declared, scene.params, scene.inputs, one)[1][scene.quantity][..., column]
    yield Fault("diagonal", "only the diagonal of the Jacobian is used", scene.dy * diagonal)


def _find_local(scene: Scene) -> Iterator[Fault]:
    """Predict errors that are confined: to one entry, one slice, or to what lies beyond a limit."""
    wrong = np.abs(scene.got - scene.truth) > LEFT * np.linalg.norm(scene.got - scene.truth) / max(scene.truth.size, 1)
    places = np.argwhere(wrong)
    if not len(places) or len(places) == scene.truth.size:
        return
    mended = np.where(wrong, scene.got, scene.truth)
    limit = float(np.abs(scene.got).max())
    if (np.abs(scene.truth[wrong]) > limit).all() and np.allclose(np.abs(scene.got[wrong]), limit, rtol=1e-6):
        yield Fault("clipped", f"it is clipped at {limit:.7g}", mended)
    if len(places) == 1:
        index = "".join(f"[{i}]" for i in places[0])
        yield Fault("one entry", f"a single entry is wrong, {scene.quantity}{index}", mended)
    for axis in range(scene.truth.ndim):
        if len(set(places[:, axis])) == 1 and scene.truth.shape[axis] > 1 and scene.truth.ndim > 1:
            at, nothing = int(places[0, axis]), " which is 0" if not np.take(scene.got, places[0, axis], axis).any() else ""
            where = "last" if at == scene.truth.shape[axis] - 1 else f"{at}"
            yield Fault(f"slice {axis} {where}", f"only index {at} of axis {axis} is wrong{nothing}", mended)
    if not scene.got[wrong].any():
        yield Fault("some 0", f"{len(places)} of {scene.truth.size} entries are 0, the others are right", mended)


def _find_casts(scene: Scene) -> Iterator[Fault]:
    """Take for a cast what errs everywhere by no more than roundings of a narrower dtype, and of no size in common."""
    used = scene.truth != 0
    error = np.abs(scene.got - scene.truth)[used] / np.abs(scene.truth)[used]
    if scene.trial.problem.case.dtype == "float64" and error.size > 3 and 2.0**-30 < np.median(error) < 2.0**-21:
        yield Fault("float32", "it errs as if computed in float32: a cast or a constant in float32 is inside", scene.got)


Family = Callable[[Scene], Iterator[Fault]]
FAMILIES: tuple[Family, ...] = (
    _find_plain, _find_factors, _find_orders, _find_sums, _find_cotangents, _find_places, _find_transposed_params,
    _find_extra_factors, _find_diagonal, _find_missing_terms, _find_local, _find_casts,
)  # fmt: skip
