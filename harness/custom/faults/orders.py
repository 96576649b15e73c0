"""Orders: a scene comes in, the right numbers in wrong places go out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations, product

import numpy as np

from harness.core import Array
from harness.custom.scene import Fault, Scene

RANK = 20
MOST_AXES, MOST_SLICES = 4, 64
FEW = 3  # a mask has no more values


def predict(scene: Scene) -> Iterator[Fault]:
    """Yield the truth transposed, reshaped for transposed, reversed, shifted, its slices permuted, without its signs."""
    yield from _transpose(scene.truth)
    for axis in range(scene.truth.ndim):
        if scene.truth.shape[axis] > 1:
            for step in (1, -1):
                words = f"it is shifted by {step} along axis {axis}"
                yield Fault("order", f"rolled {axis} {step}", words, np.roll(scene.truth, step, axis))
    yield from _reverse(scene.truth)
    yield from _shift(scene)
    yield from _permute(scene)
    yield Fault("cotangent-changed", "absolute", "its signs are lost: it is the absolute value", np.abs(scene.truth))


def turn(value: Array) -> Iterator[tuple[str, Array]]:
    """Yield an array reversed and shifted along each of its axes, and in words how."""
    for axis, size in enumerate(value.shape):
        if size > 1:
            yield f"reversed along axis {axis}", np.flip(value, axis)
            for step in (1, -1):
                yield f"shifted by {step} along axis {axis}", np.roll(value, step, axis)


def _transpose(truth: Array) -> Iterator[Fault]:
    for order in permutations(range(truth.ndim)) if 1 < truth.ndim <= MOST_AXES else ():
        if order == tuple(range(truth.ndim)):
            continue
        turned = np.transpose(truth, order)
        plain = truth.ndim == 2
        if turned.shape == truth.shape and turned.size > 1:
            words = "it is transposed" if plain else f"its axes are in the order {list(order)}: it is transposed"
            yield Fault("transposed", f"transposed {order}", words, turned)
        words = "its numbers are right, in the memory order of its transpose: reshaped instead of transposed"
        yield Fault("transposed", f"reshaped {order}", words, turned.reshape(truth.shape))


def _reverse(truth: Array) -> Iterator[Fault]:
    long = [axis for axis, size in enumerate(truth.shape) if size > 1][:MOST_AXES]
    for count in range(1, len(long) + 1):
        for axes in combinations(long, count):
            name = f"axis {axes[0]}" if count == 1 else f"the axes {list(axes)}"
            yield Fault("order", f"reversed {axes}", f"it is reversed along {name}", np.flip(truth, axes))


def _shift(scene: Scene) -> Iterator[Fault]:
    """Predict what is shifted along several axes, where what came in from outside is anything: padding cropped on one side."""
    axes = [axis for axis, size in enumerate(scene.truth.shape) if size > 2][-2:]
    for steps in product((-2, -1, 0, 1, 2), repeat=len(axes)):
        if not any(steps):
            continue
        ours, theirs = [slice(None)] * scene.truth.ndim, [slice(None)] * scene.truth.ndim
        for axis, step in zip(axes, steps, strict=True):
            ours[axis], theirs[axis] = slice(max(step, 0), min(step, 0) or None), slice(max(-step, 0), min(-step, 0) or None)
        moved, kept = scene.got.copy(), scene.truth[tuple(theirs)]
        moved[tuple(ours)] = kept
        if 2 * kept.size >= scene.truth.size and np.count_nonzero(kept) > 3:
            words = f"it is shifted by {list(steps)} along the axes {axes}"
            yield Fault("order", f"shifted {steps}", words, moved)


def _permute(scene: Scene) -> Iterator[Fault]:
    """Find each slice of what came among those of the truth; a permutation that is none of the above is still an order."""
    for axis, size in enumerate(scene.truth.shape):
        if not 2 < size <= MOST_SLICES or scene.truth.ndim < 2:
            continue
        ours, theirs = (np.moveaxis(value, axis, 0).reshape(size, -1) for value in (scene.got, scene.truth))
        nearest = np.abs(ours[:, None] - theirs[None]).sum(-1).argmin(1)
        if len(set(nearest)) == size and (nearest != np.arange(size)).any():
            words = f"its slices along axis {axis} are in a wrong order"
            yield Fault("order", f"permuted {axis}", words, np.take(scene.truth, nearest, axis))
