"""Textbook forms: a scene comes in, its gradient as a textbook writes it for softmaxes, norms and losses goes out as expressions.

A form is a guess by what a layer of that kind would have; the scene's truth tells which guesses are right.

Sources: softmax, cross-entropy and least squares as in Goodfellow, Bengio and Courville, Deep Learning (2016), 6.2;
normalizations by Ioffe and Szegedy (2015, arXiv:1502.03167), section 3, by Ba et al. (2016, arXiv:1607.06450) and Zhang and
Sennrich (2019, arXiv:1910.07467), each in the usual ways to write them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.core import Array
from harness.custom.expressions import Node, apply, label, number
from harness.custom.faults.factors import list_sizes
from harness.custom.scene import Scene
from harness.floats import is_float
from harness.styles.wrapped import spread

Axes = int | tuple[int, ...]


def list_textbook(scene: Scene) -> Iterator[Node]:
    """Yield expressions of the quantity, right and wrong ones."""
    if scene.is_of_first_input and scene.truth.shape == scene.inputs[0].shape and scene.truth.ndim:
        if scene.y.shape == scene.truth.shape:
            yield from _list_softmaxes(scene)
            yield from _list_norms(scene)
        elif scene.dy.size < scene.truth.size:
            yield from _list_losses(scene)
    elif scene.quantity == "dx1" and len(scene.inputs) > 1 and scene.truth.shape == scene.inputs[0].shape != scene.dy.shape:
        yield from (apply("neg", root) for root in _list_losses(scene))
    elif scene.quantity.removeprefix("d") in scene.params and scene.y.shape == scene.inputs[0].shape:
        yield from _list_gains(scene)


def find_numbers(scene: Scene) -> list[float]:
    """Return the numbers of the formula, without 0."""
    return sorted({abs(c) for one in scene.operations for c in one.constants.values() if c})


def find_axes(scene: Scene) -> list[Axes]:
    """Return the axes over which the formula reduces, the last axis if it reduces over none."""
    found: list[Axes] = []
    for one in scene.operations:
        axis = one.options.get("axis")
        if isinstance(axis, int | tuple) and axis not in found:
            found.append(axis)
    return found or [-1]


def _total(value: Node, axis: Axes) -> Node:
    return apply("sum", value, axis=axis, keepdims=True)


def _mean(value: Node, axis: Axes) -> Node:
    return apply("mean", value, axis=axis, keepdims=True)


def _list_softmaxes(scene: Scene) -> Iterator[Node]:
    dy, y = Node("dy", value=scene.dy), Node("y", value=scene.y)
    for axis in find_axes(scene):
        yield y * (dy - _total(dy * y, axis))
        yield y * dy - y * _total(y * dy, axis)
        yield dy - apply("exp", y) * _total(dy, axis)


def _list_norms(scene: Scene) -> Iterator[Node]:
    """Yield the ways back through (x - mean(x)) / sqrt(var(x) + eps), x / sqrt(mean(x^2) + eps) and x / |x|."""
    x = Node("x", value=scene.inputs[0])
    for g in _list_cotangents(scene):
        for eps in (0.0, *find_numbers(scene)):
            for axis in find_axes(scene):
                yield from _center(x, g, axis, eps)
                yield from _scale(x, g, axis, eps)
            for name, value in _list_known(scene):
                yield g / apply("sqrt", Node(name, value=value) + eps)


def _list_cotangents(scene: Scene) -> Iterator[Node]:
    """Yield dy, and dy times each parameter or other input that may be a gain."""
    dy = Node("dy", value=scene.dy)
    yield dy
    for name, value in _list_known(scene):
        yield dy * Node(name, value=value)


def _list_known(scene: Scene) -> list[tuple[str, Array]]:
    """Return the parameters and the other inputs that are as wide as the truth or spread over it."""
    known = [*scene.params.items(), *((f"x{i}", value) for i, value in enumerate(scene.inputs) if i)]
    return [(name, value) for name, value in known if is_float(value) and value.size > 1 and _spreads(value, scene.truth.shape)]


def _spreads(value: Array, shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(value.shape, shape) == shape
    except ValueError:
        return False


def _center(x: Node, g: Node, axis: Axes, eps: float) -> Iterator[Node]:
    """Yield the short form, that with sums for means, that of c = x - mean(x), and that by dvar and dmean."""
    n = _count(x, axis)
    c = label(x - _mean(x, axis), "c")
    variance = label(_mean(c * c, axis), "var")
    root = label(apply("sqrt", variance + eps), "std")
    h = label(c / root, "h")
    yield (g - _mean(g, axis) - h * _mean(g * h, axis)) / root
    yield (n * g - _total(g, axis) - h * _total(g * h, axis)) / (n * root)
    yield (g - _mean(g, axis) - c * _mean(g * c, axis) / (variance + eps)) / root
    dvar = label(_total(g * c, axis) * number(-0.5) * Node("**", (variance + eps, number(-1.5))), "dvar")
    dmean = label(_total(number(-1) * g / root, axis), "dmean")
    yield g / root + dvar * number(2) * c / n + dmean / n


def _scale(x: Node, g: Node, axis: Axes, eps: float) -> Iterator[Node]:
    n = _count(x, axis)
    for inner, count in ((_mean(x * x, axis) + eps, n), (_total(x * x, axis) + eps, number(1))):
        root = label(apply("sqrt", inner), "size")
        h = label(x / root, "h")
        for total in (_mean, _total):
            yield (g - h * total(g * h, axis)) / root
        yield g / root - x * _total(g * x, axis) / (count * Node("**", (root, number(3))))
        yield g / root - x * _mean(g * x, axis) / Node("**", (root, number(3)))


def _count(x: Node, axis: Axes) -> Node:
    axes = axis if isinstance(axis, tuple) else (axis,)
    shape = np.shape(x.value)
    return number(float(np.prod([shape[one] for one in axes if -len(shape) <= one < len(shape)])))


def _list_gains(scene: Scene) -> Iterator[Node]:
    """Yield the gradients of the gain and the offset of a norm, of a gain without one, and of an offset."""
    dy, x = Node("dy", value=scene.dy), Node("x", value=scene.inputs[0])
    over = tuple(range(scene.dy.ndim - scene.truth.ndim)) if scene.truth.ndim < scene.dy.ndim else None
    if over is None or scene.dy.shape[len(over) :] != scene.truth.shape:
        spread = _find_reduced(scene)
        over = spread if spread is not None else over
    if over is None:
        return
    yield _gather(dy, over, scene)
    yield _gather(dy * x, over, scene)
    for eps in (0.0, *find_numbers(scene)):
        for axis in find_axes(scene):
            c = label(x - _mean(x, axis), "c")
            for top, inner in ((c, c * c), (x, x * x)):
                root = label(apply("sqrt", _mean(inner, axis) + eps), "std")
                yield _gather(dy * label(top / root, "h"), over, scene)


def _find_reduced(scene: Scene) -> tuple[int, ...] | None:
    """Return the axes of dy of which the parameter has but 1 or none, as the channels of a batch norm have it."""
    shape = scene.truth.shape
    if len(shape) == scene.dy.ndim:
        return tuple(axis for axis, size in enumerate(shape) if size == 1 < scene.dy.shape[axis]) or None
    return None


def _gather(value: Node, over: tuple[int, ...], scene: Scene) -> Node:
    """Return the sum over those axes in the shape of the truth."""
    shape = scene.truth.shape
    total = apply("sum", value, axis=over if len(over) != 1 else over[0], keepdims=True)
    return Node("", (total,), function=lambda found: np.reshape(found, shape))


def _list_losses(scene: Scene) -> Iterator[Node]:
    """Yield the gradients of means and sums of the usual losses, for each size that a mean may divide by."""
    dy = Node("dy", value=spread(scene.dy, scene.truth))
    errors = [*_list_pulls(scene), *_list_residuals(scene), *_list_margins(scene)]
    for size in [1, *dict.fromkeys(list_sizes(scene).values())]:
        for error in errors:
            yield error * dy / number(float(size))
            yield error / number(float(size)) * dy


def _list_pulls(scene: Scene) -> Iterator[Node]:
    """Yield p - q: the softmax or the sigmoid less what it should be, as labels, smoothed labels or as they were given."""
    x = Node("x0" if len(scene.inputs) > 1 else "x", value=scene.inputs[0])
    e = apply("exp", x)
    for axis in find_axes(scene):
        s = label(e / _total(e, axis), "softmax")
        for target in _list_targets(scene):
            yield s - target
    for target in _list_targets(scene):
        yield label(number(1) / (apply("exp", apply("neg", x)) + 1), "sigmoid") - target
        yield (x - target) / (x * (number(1) - x))


def _list_targets(scene: Scene) -> Iterator[Node]:
    """Yield the labels as rows of 0 and one 1, smoothed by each number of the formula, and inputs of the shape of x."""
    for i, value in enumerate(scene.inputs):
        if i and value.shape == scene.truth.shape:
            yield Node(f"x{i}", value=value.astype(np.float64))
        elif i and not is_float(value) and value.shape == scene.truth.shape[:-1]:
            classes = scene.truth.shape[-1]
            labels = Node("labels", value=(value[..., None] == np.arange(classes)).astype(np.float64))
            yield labels
            small = [one for one in find_numbers(scene) if one < 1]
            for amount in dict.fromkeys(round(one, 12) for low in small for one in (low, 1 - low)):
                smoothing, width = number(amount), number(classes)
                yield labels * (number(1) - smoothing) + smoothing / width
                yield labels * number(1 - amount) + number(amount / max(classes - 1, 1)) * (number(1) - labels)


def _list_residuals(scene: Scene) -> Iterator[Node]:
    """Yield what losses of x0 - x1 have as slopes: twice it, itself, its sign, itself within a limit and that beyond."""
    if len(scene.inputs) < 2 or scene.inputs[1].shape != scene.inputs[0].shape:
        return
    x, t = Node("x0", value=scene.inputs[0]), Node("x1", value=scene.inputs[1].astype(np.float64))
    r = x - t
    yield number(2) * r
    yield r
    yield apply("sign", r)
    for limit in [1.0, *find_numbers(scene)]:
        bound = number(limit)
        within = Node("<=", (apply("abs", r), bound))
        yield Node("where", (within, r, bound * apply("sign", r)))
        yield Node("where", (within, r / bound, apply("sign", r)))
        yield apply("neg", t) * Node("<", (t * x, bound))


def _list_margins(scene: Scene) -> Iterator[Node]:
    """Yield the slopes of a hinge over classes: 1 for each class within the margin, and minus their number at the label."""
    x = Node("x0" if len(scene.inputs) > 1 else "x", value=scene.inputs[0])
    labels = next((one for one in _list_targets(scene) if one.name == "labels"), None)
    if labels is None:
        return
    for margin in [1.0, *find_numbers(scene)]:
        inside = Node(">", (x - _total(x * labels, -1) + margin, number(0))) * (number(1) - labels)
        yield inside - labels * _total(inside, -1)
