"""Layers with modes come in; that what they forget or keep between them is told must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import LayerSpec
from harness.core import BadInput
from harness.custom.contracts.contract import NotApplicable
from harness.styles import from_functions
from tests.custom import layers
from tests.custom.contracts.asking import ask, draw, find_broken
from tests.custom.contracts.right_layers import BatchNorm, Dropout, drop, normalise


class Untrained(BatchNorm):
    """It has no statistics before it has trained."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = None

    def forward(self, x: Any) -> Any:
        self.mean = np.zeros(5) if self.training else self.mean
        return super().forward(x)


class LearnsInEvaluation(BatchNorm):
    def forward(self, x: Any) -> Any:
        self.mean = 0.5 * self.mean + 0.5 * x.mean(axis=0)
        return super().forward(x)


class KeepsItsMask(Dropout):
    """Evaluation makes no mask, and goes back through the one of the training before it."""

    def forward(self, x: Any) -> Any:
        return super().forward(x) if self.mode == "train" else x.copy()

    def backward(self, dy: Any) -> Any:
        return dy * getattr(self, "mask", np.ones_like(dy))


class KeepsItsMean(BatchNorm):
    """It goes on with the statistics of an evaluation that came before."""

    kept: Any = None

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        if not self.training:
            self.kept = self.inv
        elif self.kept is not None:
            self.inv = np.broadcast_to(self.kept, self.inv.shape)
        return y


@pytest.mark.parametrize(
    ("kind", "formula", "words"),
    [
        (Untrained, normalise(0), "evaluation before any training raises"),
        (LearnsInEvaluation, normalise(0), "evaluation of the same inputs gives other outputs the second time"),
        (KeepsItsMask, drop, "in evaluation behind a training pass the gradient is not that of the output"),
        (KeepsItsMean, normalise(0), "an evaluation before it changes what training gives: dx0"),
    ],
)
def test_what_is_broken_is_told_by_this_contract_alone(kind: Any, formula: Any, words: str) -> None:
    broken = find_broken(draw(kind, formula))
    assert set(broken) == {"train_and_eval"}
    assert words in broken["train_and_eval"]


class Methods(BatchNorm):
    def __init__(self) -> None:
        super().__init__()
        self.is_learning, self.training = True, True

    def train(self) -> None:
        self.training = True

    def eval(self) -> None:
        self.training = False


class LearnsThroughMethods(Methods, LearnsInEvaluation):
    pass


class Argument(Dropout):
    """Its mode is a switch of its own."""

    mode = "neither"
    on = True

    def forward(self, x: Any) -> Any:
        self.mode = "train" if self.on else "neither"
        y = super().forward(x)
        self.mode = "neither"
        return y


class ArgumentKept(Argument):
    def forward(self, x: Any) -> Any:
        return super().forward(x) + (0 if self.on else np.random.default_rng().random())


SWITCHES = {"train": lambda one: setattr(one, "on", True), "eval": lambda one: setattr(one, "on", False)}


def test_modes_are_methods_flags_words_or_what_the_specification_says() -> None:
    assert ask("train_and_eval", draw(BatchNorm, normalise(0))) == ""
    assert ask("train_and_eval", draw(Methods, normalise(0))) == ""
    assert "second time" in str(ask("train_and_eval", draw(LearnsThroughMethods, normalise(0))))
    assert ask("train_and_eval", draw(Dropout, drop)) == ""
    with pytest.raises(NotApplicable, match="no modes that can be seen"):
        ask("train_and_eval", draw(Argument, drop))
    assert ask("train_and_eval", draw(Argument, drop, modes=SWITCHES)) == ""
    assert "second time" in str(ask("train_and_eval", draw(ArgumentKept, drop, modes=SWITCHES)))


def forward(x: Any, options: Any) -> Any:
    mask = np.ones_like(x)
    if options["mode"] == "train":
        mask = (np.random.default_rng(3).random(x.shape) < 0.75) / np.asarray(0.75, x.dtype)
    return x * mask, (mask, options["mode"])


def backward(dy: Any, cache: Any) -> Any:
    return dy * cache[0]


def backward_of_training(dy: Any, cache: Any) -> Any:
    return dy * (cache[0] if cache[1] == "train" else 0.5)


@pytest.mark.parametrize(("back", "right"), [(backward, True), (backward_of_training, False)])
def test_a_mode_among_the_extra_arguments_is_switched_there(back: Any, right: bool) -> None:
    def switch(mode: str) -> Any:
        return lambda functions: functions.extra[0].update(mode=mode)

    make = from_functions(forward, back, extra=[{"mode": "train"}])
    spec = LayerSpec(make, drop, [(6, 5)], modes={"train": switch("train"), "eval": switch("eval")})
    assert (ask("train_and_eval", draw(spec)) == "") is right
    assert set(find_broken(draw(spec))) == (set() if right else {"train_and_eval"})


@pytest.mark.parametrize("modes", [{"train": len}, {"train": len, "eval": 3}, [len], {"train": len, "eval": len, "test": len}])
def test_modes_are_two_functions(modes: Any) -> None:
    with pytest.raises(BadInput, match=r"modes: .*accepted are"):
        LayerSpec(layers.Swish, layers.swish, [(6, 5)], modes=modes)
