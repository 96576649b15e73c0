"""`autograd.test_util.check_grads` of HIPS autograd: the hand-written layers go in as a primitive, its own answer goes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from harness.core import USUAL_DTYPES, Array
from harness.rivals.rival import Attempt, Rival, gradients_at, run_at, take_leaves


def fails_autograd(attempt: Attempt) -> bool:
    """Whether check_grads fails in reverse mode and first order, which is what a hand-written vjp has."""
    from autograd.test_util import check_grads

    flat = np.concatenate([value.ravel() for value in take_leaves(attempt.problem).values()])
    with _seeded(attempt.problem.case.seed):
        try:
            check_grads(_wrap(attempt), modes=["rev"], order=1)(flat)
        except AssertionError:
            return True
    return False


def _wrap(attempt: Attempt) -> Any:
    """Return the layers as a primitive function of one vector, which holds all leaves one behind the other."""
    from autograd.extend import defvjp, primitive

    def forward(flat: Array) -> Array:
        return np.asarray(run_at(attempt, _split(attempt, flat)).y)

    def pull(_: Any, flat: Array) -> Any:
        leaves = _split(attempt, flat)
        return lambda dy: np.concatenate([value.ravel() for value in gradients_at(attempt, leaves, dy).values()])

    hand_written = primitive(forward)
    defvjp(hand_written, pull)
    return hand_written


def _split(attempt: Attempt, flat: Array) -> dict[str, Array]:
    leaves = take_leaves(attempt.problem)
    ends = np.cumsum([value.size for value in leaves.values()])[:-1]
    return {name: part.reshape(leaves[name].shape) for name, part in zip(leaves, np.split(flat, ends), strict=True)}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which the tool draws its directions, and put it back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


RIVALS = (
    Rival(
        "autograd", "autograd", "autograd", "autograd.test_util.check_grads on the layers", fails_autograd,
        USUAL_DTYPES, against_itself=True,
    ),
)  # fmt: skip
