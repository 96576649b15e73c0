"""Embedding bags by hand: rows of indices, which repeat, come in; the sum or the mean of their rows of a table goes out."""

from __future__ import annotations

import numpy as np

from harness.custom.spec import LayerSpec
from harness.styles import from_functions
from tests.zoo.zoo import RightLayer, plant

WORDS, WIDTH, PADDING = 7, 3, 0


class EmbeddingSum:
    def forward(self, ids):
        self.ids = ids
        return self.params["E"][ids].sum(axis=1)

    def backward(self, dy):
        dE = np.zeros_like(self.params["E"])
        self.scatter(dE, self.ids, np.broadcast_to(dy[:, None, :], (*self.ids.shape, dy.shape[1])))
        self.grads = {"E": dE}

    def scatter(self, dE, ids, rows):
        np.add.at(dE, ids, rows)


def choose(xp, ids, ignored=None):
    """Return how often each row has each word, (N, WORDS), as comparisons that count 1 and 0."""
    hits = ids[:, :, None] == xp.arange(WORDS)
    return hits if ignored is None else hits & (ids[:, :, None] != ignored)


def embedding_sum_formula(xp, params, ids):
    rows = xp.where(choose(xp, ids)[:, :, :, None], params["E"], xp.zeros_like(params["E"]))
    return xp.sum(xp.sum(rows, axis=2), axis=1)


def draw_ids(rng):
    """Return eight rows of four indices in which some index stands twice in a row, and the padding somewhere."""
    ids = rng.integers(0, WORDS, (8, 4))
    ids[:, 1] = ids[:, 0]
    ids[0] = [3, 3, PADDING, 5]
    ids[1] = [6, 6, 2, 4]
    ids[2] = [5, 5, 1, PADDING]
    return (ids,)


def draw_table(rng):
    return {"E": rng.standard_normal((WORDS, WIDTH))}


embedding_sum = RightLayer("embedding_sum", LayerSpec(EmbeddingSum, embedding_sum_formula, draw_ids, draw_table))


class SumAssigns(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        dE[ids] = rows


class SumAddsOnce(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        dE[ids] += rows


class SumMean(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        np.add.at(dE, ids, rows / ids.shape[1])


class SumLastSample(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        np.add.at(dE, ids[:-1], rows[:-1])


class SumShifted(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        np.add.at(dE, (ids + 1) % WORDS, rows)


class SumPaddingZero(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        np.add.at(dE, ids, rows)
        dE[PADDING] = 0


class SumUpstreamMean(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        np.add.at(dE, ids, np.broadcast_to(rows.mean(axis=-1, keepdims=True), rows.shape))


class SumAddsUp(EmbeddingSum):
    def backward(self, dy):
        before = getattr(self, "grads", {"E": 0})["E"]
        super().backward(dy)
        self.grads["E"] += before


class SumCellWrong(EmbeddingSum):
    def scatter(self, dE, ids, rows):
        np.add.at(dE, ids, rows)
        dE[3, 1] += 1e-3 * dE[3, 2]


def embedding_mean_forward(ids, E):
    """Loops, as a first version is written; padding counts for nothing."""
    y = np.zeros((len(ids), E.shape[1]), E.dtype)
    counts = np.zeros(len(ids), int)
    for n, row in enumerate(ids):
        for word in row:
            if word != PADDING:
                y[n] += E[word]
                counts[n] += 1
        y[n] /= max(counts[n], 1)
    return y, (ids, counts, E.shape)


def embedding_mean_backward(dout, cache):
    ids, counts, shape = cache
    dE = np.zeros(shape, dout.dtype)
    for n, row in enumerate(ids):
        for word in row:
            if word != PADDING:
                dE[word] += dout[n] / max(counts[n], 1)
    return None, dE


def embedding_mean_formula(xp, params, ids):
    E = params["E"]
    kept = choose(xp, ids, ignored=PADDING)[:, :, :, None]
    total = xp.sum(xp.sum(xp.where(kept, E, xp.zeros_like(E)), axis=2), axis=1)
    count = xp.sum(xp.sum(xp.where(kept, xp.ones_like(E), xp.zeros_like(E)), axis=2), axis=1)
    return total / xp.maximum(count, xp.ones_like(count))


def _make_mean(backward):
    return from_functions(embedding_mean_forward, backward, params={"E": np.zeros((WORDS, WIDTH))})


embedding_mean = RightLayer(
    "embedding_mean",
    LayerSpec(_make_mean(embedding_mean_backward), embedding_mean_formula, draw_ids, draw_table, name="embedding_mean"),
)


def _scatter(ids, shares, shape, kept):
    """Return the table's gradient of shares (N, L, D), of those that are kept."""
    dE = np.zeros(shape, shares.dtype)
    np.add.at(dE, ids[kept], shares[kept])
    return None, dE


def _spread(dout, ids, divisors):
    return np.broadcast_to((dout / divisors)[:, None], (*ids.shape, dout.shape[1]))


def mean_backward_by_length(dout, cache):
    ids, _, shape = cache
    return _scatter(ids, _spread(dout, ids, ids.shape[1]), shape, ids != PADDING)


def mean_backward_undivided(dout, cache):
    ids, _, shape = cache
    return _scatter(ids, _spread(dout, ids, 1), shape, ids != PADDING)


def mean_backward_with_padding(dout, cache):
    ids, counts, shape = cache
    return _scatter(ids, _spread(dout, ids, np.maximum(counts, 1)[:, None].astype(dout.dtype)), shape, ids == ids)


def mean_backward_divided_twice(dout, cache):
    ids, counts, shape = cache
    return _scatter(ids, _spread(dout, ids, np.maximum(counts, 1)[:, None].astype(dout.dtype) ** 2), shape, ids != PADDING)


def mean_backward_counts_reversed(dout, cache):
    ids, counts, shape = cache
    return _scatter(ids, _spread(dout, ids, np.maximum(counts[::-1], 1)[:, None].astype(dout.dtype)), shape, ids != PADDING)


def mean_backward_transposed(dout, cache):
    _, dE = embedding_mean_backward(dout, cache)
    return None, dE.T


def mean_backward_first_word(dout, cache):
    ids, counts, shape = cache
    return embedding_mean_backward(dout, (ids[:, :1], counts, shape))


RIGHT = (embedding_sum, embedding_mean)
FAULTS = (
    plant(embedding_sum, "assigns", SumAssigns, "missing-term", "repeated indices are assigned: the last one wins"),
    plant(embedding_sum, "adds-once", SumAddsOnce, "missing-term", "dE[ids] += rows adds a repeated index once"),
    plant(embedding_sum, "mean", SumMean, "size-factor factor", "divided by the length, as a mean would be"),
    plant(embedding_sum, "last-sample", SumLastSample, "dropped-row", "the last sample is left out"),
    plant(embedding_sum, "shifted", SumShifted, "order", "indices counted from 1: the next row of the table is updated"),
    plant(embedding_sum, "padding-zero", SumPaddingZero, "one-slice mask", "row 0 is taken for padding"),
    plant(embedding_sum, "upstream-mean", SumUpstreamMean, "cotangent-changed", "the mean of dy over the width stands for dy"),
    plant(embedding_sum, "adds-up", SumAddsUp, "accumulated", "gradients are added up", "backward_twice no_stale_state"),
    plant(embedding_sum, "cell-wrong", SumCellWrong, "one-element", "one entry of dE is a little off"),
    *(
        plant(embedding_mean, name, _make_mean(backward), causes, why)
        for name, backward, causes, why in (
            ("by-length", mean_backward_by_length, "size-factor", "divided by the length, padding included"),
            ("undivided", mean_backward_undivided, "size-factor missing-factor", "not divided by the count"),
            ("with-padding", mean_backward_with_padding, "mask one-slice", "the padding's row gets a gradient"),
            ("divided-twice", mean_backward_divided_twice, "extra-factor size-factor", "divided by the count twice"),
            ("counts-reversed", mean_backward_counts_reversed, "order", "the counts are read from the last row on"),
            ("transposed", mean_backward_transposed, "transposed shape", "dE is returned as (width, words)"),
            ("first-word", mean_backward_first_word, "missing-term", "only the first word of each row gets a gradient"),
        )
    ),
)
