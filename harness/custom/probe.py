"""Probes: a formula comes in, each operation that it does goes out, to be looked at or tampered with while it is differentiated.

The formula gets arrays that tell a tape of every operator and function they meet. A tamper is called with each; what it
returns stands for the result, so that a gradient can be found as it would be without a term, with another constant, or
with the derivative of an operation taken in the wrong place.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from autograd.tracer import getval, isbox

from harness.array_api import SUBSET, Namespace, make_autograd_namespace


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation: its place in the formula, its name, and the numbers that went in and came out.

    `varies` tells of each argument whether a gradient flows through it, `constants` which are plain numbers of the formula;
    `texts` are the arguments and `text` is the whole as the author may have written them.
    """

    index: int
    name: str
    arguments: tuple[Any, ...]
    value: Any
    varies: tuple[bool, ...]
    constants: Mapping[int, float]
    texts: tuple[str, ...]
    text: str
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Call:
    """An operation as it happens: its arguments may carry gradients, and `repeat` does it once more with others.

    `inputs` are the formula's own, as they carry their gradients.
    """

    operation: Operation
    arguments: tuple[Any, ...]
    value: Any
    repeat: Callable[..., Any]
    inputs: tuple[Any, ...] = ()


Tamper = Callable[[Call], Any]


@dataclass(frozen=True, eq=False)
class _Index:
    """What stands in the brackets behind an array; the operation holds it as its second argument."""

    plain: Any


class Tape:
    """What the arrays of one run of a formula tell of their operations."""

    def __init__(self, tamper: Tamper) -> None:
        self.tamper = tamper
        self.count = 0
        self.inputs: tuple[Any, ...] = ()

    def run(self, formula: Callable[..., Any], params: Mapping[str, Any], inputs: Sequence[Any]) -> Any:
        """Return the formula's value, as plain or traced as its arguments are."""
        known, self.inputs = make_autograd_namespace(), tuple(inputs)
        xp = Namespace({name: self._listen(f"xp.{name}", getattr(known, name)) for name in SUBSET})
        own = {key: Probed(value, self, key) for key, value in params.items()}
        names = ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
        return unwrap(formula(xp, own, *[Probed(value, self, name) for name, value in zip(names, inputs, strict=True)]))

    def apply(self, name: str, function: Callable[..., Any], arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Do an operation, tell the tamper, and return the result, or what the tamper gives for it."""
        raw = tuple(unwrap(one) for one in arguments)
        value = function(*raw, **options)
        constants = {i: float(one) for i, one in enumerate(raw) if isinstance(one, int | float) and not isinstance(one, bool)}
        texts = tuple(map(_describe, arguments))
        text = _write(name, texts, options)
        plain = tuple(map(detach, raw))
        seen = Operation(self.count, name, plain, detach(value), tuple(map(isbox, raw)), constants, texts, text, options)
        self.count += 1
        other = self.tamper(Call(seen, raw, value, lambda *given: function(*given, **options), self.inputs))
        return Probed(value if other is None else other, self, text)

    def _listen(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: self.apply(name, function, arguments, {k: unwrap(v) for k, v in options.items()})


class Probed:
    """An array that tells its tape of each operation that it takes part in."""

    __array_ufunc__ = None  # so that an array on the left leaves the operation to this class

    def __init__(self, value: Any, tape: Tape, text: str) -> None:
        self._value, self._tape, self._text = value, tape, text

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._value, name)
        if name == "T":
            return self._tape.apply("T", operator.attrgetter("T"), (self,), {})
        if not callable(found):
            return found
        return lambda *given, **options: self._tape.apply(name, operator.methodcaller(name, *given, **options), (self,), {})

    def __getitem__(self, index: Any) -> Any:
        plain = tuple(map(unwrap, index)) if isinstance(index, tuple) else unwrap(index)
        return self._tape.apply("[]", lambda value, at: value[at.plain], (self, _Index(plain)), {})

    def __bool__(self) -> bool:
        return bool(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __float__(self) -> float:
        return float(detach(self._value))

    def __index__(self) -> int:
        return operator.index(detach(self._value))


LONGEST = 60
SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "matmul": "@", "mod": "%", "floordiv": "//", "and": "&",
    "or": "|", "xor": "^",
}  # fmt: skip
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def _install_operators() -> None:
    """Give the class its operators: Python looks for them on the class, never through `__getattr__`."""
    for name, sign in {**SIGNS, **COMPARISONS}.items():
        function = getattr(operator, f"__{name}__")
        setattr(Probed, f"__{name}__", _make_operator(sign, function))
        if name in SIGNS:
            setattr(Probed, f"__r{name}__", _make_operator(sign, function, turned=True))
    for name in ("neg", "pos", "abs", "invert"):
        setattr(Probed, f"__{name}__", _make_operator(name, getattr(operator, f"__{name}__")))


def _make_operator(sign: str, function: Callable[..., Any], turned: bool = False) -> Callable[..., Any]:
    def method(self: Probed, *others: Any) -> Any:
        return self._tape.apply(sign, function, (*others, self) if turned else (self, *others), {})

    return method


_install_operators()


def _describe(value: Any) -> str:
    """Return an argument as its author may have written it, numbers rounded."""
    if isinstance(value, Probed):
        return value._text
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_describe, value))}]"
    return f"{value:.6g}" if isinstance(value, int | float) else "an array" if np.ndim(value) else str(value)


def _write(name: str, texts: Sequence[str], options: Mapping[str, Any]) -> str:
    """Return an operation as its author may have written it, without what is deep inside where it is long.

    >>> _write("*", ["x", "1 + y"], {}), _write("xp.sum", ["x"], {"axis": 1, "keepdims": True})
    ('x * (1 + y)', 'xp.sum(x, axis=1)')
    """
    if name.startswith("xp."):
        text = f"{name}({', '.join([*texts, *[f'axis={value}' for key, value in options.items() if key == 'axis']])})"
    elif len(texts) == 2 and name != "[]":
        text = f" {name} ".join(f"({part})" if _needs_brackets(part, name, i) else part for i, part in enumerate(texts))
    else:
        whole = f"({texts[0]})" if _needs_brackets(texts[0], name, 1) else texts[0]
        text = f"{whole}[...]" if name == "[]" else f"-{whole}" if name == "neg" else f"{whole}.{name}"
    return shorten(text)


def shorten(text: str, longest: int = LONGEST) -> str:
    """Return a text without what stands deep inside its brackets, where it is longer than `longest`.

    >>> shorten("1 + (2 + x)")
    '1 + (2 + x)'
    """
    shorter = text
    for deepest in (3, 2, 1) if len(text) > longest else ():
        shorter = _collapse(text, deepest)
        if len(shorter) <= longest:
            break
    return shorter


def _collapse(text: str, deepest: int) -> str:
    """Return the text with three dots for what stands in brackets deeper than that.

    >>> _collapse("xp.log(xp.sum(xp.exp(x), axis=1)) + 1", 1)
    'xp.log(...) + 1'
    """
    depth, out = 0, ""
    for letter in text:
        depth -= letter in ")]"
        out += letter if depth < deepest else "" if out.endswith("...") else "..."
        depth += letter in "(["
    return out


def _needs_brackets(text: str, sign: str, place: int) -> bool:
    """Whether a part of an operation is itself one of another sign, outside any brackets."""
    depth, outside = 0, ""
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        outside += letter if not depth else ""
    signs = set(outside.split()[1::2])
    return bool(signs) and not (signs == {sign} and sign in "+*" and place == 0)


def unwrap(value: Any) -> Any:
    """Return what a probed array, or a list or tuple of them, holds."""
    if isinstance(value, list | tuple):
        return type(value)(unwrap(part) for part in value)
    return value._value if isinstance(value, Probed) else value


def detach(value: Any) -> Any:
    """Return the numbers of a value without its gradient."""
    if isinstance(value, list | tuple):
        return type(value)(detach(part) for part in value)
    while isbox(value):
        value = getval(value)
    return value


def stand_in(value: Any, gradient_of: Any) -> Any:
    """Return `value` to the bit, as far as the sum does not round, with the gradient of another value of the same shape."""
    return detach(value) + (gradient_of - detach(gradient_of))


def change_at(places: Collection[int], change: Callable[[Call], Any]) -> Tamper:
    """Return a tamper that changes the operations at these places of the formula, and leaves the others as they are."""
    return lambda call: change(call) if call.operation.index in places else None


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of a value, traced or plain."""
    return tuple(np.shape(detach(value)))
