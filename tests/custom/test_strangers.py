"""Layers that raise, return or say what no layer should come in; a verdict with its place, and never a crash, goes out."""

from __future__ import annotations

import io
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from harness import CheckReport, LayerSpec, check_layer, styles
from harness.core import BadInput
from tests.custom.layers import Linear, Swish, linear, swish


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def give_up(error: BaseException) -> Callable[[Any], Any]:
    def act(value: Any) -> Any:
        raise error

    return act


def descend(value: Any) -> Any:
    return descend(value)


# What a pass does in place of returning its value, and a word that the verdict must hold.
RAISES: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "raises": (give_up(ValueError("planted")), "error in 1 of 1 trials: ValueError: planted (line"),
    "exits": (give_up(SystemExit(3)), "error in 1 of 1 trials: SystemExit: 3 (line"),
    "speechless": (give_up(Speechless()), "Speechless: (its text cannot be read) (line"),
    "long-winded": (give_up(ValueError("x" * 10**6)), "xxx... (line"),
    "in colour": (give_up(ValueError("\x1b[31mred\nand \ud800")), r"ValueError: \x1b[31mred and \ud800 (line"),
    "descends": (descend, "RecursionError: maximum recursion depth exceeded"),
    "out of memory": (give_up(MemoryError("all")), "memory in 1 of 1 trials: MemoryError: all (line"),
    "stops": (give_up(StopIteration()), "StopIteration (line"),
    "our own error": (give_up(BadInput("mine")), "BadInput: mine (line"),
    "group": (give_up(ExceptionGroup("two", [ValueError("a")])), "ExceptionGroup: two (1 sub-exception) (line"),
}
RETURNS: Mapping[str, tuple[Callable[[Any], Any], str, str]] = {
    "none": (lambda value: None, "forward returned None; accepted is an array", "missing"),
    "list": (lambda value: value.tolist(), "forward returned a list", "backward returned a list; accepted is an array"),
    "ragged": (lambda value: [[1.0], [1.0, 2.0]], "forward returned a list", "backward returned a list"),
    "scalar": (lambda value: 1.0, "the shape is []; it must be [4, 3]", "the shape is []; it must be [4, 3]"),
    "many": (lambda value: (value, value), "forward returned a tuple", "backward returned 2 gradients; accepted are 1"),
    "empty": (lambda value: (), "forward returned a tuple", "missing"),
    "objects": (lambda value: value.astype(object), "the dtype is object", "the dtype is object"),
    "complex": (lambda value: value.astype(complex), "the dtype is complex128", "the dtype is complex128"),
    "integers": (lambda value: value.astype(int), "the dtype is int64", "the dtype is int64"),
    "records": (lambda value: np.zeros(value.shape, [("a", float)]), "the dtype is [('a', '<f8')]", "error"),
    "dates": (lambda value: np.full(value.shape, np.datetime64("2020")), "accepted are numbers", "accepted are numbers"),
    "turned": (lambda value: value.T.copy(), "the shape is [3, 4]", "the shape is [3, 4]"),
    "cut": (lambda value: value[:1], "the shape is [1, 3]", "the shape is [1, 3]"),
    "nan": (lambda value: value * np.nan, "nonfinite", "nonfinite"),
    "infinite": (lambda value: value * np.inf, "nonfinite", "nonfinite"),
    "text": (lambda value: "dx", "forward returned a str", "backward returned a str"),
    "dict": (lambda value: {"dx": value}, "forward returned a dict", "backward returned a dict"),
    "generator": (lambda value: (one for one in value), "forward returned a generator", "backward returned a generator"),
    "unprintable": (lambda value: Unprintable(), "forward returned an Unprintable", "backward returned an Unprintable"),
}


def make_odd(act: Callable[[Any], Any], where: str, at: int = 1) -> Any:
    """Return a right layer that does `act` to what the pass returns, from its `at`-th call over all objects on."""

    class Odd(Swish):
        calls = 0

        def forward(self, x: Any) -> Any:
            return self._do("forward", super().forward(x))

        def backward(self, dy: Any) -> Any:
            return self._do("backward", super().backward(dy))

        def _do(self, name: str, value: Any) -> Any:
            Odd.calls += name == where
            return act(value) if name == where and Odd.calls >= at else value

    return Odd


def run(layer: Any, formula: Any = swish, inputs: Any = ((4, 3),), **settings: Any) -> CheckReport:
    wanted = {"against": [], "dtypes": ["float64"], "cases": 1, "on_fail": "report", **settings}
    return check_layer(layer, formula, inputs=inputs, **wanted)


def find_message(report: CheckReport, check: str) -> str:
    (result,) = [one for one in report.results if one.check == check and one.backend == "numpy"]
    assert result.state == "failed"
    return result.message


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(("act", "words"), RAISES.values(), ids=RAISES)
def test_what_a_pass_raises_is_a_verdict_with_its_place(act: Any, words: str, where: str) -> None:
    report = run(make_odd(act, where))
    message = find_message(report, "gradients")
    assert words in message
    assert "of test_strangers.py, in " in message
    assert "wrong is your layer" in message
    assert len(report.describe()) < 5000
    assert report.describe().isprintable() or "\n" in report.describe()
    assert {one.state for one in report.results if one.check == "deterministic"} == {"skipped"}


@pytest.mark.parametrize(("act", "forward", "backward"), RETURNS.values(), ids=RETURNS)
def test_what_a_pass_returns_is_a_verdict(act: Any, forward: str, backward: str) -> None:
    assert forward in find_message(run(make_odd(act, "forward")), "forward")
    assert backward in find_message(run(make_odd(act, "backward")), "gradients")


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("name", ["raises", "exits", "speechless"])
@pytest.mark.parametrize("unaided", [False, True])
def test_it_may_happen_at_any_call(name: str, where: str, unaided: bool) -> None:
    """The judge runs the layer again and again; wherever it first misbehaves, the report says so or all was over before."""
    act, _ = RAISES[name]
    for at in (1, 2, 3, 5, 8, 13, 21, 34):
        report = run(make_odd(act, where, at), None if unaided else swish)
        assert report.failures


@pytest.mark.parametrize("name", ["none", "ragged", "objects", "turned", "text"])
def test_it_may_return_it_at_any_call(name: str) -> None:
    for where in ("forward", "backward"):
        for at in (2, 3, 5, 8, 13, 21):
            assert run(make_odd(RETURNS[name][0], where, at)).failures


def test_an_interruption_passes_through_and_leaves_all_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = (sys.stdout, sys.stderr, list(warnings.filters), np.geterr())
    with pytest.raises(KeyboardInterrupt):
        run(make_odd(give_up(KeyboardInterrupt()), "backward"))
    assert (sys.stdout, sys.stderr, list(warnings.filters), np.geterr()) == before


@pytest.mark.parametrize("error", [ValueError("planted"), SystemExit(1), Speechless(), KeyError("W")])
def test_a_layer_that_cannot_be_made_is_a_verdict(error: BaseException) -> None:
    class Unmade(Swish):
        def __init__(self) -> None:
            raise error

    report = run(Unmade, against=["torch"])
    assert f"error in 1 of 1 trials: {type(error).__name__}" in find_message(report, "gradients")
    assert "test_strangers.py, in __init__" in find_message(report, "forward")
    assert {one.state for one in report.results if one.backend == "torch"} == {"skipped"}


def test_a_factory_may_return_something_else_the_second_time() -> None:
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return Swish() if len(made) == 1 else "no layer"

    assert "layer: 'no layer' has no method forward" in find_message(run(make), "gradients")


@pytest.mark.parametrize("held", [threading.Lock(), io.StringIO().__enter__(), (one for one in "abc")])
def test_a_layer_that_cannot_be_copied_is_told_with_what_to_do(held: Any) -> None:
    layer = Swish()
    layer.held = held  # type: ignore[attr-defined]  # reason: whatever a stranger keeps
    if isinstance(held, io.StringIO):
        layer.held = sys.__stdout__  # type: ignore[attr-defined]  # reason: as above
    with pytest.raises(BadInput, match=r"cannot be copied for each trial .* accepted is a factory: lambda: Swish\(\.\.\.\)"):
        run(layer)


class WithParams(Linear):
    """A right layer whose `params` are what a test makes them."""

    def __init__(self) -> None:
        super().__init__()
        del self.params
        self.params = self.make({"W": self.W, "b": self.b})

    def make(self, params: Any) -> Any:
        return params


def with_params(make: Callable[[Any], Any]) -> Any:
    return type("Made", (WithParams,), {"make": lambda self, params: make(params)})


def test_read_only_params_are_replaced() -> None:
    assert run(with_params(MappingProxyType), linear, [(4, 5)]).passed


def test_params_that_are_made_afresh_each_time_are_found_by_their_arrays() -> None:
    class Fresh(Linear):
        params = property(lambda self: {"W": self.W, "b": self.b}, lambda self, value: None)  # type: ignore[assignment]  # reason: a stranger's

    assert run(Fresh, linear, [(4, 5)]).passed


def test_params_that_take_no_others_are_a_verdict() -> None:
    kept = {"W": np.ones((5, 3)), "b": np.ones(3)}

    class Stubborn(Linear):
        params = property(lambda self: MappingProxyType(kept), lambda self, value: None)  # type: ignore[assignment]  # reason: a stranger's

    assert "its params take no other W, b" in find_message(run(Stubborn, linear, [(4, 5)]), "gradients")


@pytest.mark.parametrize("params", [[np.ones(3)], "W", 3, {1: np.ones(3)}])
def test_params_that_are_no_dict_are_told(params: Any) -> None:
    with pytest.raises(BadInput, match=r"params: .*; accepted is a dict of arrays by name"):
        run(with_params(lambda own: params), linear, [(4, 5)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda grads: {}, "missing in 1 of 1 trials"),
        (lambda grads: None, "missing in 1 of 1 trials"),
        (lambda grads: {"W": grads["W"]}, "missing in 1 of 1 trials"),
        (lambda grads: {"W": grads["W"], "b": None}, "missing in 1 of 1 trials"),
        (lambda grads: {**grads, "bias": grads["b"]}, "a gradient came back that the formula does not have"),
        (lambda grads: list(grads.values()), "grads holds a list; accepted is a dict of arrays by name"),
        (lambda grads: grads["W"], "grads holds a ndarray"),
        (lambda grads: {**grads, "b": grads["b"].tolist()}, "grads['b']: backward returned a list"),
        (lambda grads: {**grads, "b": grads["b"][:1]}, "the shape is [1]; it must be [3]"),
        (lambda grads: {**grads, "b": grads["b"].astype(object)}, "the dtype is object"),
        (lambda grads: {**grads, "b": grads["b"] * np.nan}, "nonfinite"),
        (lambda grads: {0: grads["W"]}, "grads holds a dict"),
    ],
)
def test_whatever_grads_hold_is_a_verdict(change: Any, words: str) -> None:
    class Odd(Linear):
        def backward(self, dy: Any) -> Any:
            dx = super().backward(dy)
            self.grads = change(self.grads)
            return dx

    report = run(Odd, linear, [(4, 5)])
    assert words in find_message(report, "gradients")


def test_an_attribute_that_raises_is_a_verdict() -> None:
    class Prickly(Swish):
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    assert "KeyError: 'grads' (line" in find_message(run(Prickly), "gradients")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (give_up(ValueError("no data")), "inputs: the function raises ValueError: no data (line"),
        (lambda rng: None, "inputs: the function returned None"),
        (lambda rng: [object()], "makes no array|holds object"),
        (lambda rng: [[[1.0], [1.0, 2.0]]], "makes no array"),
    ],
)
def test_inputs_that_cannot_be_drawn_are_the_callers(inputs: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words.replace("(", r"\(")):
        run(Swish, inputs=inputs)


def test_a_formula_that_exits_is_the_callers() -> None:
    def leave(xp: Any, params: Any, x: Any) -> Any:
        sys.exit(4)

    with pytest.raises(BadInput, match=r"formula: it fails on inputs of the shapes \[\[4, 3\]\]: SystemExit: 4 \(line"):
        run(Swish, leave)


def test_what_a_layer_says_is_told_once_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    class Talks(Swish):
        def forward(self, x: Any) -> Any:
            sys.stdout.write(f"shape {x.shape}\n")
            sys.stderr.write("to stderr\n")
            warnings.warn("careful", UserWarning, stacklevel=1)
            return super().forward(x)

    before = list(warnings.filters)
    report = run(Talks)
    assert report.passed
    assert list(warnings.filters) == before
    assert capsys.readouterr() == ("", "")
    out, err, warned = report.findings
    assert out.startswith("it prints to stdout, ")
    assert out.endswith("the first: shape (4, 3)")
    assert err.endswith("the first: to stderr")
    assert warned.startswith("it warns, ")
    assert "UserWarning: careful (line" in warned
    assert "of test_strangers.py)" in warned


def _wrap_functions(act: Any, where: str) -> Any:
    layer = make_odd(act, where)()
    return styles.from_functions(lambda x: (layer.forward(x), None), lambda dy, cache: layer.backward(dy))


def _wrap_buffers(act: Any, where: str) -> Any:
    class Buffered(make_odd(act, where)):  # type: ignore[misc]  # reason: a class that is made
        def passes(self) -> None:
            self.y = self.forward(self.x0)

        def back(self) -> None:
            self.dx = self.backward(self.dy)

    return styles.from_buffers(Buffered, inputs=["x0"], forward="passes", backward="back")


def _wrap_torch(act: Any, where: str) -> Any:
    import torch

    layer = make_odd(lambda value: act(value), where)()

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return torch.from_numpy(np.asarray(layer.forward(x.numpy())))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return torch.from_numpy(np.asarray(layer.backward(dy.numpy())))

    return styles.from_torch(Function)


def _wrap_activation(act: Any, where: str) -> Any:
    layer = make_odd(act, where)()
    return styles.from_activation(layer.forward, lambda x: layer.backward(np.ones_like(x)))


ADAPTERS: Mapping[str, Callable[[Any, str], Any]] = {
    "attributes": lambda act, where: styles.from_attributes(make_odd(act, where)),
    "dicts": lambda act, where: styles.from_dicts(_with_dicts(act, where)),
    "lists": lambda act, where: styles.from_lists(_with_lists(act, where)),
    "returned": lambda act, where: styles.from_returned(make_odd(act, where), params=[], backward="backward"),
    "updating": lambda act, where: styles.from_updating(_with_rate(act, where), [], learning_rate="rate"),
    "buffers": _wrap_buffers,
    "functions": _wrap_functions,
    "activation": _wrap_activation,
    "torch": _wrap_torch,
    "adjusted": lambda act, where: styles.adjust(styles.from_attributes(make_odd(act, where)), before=lambda layer: None),
}


def _with_dicts(act: Any, where: str) -> Any:
    return type("Kept", (make_odd(act, where),), {"params": {}, "grads": {}})


def _with_lists(act: Any, where: str) -> Any:
    return type("Kept", (make_odd(act, where),), {"params": [], "grads": []})


def _with_rate(act: Any, where: str) -> Any:
    return type("Kept", (make_odd(act, where),), {"rate": 0.1})


def _list_odd() -> Iterator[Any]:
    for adapter in ADAPTERS:
        for where in ("forward", "backward"):
            for name in ("raises", "exits", "speechless", "none", "ragged", "objects", "text", "nan", "turned"):
                yield pytest.param(adapter, where, name, id=f"{adapter}-{where}-{name}")


@pytest.mark.parametrize(("adapter", "where", "name"), list(_list_odd()))
def test_every_style_hands_it_on_as_a_verdict(adapter: str, where: str, name: str) -> None:
    act = RAISES[name][0] if name in RAISES else RETURNS[name][0]
    report = run(ADAPTERS[adapter](act, where))
    failed = {one.check for one in report.failures}
    assert failed & {"forward", "gradients"}
    if name in ("raises", "speechless") and adapter != "torch":
        assert "of test_strangers.py, in " in find_message(report, "gradients")


def test_losses_that_misbehave_are_verdicts() -> None:
    def formula(xp: Any, params: Any, x: Any, t: Any) -> Any:
        return xp.sum((x - t) ** 2)

    for act in (give_up(ValueError("planted")), lambda value: None, lambda value: "text", lambda value: [1.0]):
        pairs = {
            "pair": styles.from_loss_pair(lambda x, t: ((x - t) ** 2).sum(), lambda x, t, act=act: act(2 * (x - t))),
            "one": styles.from_loss(lambda x, t, act=act: act((((x - t) ** 2).sum(), 2 * (x - t)))),
        }
        for make in pairs.values():
            report = run(make, formula, [(4, 3), (4, 3)], constants=[1])
            assert "gradients" in {one.check for one in report.failures}


def test_a_spec_of_a_stranger_keeps_others_going() -> None:
    reports = [run(LayerSpec(kind, swish, [(4, 3)]), None, None) for kind in (make_odd(give_up(OSError("x")), "forward"), Swish)]
    assert [report.passed for report in reports] == [False, True]
