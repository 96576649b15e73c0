"""Recurrent layers by hand: one step of a tanh cell, and the same cell unrolled over a sequence with backward through time."""

from __future__ import annotations

import numpy as np

from harness.custom.spec import LayerSpec
from tests.zoo.zoo import RightLayer, plant

SIZE, STEPS = 4, 3


def draw_weights(rng):
    return {
        "Wx": rng.standard_normal((SIZE, SIZE)) / 2,
        "Wh": rng.standard_normal((SIZE, SIZE)) / 2,
        "b": rng.standard_normal(SIZE) / 4,
    }


class RNNCell:
    def forward(self, x, h):
        a = x @ self.params["Wx"] + h @ self.params["Wh"] + self.params["b"]
        self.x, self.h, self.a, self.new = x, h, a, np.tanh(a)
        return self.new.copy()

    def slope(self):
        return 1 - self.new**2

    def backward(self, dy):
        da = dy * self.slope()
        self.grads = {"Wx": self.x.T @ da, "Wh": self.h.T @ da, "b": da.sum(0)}
        return da @ self.params["Wx"].T, da @ self.params["Wh"].T


def rnn_cell_formula(xp, params, x, h):
    return xp.tanh(xp.matmul(x, params["Wx"]) + xp.matmul(h, params["Wh"]) + params["b"])


rnn_cell = RightLayer("rnn_cell", LayerSpec(RNNCell, rnn_cell_formula, [(6, SIZE), (6, SIZE)], draw_weights))


class CellNewForOld(RNNCell):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["Wh"] = self.new.T @ (dy * self.slope())
        return dx


class CellSlopeOfSum(RNNCell):
    def slope(self):
        return 1 - self.a**2


class CellSlopeLost(RNNCell):
    def slope(self):
        return np.ones_like(self.new)


class CellWeightsTransposed(RNNCell):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["Wx"] = self.grads["Wx"].T.copy()
        return dx


class CellStateUntransposed(RNNCell):
    def backward(self, dy):
        dx, _ = super().backward(dy)
        return dx, (dy * self.slope()) @ self.params["Wh"]


class CellBiasMean(RNNCell):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["b"] = (dy * self.slope()).mean(0)
        return dx


class CellInputsSwapped(RNNCell):
    def backward(self, dy):
        return super().backward(dy)[::-1]


class CellDetached(RNNCell):
    def backward(self, dy):
        dx, dh = super().backward(dy)
        return dx, np.zeros_like(dh)


class CellLastSample(RNNCell):
    def backward(self, dy):
        dx = super().backward(dy)
        da = dy * self.slope()
        self.grads["Wh"] = self.h[:-1].T @ da[:-1]
        return dx


class CellWeightsSwapped(RNNCell):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["Wx"], self.grads["Wh"] = self.grads["Wh"], self.grads["Wx"]
        return dx


class CellBiasUnsloped(RNNCell):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["b"] = dy.sum(0)
        return dx


class RNN:
    """Sequences (N, T, SIZE) and a first state come in, all states go out."""

    def forward(self, x, h0):
        self.x, self.states = x, [h0]
        for t in range(x.shape[1]):
            self.states.append(np.tanh(x[:, t] @ self.params["Wx"] + self.states[-1] @ self.params["Wh"] + self.params["b"]))
        return np.stack(self.states[1:], axis=1)

    def backward(self, dy):
        steps = dy.shape[1]
        self.grads = {name: np.zeros_like(value) for name, value in self.params.items()}
        dx, dh = np.zeros(self.x.shape, dy.dtype), np.zeros_like(self.states[0])
        for t in reversed(range(steps)):
            da = (dy[:, t] + self.carry(dh)) * (1 - self.states[t + 1] ** 2)
            self.collect(t, da)
            dx[:, self.place(t, steps)] = da @ self.params["Wx"].T
            dh = da @ self.params["Wh"].T
        return dx, dh

    def carry(self, dh):
        return dh

    def place(self, t, steps):
        return t

    def collect(self, t, da):
        self.grads["Wx"] += self.x[:, t].T @ da
        self.grads["Wh"] += self.states[t].T @ da
        self.grads["b"] += da.sum(0)


def rnn_formula(xp, params, x, h):
    states = [h]
    for t in range(x.shape[1]):
        states.append(xp.tanh(xp.matmul(x[:, t], params["Wx"]) + xp.matmul(states[-1], params["Wh"]) + params["b"]))
    return xp.stack(states[1:], axis=1)


rnn = RightLayer("rnn", LayerSpec(RNN, rnn_formula, [(5, STEPS, SIZE), (5, SIZE)], draw_weights))


class RNNForgets(RNN):
    def carry(self, dh):
        return np.zeros_like(dh)


class RNNFirstStepAlone(RNN):
    def collect(self, t, da):
        self.grads["Wx"], self.grads["Wh"], self.grads["b"] = self.x[:, t].T @ da, self.states[t].T @ da, da.sum(0)


class RNNStateAfter(RNN):
    def collect(self, t, da):
        super().collect(t, da)
        self.grads["Wh"] += (self.states[t + 1] - self.states[t]).T @ da


class RNNTimeReversed(RNN):
    def place(self, t, steps):
        return steps - 1 - t


class RNNMeanOverTime(RNN):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["Wx"] = self.grads["Wx"] / dy.shape[1]
        return dx


class RNNFirstStateZero(RNN):
    def backward(self, dy):
        dx, dh = super().backward(dy)
        return dx, np.zeros_like(dh)


class RNNClips(RNN):
    def carry(self, dh):
        return np.clip(dh, -0.1, 0.1)


class RNNAddsUp(RNN):
    total = None

    def backward(self, dy):
        dx = super().backward(dy)
        if self.total is not None:
            for name, value in self.total.items():
                self.grads[name] += value
        self.total = {name: value.copy() for name, value in self.grads.items()}
        return dx


class RNNScrubs(RNN):
    """States are overwritten as backward goes, to save memory."""

    def backward(self, dy):
        dx = super().backward(dy)
        for state in self.states[1:]:
            state.fill(0)
        return dx


RIGHT = (rnn_cell, rnn)
FAULTS = (
    plant(rnn_cell, "new-for-old", CellNewForOld, "at-output", "dWh by the new state, not the old one"),
    plant(rnn_cell, "slope-of-sum", CellSlopeOfSum, "at-input", "1 - a^2 for 1 - h^2"),
    plant(rnn_cell, "slope-lost", CellSlopeLost, "missing-factor", "the tanh is not differentiated"),
    plant(rnn_cell, "weights-transposed", CellWeightsTransposed, "transposed", "dWx is transposed"),
    plant(rnn_cell, "state-untransposed", CellStateUntransposed, "transposed", "Wh for its transpose in dh"),
    plant(rnn_cell, "bias-mean", CellBiasMean, "size-factor", "db is the mean over the batch"),
    plant(rnn_cell, "inputs-swapped", CellInputsSwapped, "swapped", "dh and dx stand in each other's place"),
    plant(rnn_cell, "detached", CellDetached, "zero", "the state is detached"),
    plant(rnn_cell, "last-sample", CellLastSample, "dropped-row", "dWh without the last sample"),
    plant(rnn_cell, "weights-swapped", CellWeightsSwapped, "swapped", "dWx and dWh stand in each other's place"),
    plant(rnn_cell, "bias-unsloped", CellBiasUnsloped, "missing-factor", "db lacks the slope of the tanh"),
    plant(rnn, "forgets", RNNForgets, "missing-term", "dh is not carried to the step before"),
    plant(rnn, "first-step-alone", RNNFirstStepAlone, "missing-term", "each step's gradients replace those of the one after it"),
    plant(rnn, "state-after", RNNStateAfter, "at-output order", "dWh by the state after the step"),
    plant(rnn, "time-reversed", RNNTimeReversed, "order", "dx is stored from the last step on"),
    plant(rnn, "mean-over-time", RNNMeanOverTime, "size-factor factor", "dWx is divided by the number of steps"),
    plant(rnn, "first-state-zero", RNNFirstStateZero, "zero", "the first state gets no gradient"),
    plant(rnn, "clips", RNNClips, "clipped", "what is carried back is clipped"),
    plant(rnn, "adds-up", RNNAddsUp, "accumulated", "gradients are added up", "backward_twice no_stale_state"),
    plant(rnn, "scrubs", RNNScrubs, "aliasing/mutation", "the states are wiped in backward", "backward_twice"),
)
