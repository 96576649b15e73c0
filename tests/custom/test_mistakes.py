"""Right gradients with one mistake each come in; that the mistake is named, in its own words, must hold."""

from __future__ import annotations

import numpy as np
import pytest

from harness.custom.diagnose import _name
from harness.custom.expressions import Expression
from harness.custom.faults import CAUSES
from harness.custom.forms import Form
from harness.custom.mistakes import list_mistakes
from harness.custom.textbook import list_textbook
from harness.isolation import quiet
from tests.custom import formulas as f


def soften(scene):
    return scene.dy, scene.y


def normalize(scene, axis=-1, eps=1e-3):
    x = scene.inputs[0]
    c = x - x.mean(axis, keepdims=True)
    std = np.sqrt((c * c).mean(axis, keepdims=True) + eps)
    g = scene.dy * scene.params.get("g", 1.0)
    return g, c, std, c / std


def norm(change):
    """Return a gradient of the layer norm, made of the terms that `change` gives for g, h, c and std."""

    def run(scene):
        g, c, std, h = normalize(scene)
        return change(g, h, c, std, lambda value: value.mean(-1, keepdims=True))

    return run


def pull(scene):
    x, t = scene.inputs
    e = np.exp(x)
    return e / e.sum(1, keepdims=True), np.eye(x.shape[1])[t], scene.dy / len(x)


SOFTMAX = f.make_spec(f.softmax, [(6, 4)])
NORM = f.make_spec(f.layer_norm, [(6, 4)], f.GAINS)
CROSS = f.make_spec(f.cross_entropy, f.draw_labels)
SMOOTH = f.make_spec(f.smoothed, f.draw_labels)
HUBER = f.make_spec(f.huber, [(6, 4), (6, 4)])
RECURRENT = f.make_spec(f.recurrent, [(5, 3, 4)], {**f.SQUARES, "b": f.GAINS["b"]})


def softmax_term(change):
    def run(scene):
        dy, y = soften(scene)
        return change(dy, y, (dy * y).sum(-1, keepdims=True))

    return run


def cross(change):
    return lambda scene: change(*pull(scene))


def huber(change):
    def run(scene):
        r = scene.inputs[0] - scene.inputs[1]
        return change(r) * scene.dy / r.size

    return run


def carry_back(slope, carry=lambda da, W: da @ W.T):
    """Return dU of a recurrent layer, with another slope or another way back to the state before."""

    def run(scene):
        x, (U, W, b) = scene.inputs[0], (scene.params[name] for name in ("U", "W", "b"))
        states = [np.zeros_like(x[:, 0])]
        for t in range(3):
            states.append(np.tanh(x[:, t] @ U + states[-1] @ W + b))
        dU, dh = np.zeros_like(U), scene.dy
        for t in (2, 1, 0):
            da = dh * slope(states[t + 1])
            dU += x[:, t].T @ da
            dh = carry(da, W)
        return dU

    return run


CASES = [
    (SOFTMAX, "dx", softmax_term(lambda dy, y, s: y * (dy + s)), "sign", "the term sum(dy * y, axis=-1) has the wrong sign"),
    (SOFTMAX, "dx", softmax_term(lambda dy, y, s: dy - s), "missing-factor", "the factor y is missing"),
    (SOFTMAX, "dx", softmax_term(lambda dy, y, s: y * (dy - s / 4)), "size-factor", "a mean is taken for sum(dy * y"),
    (SOFTMAX, "dx", softmax_term(lambda dy, y, s: y * (dy - dy.mean(-1)[:, None])), "missing-factor", "is a plain mean, not"),
    (SOFTMAX, "dx", softmax_term(lambda dy, y, s: y * (dy - 0.3 * s)), "factor", "0.3 times what it should be"),
    (SOFTMAX, "dx", softmax_term(lambda dy, y, s: y * (dy - (dy * y).sum(0))), "wrong-axis", "runs over axis 0"),
    (SOFTMAX, "dx", softmax_term(lambda dy, y, s: y * dy * (1 - y)), "diagonal-only", "only the diagonal of the Jacobian"),
    (NORM, "dx", norm(lambda g, h, c, s, m: (g - m(g) - c * m(g * h)) / s), "missing-factor", "h lacks std"),
    (NORM, "dx", norm(lambda g, h, c, s, m: (g - m(g) + h * m(g * h)) / s), "sign", "the term h * mean(dy * g * h"),
    (NORM, "dx", norm(lambda g, h, c, s, m: (g - m(g) - h * m(g * h)) / s**2), "extra-factor", "the factor std is there twice"),
    (NORM, "dx", norm(lambda g, h, c, s, m: (g - m(g) - 2 * h * m(g * h)) / s), "factor", "-1 instead of -0.5"),
    (NORM, "dx", norm(lambda g, h, c, s, m: (g - 4 * m(g) - h * m(g * h)) / s), "size-factor", "a sum is taken for mean"),
    (NORM, "dx", lambda scene: norm_by(scene, 2e-2), "constant", "0.02 instead of 0.001"),
    (NORM, "dg", lambda scene: (scene.dy * normalize(scene)[1]).sum(0), "missing-factor", "the factor std is missing"),
    (CROSS, "dx", cross(lambda p, q, w: (p + q) * w), "sign", "the term labels has the wrong sign"),
    (CROSS, "dx", cross(lambda p, q, w: p * w), "missing-term", "the term labels is missing"),
    (CROSS, "dx", cross(lambda p, q, w: (p - np.roll(q, 1, 1)) * w), "order", "the labels are off by 1"),
    (CROSS, "dx", cross(lambda p, q, w: (p.astype(np.float16) - q) * w), "cast", "is cast to float16"),
    (SMOOTH, "dx", cross(lambda p, q, w: (p - q * 0.8 - 0.05) * w), "constant", "0.2 instead of 0.1"),
    (HUBER, "dx0", huber(lambda r: np.where(np.abs(r) <= 1.4, r, 0.7 * np.sign(r))), "mask", "1.4 for 0.7"),
    (HUBER, "dx0", huber(lambda r: np.where(np.abs(r) <= 0.7, r, np.sign(r))), "missing-factor", "1 instead of 0.7"),
    (HUBER, "dx0", huber(lambda r: np.where(np.abs(r) <= 0.7, r, 0.8 * np.sign(r))), "constant", "0.8 instead of 0.7"),
    (HUBER, "dx0", huber(lambda r: np.where(r <= 0.7, r, 0.7 * np.sign(r))), "mask", "takes x0 - x1 for abs(x0 - x1)"),
    (HUBER, "dx0", huber(lambda r: np.where(np.abs(r) <= 0.7, r, 0.7)), "sign", "the factor sign(x0 - x1) is missing"),
    (RECURRENT, "dU", carry_back(lambda h: 1 + h * h), "sign", "has the wrong sign"),
    (RECURRENT, "dU", carry_back(lambda h: np.ones_like(h)), "missing-factor", "in 3 places of the derivative"),
    (RECURRENT, "dU", carry_back(lambda h: 1 - h * h, lambda da, W: da @ W), "transposed", "W.T is transposed"),
    (RECURRENT, "dU", carry_back(lambda h: 1 - h * h, lambda da, W: 0.5 * da @ W.T), "factor", "multiplied by 0.5"),
    (RECURRENT, "dU", carry_back(lambda h: 1 - h * h, lambda da, W: da), "missing-factor", "the factor W.T is missing"),
]  # fmt: skip


def norm_by(scene, eps):
    g, _, std, h = normalize(scene, eps=eps)
    return (g - g.mean(-1, keepdims=True) - h * (g * h).mean(-1, keepdims=True)) / std


@pytest.mark.parametrize(("spec", "quantity", "wrong", "cause", "words"), CASES, ids=[f"{case[-2]} {case[-1]}" for case in CASES])
def test_a_mistake_is_named_in_its_own_words(spec, quantity, wrong, cause, words):
    with quiet():
        found = _name([f.make_scene(spec, quantity, wrong)])
    assert (found.cause, words in found.words) == (cause, True), found


@pytest.mark.parametrize("spec", [SOFTMAX, NORM, CROSS, HUBER], ids=["softmax", "norm", "cross entropy", "huber"])
def test_mistakes_have_causes_that_are_agreed_and_change_the_gradient(spec):
    scene = f.make_scene(spec, "dx0" if spec is HUBER else "dx")
    forms = [form for root in list_textbook(scene) if (form := Form("", scene, Expression(root))).is_true]
    found = list(list_mistakes(forms[:1]))
    assert len({fault.cause for fault in found}) > 6
    assert {fault.cause for fault in found} <= set(CAUSES)
    changed = [fault for fault in found if not np.allclose(fault.gradient, scene.truth, rtol=1e-12, atol=0)]
    assert len(changed) > 0.5 * len(found)


@pytest.mark.parametrize("quantity", ["dx", "dg"])
def test_what_no_mistake_explains_is_explained_by_none(quantity):
    ripple = f.make_scene(
        NORM, quantity, lambda scene: scene.truth * (1 + 0.1 * np.sin(7 * np.arange(scene.truth.size))).reshape(scene.truth.shape)
    )
    with quiet():
        assert not _name([ripple]).cause
