"""Dropout by hand, with a seed."""

from __future__ import annotations

import numpy as np

from harness.custom.spec import LayerSpec
from tests.zoo.zoo import RightLayer, plant


class Dropout:
    """A new generator at each forward pass, from a seed that the layer keeps."""

    def __init__(self, p=0.4, seed=11):
        self.p, self.seed = p, seed

    def forward(self, x):
        self.keep = np.random.default_rng(self.seed).random(x.shape) >= self.p
        return x * self.keep / (1 - self.p)

    def backward(self, dy):
        return dy * self.keep / (1 - self.p)


def dropout_formula(xp, params, x):
    keep = np.random.default_rng(11).random(x.shape) >= 0.4
    rows = [xp.stack([x[i, j] * (1 / 0.6 if keep[i, j] else 0.0) for j in range(x.shape[1])]) for i in range(x.shape[0])]
    return xp.stack(rows)


dropout = RightLayer("dropout", LayerSpec(Dropout, dropout_formula, [(6, 5)]))


class DropoutUnscaled(Dropout):
    def backward(self, dy):
        return dy * self.keep


class DropoutEverythingBack(Dropout):
    def backward(self, dy):
        return dy / (1 - self.p)


class DropoutOtherMask(Dropout):
    def backward(self, dy):
        keep = np.random.default_rng().random(dy.shape) >= self.p
        return dy * keep / (1 - self.p)


class DropoutScaledTwice(Dropout):
    def backward(self, dy):
        return super().backward(dy) / (1 - self.p)


class DropoutComplement(Dropout):
    def backward(self, dy):
        return dy * ~self.keep / (1 - self.p)


class DropoutByP(Dropout):
    def backward(self, dy):
        return dy * self.keep / self.p


class DropoutOneMaskForAllRows(Dropout):
    def backward(self, dy):
        return dy * self.keep[:1] / (1 - self.p)


class DropoutEvalBackward(Dropout):
    def backward(self, dy):
        return dy.copy()


class DropoutUnseeded(Dropout):
    def forward(self, x):
        self.keep = np.random.default_rng().random(x.shape) >= self.p
        return x * self.keep / (1 - self.p)


class DropoutForwardUnscaled(Dropout):
    def forward(self, x):
        return super().forward(x) * (1 - self.p)


RIGHT = (dropout,)
FAULTS = (
    plant(dropout, "unscaled", DropoutUnscaled, "missing-factor factor", "backward lacks 1 / (1 - p)"),
    plant(dropout, "everything-back", DropoutEverythingBack, "mask", "what was dropped gets a gradient too"),
    plant(dropout, "other-mask", DropoutOtherMask, "nondeterministic mask", "backward draws another mask"),
    plant(dropout, "scaled-twice", DropoutScaledTwice, "extra-factor factor", "1 / (1 - p) is applied twice"),
    plant(dropout, "complement", DropoutComplement, "mask", "what was kept gets none, what was dropped does"),
    plant(dropout, "by-p", DropoutByP, "factor constant", "1 / p for 1 / (1 - p)"),
    plant(dropout, "one-mask-for-all", DropoutOneMaskForAllRows, "mask", "the first sample's mask for all"),
    plant(dropout, "eval-backward", DropoutEvalBackward, "identity", "backward believes to be in evaluation"),
    plant(dropout, "unseeded", DropoutUnseeded, "nondeterministic", "the seed is not used", "forward deterministic"),
    plant(dropout, "forward-unscaled", DropoutForwardUnscaled, "missing-factor factor", "forward lacks 1 / (1 - p)", "forward"),
)
