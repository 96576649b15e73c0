"""Contracts: a trial of a layer comes in, what the layer breaks besides values goes out.

A layer can give the right gradient once and still be useless in a network: it may change what it was given, hand out
arrays that it goes on using, or remember the pass before. Each contract is one function from a trial to what is broken,
in words; nothing is said where all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.array_api import make_numpy_namespace
from harness.core import Array
from harness.custom.trials import Trial
from harness.floats import is_float
from harness.isolation import quiet
from harness.judge.local import same_bits
from harness.shards import find_place

CLOSE = 1e-3


class NotApplicable(Exception):
    """The contract cannot be put to this layer; the text says why."""


@dataclass(frozen=True)
class Contract:
    """One thing that a layer must keep: its name, why it matters, and what finds it broken."""

    name: str
    why: str
    find: Callable[[Trial], str]


@dataclass(frozen=True, eq=False)
class Pass:
    """Copies of what one forward and backward pass returned."""

    y: Any
    dx: tuple[Any, ...]
    grads: Mapping[str, Any]

    def name(self) -> dict[str, Any]:
        """Return the quantities by name: y, dx0, dx1 ..., dW ...."""
        return {"y": self.y} | {f"dx{i}": part for i, part in enumerate(self.dx)} | {f"d{k}": v for k, v in self.grads.items()}


def look(contract: Contract, trial: Trial) -> str:
    """Return what is broken in words, nothing where the contract is kept; what the layer raises breaks it.

    Raises NotApplicable where the contract cannot be put to the layer.
    """
    try:
        with quiet():
            return contract.find(trial)
    except NotApplicable:
        raise
    except (Exception, SystemExit) as error:  # reason: it is a stranger's code; what it raises is what there is to report
        return f"it raises {type(error).__name__}: {error}{find_place(error)}"


def _make(trial: Trial) -> Any:
    return trial.kind(**trial.problem.params[trial.node])


def _list_inputs(trial: Trial) -> tuple[Array, ...]:
    return tuple(trial.problem.inputs[name] for name in trial.problem.case.network.output.inputs)


def _read(returned: Any) -> tuple[Any, ...]:
    """Return copies of the gradients that backward returned, None where it returned none."""
    parts = returned if isinstance(returned, tuple) else (returned,)
    return tuple(None if part is None else np.array(part) for part in parts)


def _go_back(layer: Any, y: Any, dy: Array) -> Pass:
    dx = _read(layer.backward(dy))
    return Pass(y, dx, {name: np.array(value) for name, value in layer.grads.items()})


def _pass(layer: Any, inputs: tuple[Array, ...], dy: Array) -> Pass:
    return _go_back(layer, np.array(layer.forward(*inputs)), dy)


def _pass_afresh(trial: Trial) -> Pass:
    return _pass(_make(trial), _list_inputs(trial), trial.problem.dy)


def _part(a: Pass, b: Pass) -> str:
    """Return the quantities in which two passes differ in any bit."""
    ours, theirs = a.name(), b.name()
    names = dict.fromkeys([*ours, *theirs])
    return ", ".join(name for name in names if not same_bits(ours.get(name), theirs.get(name)))


def _say(parted: str, words: str) -> str:
    return f"{words}: {parted}" if parted else ""


def _find_changed(trial: Trial) -> str:
    inputs = [value.copy() for value in _list_inputs(trial)]
    layer, dy = _make(trial), trial.problem.dy.copy()
    own = {name: np.array(value) for name, value in trial.problem.params[trial.node].items()}
    held = dict(getattr(layer.layer, "params", {}))
    layer.layer.forward(*inputs)
    changed = [f"forward changed input {i}" for i, (a, b) in _pair(inputs, _list_inputs(trial)) if not same_bits(a, b)]
    before = [value.copy() for value in inputs]
    layer.layer.backward(dy)
    changed += [f"backward changed input {i}" for i, (a, b) in _pair(inputs, before) if not same_bits(a, b)]
    changed += [] if same_bits(dy, trial.problem.dy) else ["backward changed the cotangent dy"]
    changed += [f"a pass changed the parameter {name}" for name in own if not same_bits(held.get(name), own[name])]
    return "; ".join(changed)


def _pair(a: Any, b: Any) -> Any:
    return enumerate(zip(a, b, strict=True))


def _find_random(trial: Trial) -> str:
    return _say(_part(_pass_afresh(trial), _pass_afresh(trial)), "two fresh layers on the same arrays gave different numbers")


def _find_aliased(trial: Trial) -> str:
    """Scribble on what a layer returned, and see whether the next pass suffers."""
    truth, layer = _pass_afresh(trial), _make(trial)
    y = layer.forward(*_list_inputs(trial))
    kept = np.array(y)
    _scribble(y)
    first = _go_back(layer, kept, trial.problem.dy)
    if parted := _part(first, truth):
        return f"whoever writes to the output that forward returned changes what backward gives: {parted}"
    returned = layer.backward(trial.problem.dy)
    for part in returned if isinstance(returned, tuple) else (returned,):
        _scribble(part)
    again = _pass(layer, _list_inputs(trial), trial.problem.dy)
    return _say(_part(again, truth), "whoever writes to the gradient that backward returned changes the pass after it")


def _scribble(value: Any) -> None:
    if isinstance(value, np.ndarray) and value.flags.writeable and is_float(value):
        value[...] = 7.0


def _find_not_linear(trial: Trial) -> str:
    """Powers of two and 0 scale without any rounding, so that nothing but equality is right."""
    layer, dy = _make(trial), trial.problem.dy
    once = _pass(layer, _list_inputs(trial), dy)
    if not all(np.isfinite(value).all() for value in once.name().values() if value is not None):
        raise NotApplicable("the gradients are not finite")
    twice, nothing = _pass_with(trial, 2 * dy), _pass_with(trial, 0 * dy)
    wrong = [name for name, value in nothing.name().items() if name != "y" and value is not None and value.any()]
    if wrong:
        return f"the cotangent 0 does not give 0: {', '.join(wrong)}"
    doubled = Pass(
        once.y, tuple(None if part is None else 2 * part for part in once.dx), {k: 2 * v for k, v in once.grads.items()}
    )
    return _say(_part(twice, doubled), "the cotangent 2 dy does not give twice what dy gives")


def _pass_with(trial: Trial, dy: Array) -> Pass:
    return _pass(_make(trial), _list_inputs(trial), dy.astype(trial.problem.dy.dtype))


def _find_used_up(trial: Trial) -> str:
    layer = _make(trial)
    first = _pass(layer, _list_inputs(trial), trial.problem.dy)
    again = _go_back(layer, first.y, trial.problem.dy)
    return _say(_part(first, again), "a second backward pass behind the same forward pass gave other numbers than the first")


def _find_stale(trial: Trial) -> str:
    """Run other numbers through the layer first: what it keeps of them shows in the next pass."""
    layer = _make(trial)
    others = tuple(np.array(np.flip(value, 0)) if value.ndim else value for value in _list_inputs(trial))
    _pass(layer, others, (-trial.problem.dy).astype(trial.problem.dy.dtype))
    after = _pass(layer, _list_inputs(trial), trial.problem.dy)
    return _say(_part(after, _pass_afresh(trial)), "a pass over other numbers before it changes the result")


def _find_bound_to_layout(trial: Trial) -> str:
    """Give the same numbers in other layouts; sums may be taken in another order then, so that roundings may differ."""
    truth, wrong = _pass_afresh(trial), []
    for name, change in LAYOUTS.items():
        given = tuple(change(value) for value in _list_inputs(trial))
        try:
            found = _pass(_make(trial), given, change(trial.problem.dy))
        except (Exception, SystemExit) as error:  # reason: as in `look`; the layout belongs into the message
            wrong.append(f"{name} arrays: it raises {type(error).__name__}: {error}")
            continue
        parted = [key for key, value in found.name().items() if not _are_close(value, truth.name().get(key))]
        wrong += [f"{name} arrays give other numbers: {', '.join(parted)}"] if parted else []
    return "; ".join(wrong)


def _make_strided(value: Array) -> Array:
    if not value.ndim:
        return value
    spaced = np.zeros([2 * size for size in value.shape], value.dtype)
    view = spaced[(slice(None, None, 2),) * value.ndim]
    view[...] = value
    return view


def _make_read_only(value: Array) -> Array:
    copy = value.copy()
    copy.setflags(write=False)
    return copy


LAYOUTS: Mapping[str, Callable[[Array], Array]] = {
    "read-only": _make_read_only, "Fortran-ordered": lambda value: np.array(value, order="F"), "strided": _make_strided,
}  # fmt: skip


def _are_close(a: Any, b: Any) -> bool:
    """Whether two results differ by no more than roundings of any order of sums: far less than any wrong index makes."""
    if a is None or b is None or np.shape(a) != np.shape(b):
        return a is b
    finite = np.isfinite(a) & np.isfinite(b)
    if not (np.isfinite(a) == np.isfinite(b)).all():
        return False
    one, other = (np.where(finite, value, 0).astype(np.float64) for value in (a, b))
    return bool(np.abs(one - other).max(initial=0.0) <= CLOSE * np.abs(other).max(initial=0.0))


def _find_fails_empty(trial: Trial) -> str:
    """Give an empty batch, where the formula takes one."""
    inputs = _list_inputs(trial)
    if len({value.shape[:1] for value in inputs}) != 1 or not inputs[0].ndim:
        raise NotApplicable("the inputs share no first axis that could be a batch")
    empty, layer = tuple(value[:0] for value in inputs), _make(trial)
    params = trial.problem.params[trial.node]
    who = "forward pass, and there is no formula that does" if trial.kind.formula is None else "formula"
    try:
        shape = np.shape(_find_output(trial, params, empty))
    except Exception as error:  # reason: a formula that takes no empty batch asks none of the layer
        raise NotApplicable(f"no empty batch is taken by the {who} ({error})") from None
    found = _pass(layer, empty, np.zeros(shape, trial.problem.dy.dtype))
    wanted = {"y": shape} | {f"dx{i}": value.shape for i, value in enumerate(empty)}
    wanted |= {f"d{name}": value.shape for name, value in params.items()}
    wrong = [
        f"{name} has the shape {list(np.shape(value))}, not {list(wanted[name])}"
        for name, value in found.name().items()
        if value is not None and name in wanted and np.shape(value) != wanted[name]
    ]
    return "; ".join(wrong)


def _find_output(trial: Trial, params: Mapping[str, Array], inputs: tuple[Array, ...]) -> Any:
    """Return what the formula gives, or where there is none a fresh layer."""
    if trial.kind.formula is None:
        return _make(trial).forward(*inputs)
    return trial.kind.formula(make_numpy_namespace(), params, *inputs)


CONTRACTS = (
    Contract("inputs_unchanged", "whoever made an array still reads it: another layer, or the optimizer", _find_changed),
    Contract("deterministic", "what cannot be repeated cannot be checked, nor trained twice", _find_random),
    Contract("no_aliasing", "an array that was handed out is its new owner's, who may write to it", _find_aliased),
    Contract("linear_in_cotangent", "a vector-Jacobian product is linear: what is not ignores dy somewhere", _find_not_linear),
    Contract("backward_twice", "gradients that add up, or a cache that is used up, are wrong the second time", _find_used_up),
    Contract("no_stale_state", "a layer that remembers the batch before is wrong from the second batch on", _find_stale),
    Contract("layouts", "slices and transposes arrive as they are: read-only, columns first, with gaps", _find_bound_to_layout),
    Contract("empty_batch", "the last batch of a filtered data set may be empty", _find_fails_empty),
)
