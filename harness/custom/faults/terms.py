"""Terms: a scene comes in, gradients that lack what flows through one operation of the formula, or have it otherwise, go out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from harness.core import Array
from harness.custom.faults.factors import fit_factor, list_sizes
from harness.custom.probe import Call, Operation, change_at, detach, stand_in
from harness.custom.scene import Fault, Scene

RANK = 90
REDUCTIONS = ("mean", "sum", "max", "min", "sqrt", "exp")
MOST_OPERATIONS = 64
NEVER_SKIPPED = ("+", "T", "pos", "xp.where", "xp.maximum", "xp.minimum")  # a branch that was missed has a name of its own


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield gradients without the term through calls of a reduction; without a step of the chain; with one term otherwise.

    What a formula subtracts to be safe from overflow, a maximum, has no part in the true gradient; without it, and without
    the term that cancels it, the prediction is that of somebody who never subtracted it.
    """
    for function in REDUCTIONS:
        yield from _forget_calls(scene, f"xp.{function}")
    yield from _forget_calls(scene, "[]")
    yield from _forget_powers(scene)
    yield from _skip_steps(scene)
    yield from _skip_inner(scene)
    for weight, key, side, gradient in weigh_terms(scene):
        yield from _call_weight(scene, weight, key, side, gradient)


def _forget_calls(scene: Scene, name: str) -> Iterator[Fault]:
    places = [one.index for one in scene.operations if one.name == name]
    maxima = {one.index for one in scene.operations if one.name == "xp.max"}
    choices = [{place} for place in places] + ([set(places)] if len(places) > 1 else [])
    for chosen in choices:
        which = f"call {places.index(min(chosen)) + 1} of {len(places)} of {name}" if len(chosen) < len(places) else name
        words = f"the term that flows through {which} in the formula is missing"
        for also in (set[int](), maxima) if maxima else (set[int](),):
            gradient = scene.pull(tamper=change_at(chosen | also, lambda call: detach(call.value)))
            yield Fault("missing-term", f"without {name} {sorted(chosen)} {bool(also)}", words, gradient)


def _forget_powers(scene: Scene) -> Iterator[Fault]:
    """Predict the derivative of a power without its exponent, x^2 for 3 x^2."""
    for one in scene.operations:
        power = one.constants.get(1) if one.name in ("**", "xp.pow") else 2.0 if one.name == "xp.square" else None
        if power:
            words = f"the derivative of {one.text} lacks its factor {power:g}"
            change = change_at({one.index}, partial(_scale, 1 / power))
            yield Fault("missing-factor", f"power {one.index}", words, scene.pull(tamper=change))


def _scale(factor: float, call: Call) -> Any:
    return stand_in(call.value, factor * call.value)


def _skip_steps(scene: Scene) -> Iterator[Fault]:
    """Predict a chain rule of which one step was forgotten: the derivative of one operation taken as 1."""
    for one in scene.operations[:MOST_OPERATIONS]:
        for place, varies in enumerate(one.varies):
            if varies and np.shape(one.value) == np.shape(one.arguments[place]) and one.name not in NEVER_SKIPPED:
                change = change_at({one.index}, partial(_skip, place))
                by = f" by {one.texts[place]}" if len(one.texts) > 1 else ""
                words = f"the derivative of {one.text}{by} is missing: it is taken as 1"
                yield Fault("missing-factor", f"skipped {one.index} {place}", words, scene.pull(tamper=change))


def _skip(place: int, call: Call) -> Any:
    return stand_in(call.value, call.arguments[place])


def _skip_inner(scene: Scene) -> Iterator[Fault]:
    """Predict a chain rule that forgets all that stands inside one operation: its result is differentiated as the input is."""
    for one in scene.operations[:MOST_OPERATIONS]:
        if any(one.varies) and np.shape(one.value) == scene.inputs[0].shape and one.index + 1 < len(scene.operations):
            words = f"the inner derivative, of {one.text} by the input, is missing: it is taken as 1"
            change = change_at({one.index}, lambda call: stand_in(call.value, call.inputs[0]))
            yield Fault("missing-factor", f"inner {one.index}", words, scene.pull(tamper=change))


def weigh_terms(scene: Scene) -> Iterator[tuple[float, str, str, Array]]:
    """Yield the weight that fits best of what flows through one argument of one operation, its name, and the gradient then."""
    for one, place, without in cut_flows(scene):
        term = scene.truth - without
        weight = 1 + fit_factor(scene.error, term)
        if np.isfinite(weight) and not _is_all(term, scene.truth):
            yield weight, f"{one.index} {place}", f"{one.texts[place]} in {one.text}", without + weight * term


@lru_cache(maxsize=8)  # several families ask for the flows of one scene
def cut_flows(scene: Scene) -> tuple[tuple[Operation, int, Array], ...]:
    """Return each operation of several arguments, the place of one, and the gradient without what flows through that.

    Only those are told through which anything flows.
    """
    several = [one for one in scene.operations[:MOST_OPERATIONS] if sum(one.varies) > 1]
    places = [(one, place) for one in several for place, varies in enumerate(one.varies) if varies]
    cut = [(one, place, scene.pull(tamper=change_at({one.index}, _cut(place)))) for one, place in places]
    return tuple(flow for flow in cut if not np.array_equal(flow[-1], scene.truth))


def _call_weight(scene: Scene, weight: float, key: str, side: str, gradient: Array) -> Iterator[Fault]:
    """Yield what a weight may be: 0 or -1, or a size of the arrays."""
    flow = f"the term that flows through {side}"
    if abs(weight) < 1e-3:
        yield Fault("missing-term", f"without {key}", f"{flow} is missing", gradient)
    elif abs(weight + 1) < 1e-3:
        yield Fault("sign", f"negated {key}", f"{flow} has the wrong sign", gradient)
    for name, size in list_sizes(scene).items():
        for value, said in ((size, f"{size}"), (1 / size, f"1/{size}")):
            if size > 2 and abs(weight - value) < 1e-3 * value:
                words = f"{flow} is {said} of what it should be, and {size} is {name}"
                yield Fault("size-factor", f"{key} {name} {size > value}", words, gradient)


def _cut(place: int) -> Callable[[Call], Any]:
    """Return a change that lets no gradient through one argument."""

    def change(call: Call) -> Any:
        given = [detach(value) if i == place else value for i, value in enumerate(call.arguments)]
        return call.repeat(*given)

    return change


def _is_all(term: Array, truth: Array) -> bool:
    return bool(np.linalg.norm(truth - term) <= 1e-9 * np.linalg.norm(truth))
