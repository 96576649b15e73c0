"""Layers of images by hand: a convolution by im2col with stride and padding, and pooling by the largest and by the mean."""

from __future__ import annotations

import numpy as np

from harness.custom.spec import LayerSpec
from tests.zoo.zoo import RightLayer, plant

STRIDE, PAD = 2, 1


class Conv2d:
    """im2col by index arrays, col2im by np.add.at, both on the padded image."""

    def forward(self, x):
        W = self.params["W"]
        self.shape = x.shape
        padded = np.pad(x, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)))
        self.index(padded.shape, W.shape)
        self.columns = padded[:, self.k, self.i, self.j]
        y = np.einsum("fk,nkp->nfp", W.reshape(len(W), -1), self.columns) + self.params["b"][:, None]
        return y.reshape(len(x), len(W), *self.out)

    def index(self, padded, kernel):
        _, channels, height, width = padded
        _, _, kh, kw = kernel
        self.out = (height - kh) // STRIDE + 1, (width - kw) // STRIDE + 1
        i1, j1 = (STRIDE * grid.ravel() for grid in np.indices(self.out))
        k0, i0, j0 = (grid.ravel() for grid in np.indices((channels, kh, kw)))
        self.k, self.i, self.j = k0[:, None], i0[:, None] + i1, j0[:, None] + j1

    def backward(self, dy):
        W = self.params["W"]
        d = dy.reshape(*dy.shape[:2], dy.shape[2] * dy.shape[3])
        self.grads = {"W": np.einsum("nfp,nkp->fk", d, self.columns).reshape(W.shape), "b": d.sum((0, 2))}
        return self.crop(self.fold(np.einsum("fk,nfp->nkp", self.kernel(W), d)))

    def kernel(self, W):
        return W.reshape(len(W), -1)

    def fold(self, columns):
        n, c, h, w = self.shape
        padded = np.zeros((n, c, h + 2 * PAD, w + 2 * PAD), columns.dtype)
        np.add.at(padded, (slice(None), self.k, self.i, self.j), columns)
        return padded

    def crop(self, padded):
        return padded[:, :, PAD:-PAD, PAD:-PAD].copy()


def conv_formula(xp, params, x):
    W, b = params["W"], params["b"]
    filters, channels, kh, kw = W.shape
    column = xp.zeros_like(x[:, :, :, :1])
    x = xp.concat([column, x, column], axis=3)
    row = xp.zeros_like(x[:, :, :1, :])
    x = xp.concat([row, x, row], axis=2)
    oh, ow = (x.shape[2] - kh) // STRIDE + 1, (x.shape[3] - kw) // STRIDE + 1
    taps = [
        x[:, :, i : i + STRIDE * (oh - 1) + 1 : STRIDE, j : j + STRIDE * (ow - 1) + 1 : STRIDE]
        for i in range(kh)
        for j in range(kw)
    ]
    columns = xp.permute_dims(xp.stack(taps, axis=2), (0, 3, 4, 1, 2))
    columns = xp.reshape(columns, (x.shape[0], oh, ow, channels * kh * kw))
    y = xp.matmul(columns, xp.reshape(W, (filters, channels * kh * kw)).T) + b
    return xp.permute_dims(y, (0, 3, 1, 2))


conv2d = RightLayer(
    "conv2d",
    LayerSpec(
        Conv2d, conv_formula, [(3, 2, 5, 7)],
        lambda rng: {"W": rng.standard_normal((4, 2, 3, 3)) / 4, "b": rng.standard_normal(4)},
    ),
)  # fmt: skip


class ConvPaddingKept(Conv2d):
    def crop(self, padded):
        return padded


class ConvPaddingCroppedAtTheEnd(Conv2d):
    def crop(self, padded):
        return padded[:, :, : -2 * PAD, : -2 * PAD].copy()


class ConvAssigns(Conv2d):
    def fold(self, columns):
        n, c, h, w = self.shape
        padded = np.zeros((n, c, h + 2 * PAD, w + 2 * PAD), columns.dtype)
        padded[:, self.k, self.i, self.j] = columns
        return padded


class ConvKernelFlipped(Conv2d):
    def kernel(self, W):
        return W[:, :, ::-1, ::-1].reshape(len(W), -1)


class ConvBiasMean(Conv2d):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["b"] = dy.mean((0, 2, 3))
        return dx


class ConvWeightsTransposed(Conv2d):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"] = self.grads["W"].transpose(0, 1, 3, 2).copy()
        return dx


class ConvFirstImageLeftOut(Conv2d):
    def backward(self, dy):
        dx = super().backward(dy)
        d = dy.reshape(*dy.shape[:2], dy.shape[2] * dy.shape[3])
        self.grads["W"] = np.einsum("nfp,nkp->fk", d[1:], self.columns[1:]).reshape(self.params["W"].shape)
        return dx


class ConvReshapedForTransposed(Conv2d):
    def backward(self, dy):
        dx = super().backward(dy)
        W = self.params["W"]
        rows = dy.reshape(len(W), -1)  # it should be dy.transpose(1, 0, 2, 3).reshape(...)
        self.grads["W"] = (rows @ self.columns.transpose(1, 0, 2).reshape(self.columns.shape[1], -1).T).reshape(W.shape)
        return dx


class ConvFilterForgotten(Conv2d):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"][-1] = 0
        return dx


class ConvOneTap(Conv2d):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"][0, 0, 0, 0] *= 0.5
        return dx


class ConvWeightsOverBatch(Conv2d):
    def backward(self, dy):
        dx = super().backward(dy)
        self.grads["W"] /= max(len(dy), 1)
        return dx


class ConvBatchHardCoded(Conv2d):
    def backward(self, dy):
        return super().backward(dy.reshape(3, 4, *self.out))


class ConvColumnsOfFirst(Conv2d):
    """The columns are kept from batch to batch, as a buffer, and filled once."""

    def forward(self, x):
        y = super().forward(x)
        if not hasattr(self, "buffer") or self.buffer.shape != self.columns.shape:
            self.buffer = self.columns
        self.columns = self.buffer
        return y


def windows_of(x, size, stride):
    """Return the windows (N, C, oh, ow, size, size) as a view."""
    n, c, h, w = x.shape
    sn, sc, sh, sw = x.strides
    shape = (n, c, (h - size) // stride + 1, (w - size) // stride + 1, size, size)
    return np.lib.stride_tricks.as_strided(x, shape, (sn, sc, stride * sh, stride * sw, sh, sw))


def taps_of(xp, x, size, stride):
    oh, ow = (x.shape[2] - size) // stride + 1, (x.shape[3] - size) // stride + 1
    rows, columns = stride * (oh - 1) + 1, stride * (ow - 1) + 1
    return xp.stack([x[:, :, i : i + rows : stride, j : j + columns : stride] for i in range(size) for j in range(size)], axis=4)


class MaxPool:
    """Windows by as_strided, gradients handed back in loops; of tied maxima the first gets everything."""

    size, stride = 3, 2

    def forward(self, x):
        windows = windows_of(x, self.size, self.stride)
        flat = windows.reshape(*windows.shape[:4], self.size**2)
        self.x, self.which = x, self.choose(flat)
        return flat.max(-1)

    def choose(self, flat):
        return flat.argmax(-1)

    def backward(self, dy):
        dx = np.zeros(self.x.shape, dy.dtype)
        for n, c, a, b in np.ndindex(*dy.shape):
            i, j = divmod(int(self.which[n, c, a, b]), self.size)
            self.put(dx, (n, c, self.stride * a + i, self.stride * b + j), dy[n, c, a, b])
        return dx

    def put(self, dx, place, value):
        dx[place] += value


def max_pool_formula(xp, params, x):
    return xp.max(taps_of(xp, x, 3, 2), axis=4)


max_pool = RightLayer("max_pool", LayerSpec(MaxPool, max_pool_formula, [(2, 2, 5, 5)]))


class MaxPoolAssigns(MaxPool):
    def put(self, dx, place, value):
        dx[place] = value


class MaxPoolSmallest(MaxPool):
    def choose(self, flat):
        return flat.argmin(-1)


class MaxPoolOneColumnOff(MaxPool):
    def put(self, dx, place, value):
        n, c, i, j = place
        dx[n, c, i, (j + 1) % dx.shape[3]] += value


class MaxPoolChannelsReversed(MaxPool):
    def backward(self, dy):
        return super().backward(dy)[:, ::-1].copy()


class MaxPoolTransposedUpstream(MaxPool):
    def backward(self, dy):
        return super().backward(dy.transpose(0, 1, 3, 2))


class MaxPoolLastChannel(MaxPool):
    def backward(self, dy):
        dx = super().backward(dy)
        dx[:, -1] = 0
        return dx


class MaxPoolRemembersPlaces(MaxPool):
    def choose(self, flat):
        if not hasattr(self, "places"):
            self.places = flat.argmax(-1)
        return self.places


class MaxPoolCountsVisits(MaxPool):
    """What was visited twice is divided by two."""

    def backward(self, dy):
        visits = super().backward(np.ones_like(dy))
        return super().backward(dy) / np.maximum(visits, 1)


class MaxPoolTied(MaxPool):
    """Windows of two by two, which do not overlap."""

    size, stride = 2, 2


def max_pool_tied_formula(xp, params, x):
    return xp.max(taps_of(xp, x, 2, 2), axis=4)


def draw_ties(rng):
    """Return images behind a ReLU, with windows that are all 0 and others in which two positive numbers are equal."""
    x = np.maximum(rng.standard_normal((2, 2, 4, 6)), 0)
    x[:, :, :2, 2:4] = 0
    x[:, 0, 2, :2] = 3.0
    return (x,)


max_pool_tied = RightLayer("max_pool_tied", LayerSpec(MaxPoolTied, max_pool_tied_formula, draw_ties, name="max_pool_tied"))


class MaxPoolTiedAll(MaxPoolTied):
    def backward(self, dy):
        windows = windows_of(self.x, 2, 2)
        mask = windows >= windows.max((4, 5), keepdims=True)
        return (mask * dy[..., None, None]).transpose(0, 1, 2, 4, 3, 5).reshape(self.x.shape)


class MaxPoolTiedPositive(MaxPoolTied):
    def backward(self, dy):
        return super().backward(dy) * (self.x > 0.5)


class AvgPool:
    """Windows of three by three in steps of two, which overlap; strides in loops over the nine taps."""

    size, stride = 3, 2

    def forward(self, x):
        self.shape = x.shape
        return windows_of(x, self.size, self.stride).mean((4, 5))

    def backward(self, dy):
        dx, (oh, ow) = np.zeros(self.shape, dy.dtype), dy.shape[2:]
        share = dy / self.area()
        for i in range(self.size):
            for j in range(self.size):
                self.put(dx[:, :, i : i + 2 * oh - 1 : 2, j : j + 2 * ow - 1 : 2], share)
        return dx

    def area(self):
        return self.size * self.size

    def put(self, view, share):
        view += share


def avg_pool_formula(xp, params, x):
    return xp.mean(taps_of(xp, x, 3, 2), axis=4)


avg_pool = RightLayer("avg_pool", LayerSpec(AvgPool, avg_pool_formula, [(3, 2, 5, 7)]))


class AvgPoolUndivided(AvgPool):
    def area(self):
        return 1


class AvgPoolBySide(AvgPool):
    def area(self):
        return self.size


class AvgPoolAssigns(AvgPool):
    def put(self, view, share):
        view[...] = share


class AvgPoolUpstreamReversed(AvgPool):
    def backward(self, dy):
        return super().backward(dy[:, :, :, ::-1])


class AvgPoolLastRowForgotten(AvgPool):
    def backward(self, dy):
        dy = dy.copy()
        dy[:, :, -1] = 0
        return super().backward(dy)


class AvgPoolTapsForgotten(AvgPool):
    def backward(self, dy):
        dx, (oh, ow) = super().backward(dy), dy.shape[2:]
        dx[:, :, 2 : 2 + 2 * oh - 1 : 2, 2 : 2 + 2 * ow - 1 : 2] -= dy / self.area()
        return dx


class AvgPoolAbsolute(AvgPool):
    def backward(self, dy):
        return super().backward(np.abs(dy))


RIGHT = (conv2d, max_pool, max_pool_tied, avg_pool)
FAULTS = (
    plant(conv2d, "padding-kept", ConvPaddingKept, "shape", "dx is returned with its padding"),
    plant(conv2d, "cropped-at-the-end", ConvPaddingCroppedAtTheEnd, "order", "all padding is cropped at the end"),
    plant(conv2d, "assigns", ConvAssigns, "missing-term", "where windows overlap the last one wins"),
    plant(conv2d, "kernel-flipped", ConvKernelFlipped, "order", "dx is taken with the kernel upside down"),
    plant(conv2d, "bias-mean", ConvBiasMean, "size-factor", "db is a mean"),
    plant(conv2d, "weights-transposed", ConvWeightsTransposed, "transposed", "dW has height and width exchanged"),
    plant(conv2d, "first-image-left-out", ConvFirstImageLeftOut, "dropped-row", "dW sums from the second image"),
    plant(conv2d, "reshaped", ConvReshapedForTransposed, "transposed order", "dy is reshaped, not transposed, for dW"),
    plant(conv2d, "filter-forgotten", ConvFilterForgotten, "one-slice", "the last filter gets no gradient"),
    plant(conv2d, "one-tap", ConvOneTap, "one-element", "one entry of dW is half of what it should be"),
    plant(conv2d, "weights-over-batch", ConvWeightsOverBatch, "size-factor", "dW is divided by the batch"),
    plant(conv2d, "batch-hard-coded", ConvBatchHardCoded, "raises", "backward takes three images and no other number"),
    plant(conv2d, "columns-of-first", ConvColumnsOfFirst, "stale-cache", "the first batch's columns", "no_stale_state"),
    plant(max_pool, "assigns", MaxPoolAssigns, "missing-term", "of two windows with one maximum the last one wins"),
    plant(max_pool, "smallest", MaxPoolSmallest, "mask", "the gradient goes where the smallest number is"),
    plant(max_pool, "one-column-off", MaxPoolOneColumnOff, "order", "the gradient lands one column to the right"),
    plant(max_pool, "channels-reversed", MaxPoolChannelsReversed, "order", "channels come back in reverse order"),
    plant(max_pool, "upstream-transposed", MaxPoolTransposedUpstream, "transposed", "dy is read with rows as columns"),
    plant(max_pool, "last-channel", MaxPoolLastChannel, "one-slice", "the last channel gets no gradient"),
    plant(max_pool, "remembers-places", MaxPoolRemembersPlaces, "stale-cache", "the first batch's places", "no_stale_state"),
    plant(max_pool, "counts-visits", MaxPoolCountsVisits, "missing-factor extra-factor", "divided by the number of windows"),
    plant(max_pool_tied, "all-ties", MaxPoolTiedAll, "mask", "every one of several equal maxima gets all of dy"),
    plant(max_pool_tied, "small-maxima", MaxPoolTiedPositive, "mask", "maxima of at most 0.5 get no gradient"),
    plant(avg_pool, "undivided", AvgPoolUndivided, "size-factor missing-factor factor", "dy is not divided by the area"),
    plant(avg_pool, "by-side", AvgPoolBySide, "size-factor factor", "dy is divided by 3, not by 9"),
    plant(avg_pool, "assigns", AvgPoolAssigns, "missing-term", "where windows overlap the last one wins"),
    plant(avg_pool, "upstream-reversed", AvgPoolUpstreamReversed, "order", "dy is read from right to left"),
    plant(avg_pool, "last-row-forgotten", AvgPoolLastRowForgotten, "one-slice", "the last row of windows is left out"),
    plant(avg_pool, "tap-forgotten", AvgPoolTapsForgotten, "missing-term", "the ninth tap is left out"),
    plant(avg_pool, "absolute", AvgPoolAbsolute, "cotangent-changed", "the magnitude of dy stands for dy"),
)  # fmt: skip
