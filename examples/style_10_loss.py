"""Style 10: a function that returns the loss and the gradient by the logits, for labels given as indices."""

import numpy as np

from harness import LayerSpec
from harness.styles import from_loss


def softmax_loss(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    dx = np.exp(log_p)
    dx[rows, labels] -= 1
    return -log_p[rows, labels].mean(), dx / len(labels)


def softmax_loss_not_divided(logits, labels):
    loss, dx = softmax_loss(logits, labels)
    return loss, dx * len(labels)


def formula(xp, params, x, t):
    shifted = x - xp.max(x, axis=1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    return -xp.mean(xp.sum(xp.where(t[:, None] == xp.arange(5), log_p, 0.0), axis=1))


def draw(rng):
    return rng.standard_normal((8, 5)), rng.integers(0, 5, 8)


right = LayerSpec(from_loss(softmax_loss), formula, inputs=draw)
wrong = LayerSpec(from_loss(softmax_loss_not_divided), formula, inputs=draw)
FINDS = ("gradients", "dx: it is 8 times the truth, and 8 is the batch")

if __name__ == "__main__":
    from harness import check_layer

    for layer in (right, wrong):
        print(check_layer(layer, on_fail="report"))
