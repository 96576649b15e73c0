"""`jax.test_util.check_grads`: the hand-written layers go in, its own answer goes out.

Its check of a vjp takes any function with its vjp, so that it is asked directly on networks of any size; the whole
tool, on a `jax.custom_vjp` that calls back, gives the same answer and is asked on small ones.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from harness.backends.jax_grad import wide_types
from harness.core import Array
from harness.rivals.rival import Attempt, LayerFailed, Rival, gradients_at, run_at, take_leaves

MOST_NUMBERS = 500


def fails_check_vjp(attempt: Attempt) -> bool:
    """Whether `jax.test_util.check_vjp`, which check_grads runs in reverse mode, fails with its tolerances by dtype."""

    def run(leaves: dict[str, Array]) -> Array:
        return np.asarray(run_at(attempt, leaves).y)

    def run_vjp(leaves: dict[str, Array]) -> Any:
        return run(leaves), lambda dy: (gradients_at(attempt, leaves, dy),)

    check = import_module("jax.test_util").check_vjp
    with wide_types(True):
        return _fails(lambda: check(run, run_vjp, (take_leaves(attempt.problem),)))


def fails_check_grads(attempt: Attempt) -> bool:
    """Whether `jax.test_util.check_grads` fails in reverse mode, the only one that a hand-written vjp has."""
    jax = import_module("jax")
    check = import_module("jax.test_util").check_grads
    failures: list[LayerFailed] = []
    with wide_types(True):
        function = _wrap(jax, attempt, failures)
        leaves = {name: jax.numpy.asarray(value) for name, value in take_leaves(attempt.problem).items()}
        fails = _fails(lambda: check(function, (leaves,), order=1, modes=("rev",)))
    if failures:
        raise failures[0]
    return fails


def _wrap(jax: Any, attempt: Attempt, failures: list[LayerFailed]) -> Any:
    """Return the layers as a function of JAX arrays whose vjp is the hand-written one, called back on the host.

    What the layers raise there goes to `failures`, for JAX would log it and raise an error of its own.
    """
    y, leaves = np.asarray(attempt.outcome.y), take_leaves(attempt.problem)

    def answer(given: Any) -> Any:
        return np.asarray(run_at(attempt, _read(given)).y)

    def pull(given: Any, dy: Any) -> Any:
        return _check_dtypes(gradients_at(attempt, _read(given), np.asarray(dy)), leaves)

    def call(function: Any, shaped: Any, *arguments: Any) -> Any:
        return jax.pure_callback(partial(_try, function, shaped, failures), _describe(jax, shaped), *arguments)

    def forward(given: Any) -> Any:
        return call(answer, y, given)

    hand_written = jax.custom_vjp(forward)
    hand_written.defvjp(lambda given: (forward(given), given), lambda given, dy: (call(pull, leaves, given, dy),))
    return hand_written


def _try(function: Any, otherwise: Any, failures: list[LayerFailed], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except LayerFailed as failed:
        failures.append(failed)
        return otherwise


def _read(leaves: Any) -> dict[str, Array]:
    return {name: np.asarray(value) for name, value in leaves.items()}


def _check_dtypes(gradients: dict[str, Array], leaves: dict[str, Array]) -> dict[str, Array]:
    """Return the gradients. Raises LayerFailed where one has another dtype than its leaf, which a callback may not return."""
    for name, value in gradients.items():
        if value.dtype != leaves[name].dtype:
            raise LayerFailed(f"the gradient of {name} is {value.dtype}")
    return gradients


def _describe(jax: Any, arrays: Any) -> Any:
    """Return the shapes and dtypes of an array, or of each of several by name."""
    if isinstance(arrays, dict):
        return {name: _describe(jax, value) for name, value in arrays.items()}
    return jax.ShapeDtypeStruct(arrays.shape, arrays.dtype)


def _fails(check: Any) -> bool:
    try:
        check()
    except AssertionError:
        return True
    return False


RIVALS = (
    Rival("check_grads-rule", "check_grads", "jax", "jax.test_util.check_vjp on the layers", fails_check_vjp,
          against_itself=True),
    Rival(
        "check_grads", "check_grads", "jax", "jax.test_util.check_grads on a custom_vjp of the layers", fails_check_grads,
        most=MOST_NUMBERS, against_itself=True,
    ),
)  # fmt: skip
