"""Comparing with torch autograd: the layers' results and torch's come in, whether a close-enough rule fails goes out.

The commonest test of a hand-written backward pass: compute the same in torch, in the same dtype, and ask whether all
numbers are close. The tolerances are the defaults of each function, read from the function where it holds them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from harness.core import Array
from harness.rivals.rival import Attempt, Rival, check_reference, name_results


def _differs(attempt: Attempt, rule: str, close: Callable[[Array, Array], bool]) -> bool:
    """Whether any result is missing, or has another shape or dtype, or is not close to torch's."""
    check_reference(rule, attempt)
    ours, theirs = name_results(attempt.outcome), name_results(attempt.reference)
    for name in {**theirs, **ours}:
        if ours.get(name) is None:
            return True
        got = np.asarray(ours[name])
        expected = np.asarray(theirs.get(name, np.zeros_like(got)))  # torch leaves out what reaches no output
        if got.shape != expected.shape or got.dtype != expected.dtype or not close(got, expected):
            return True
    return False


def _widen(value: Array) -> Array:
    """Return narrow floats in float32, in which NumPy's functions know them; others as they are."""
    return value.astype(np.float32) if value.dtype.itemsize < np.dtype(np.float32).itemsize else value


def fails_allclose(attempt: Attempt) -> bool:
    """Whether `numpy.allclose` fails: rtol 1e-5 and atol 1e-8 in every dtype."""
    return _differs(attempt, "allclose", lambda a, b: bool(np.allclose(_widen(a), _widen(b))))


def fails_assert_close(attempt: Attempt) -> bool:
    """Whether `torch.testing.assert_close` fails, whose tolerances go by the dtype."""
    torch = import_module("torch")

    def close(a: Array, b: Array) -> bool:
        try:
            torch.testing.assert_close(_tensor(torch, a), _tensor(torch, b))
        except AssertionError:
            return False
        return True

    return _differs(attempt, "assert_close", close)


def fails_gradcheck_rule(attempt: Attempt) -> bool:
    """Whether gradcheck's tolerances fail on the gradients, torch's in the place of the differences that it would take."""
    gradcheck = inspect.signature(import_module("torch").autograd.gradcheck).parameters
    rtol, atol = gradcheck["rtol"].default, gradcheck["atol"].default
    return _differs(attempt, "gradcheck", lambda a, b: bool(np.allclose(_widen(a), _widen(b), rtol=rtol, atol=atol)))


def _tensor(torch: Any, value: Array) -> Any:
    """Return the array as a tensor of its own dtype, bfloat16 among them."""
    return torch.tensor(_widen(value)).to(getattr(torch, str(value.dtype)))


RIVALS = (
    Rival("allclose", "allclose", "torch", "np.allclose with torch's gradients", fails_allclose),
    Rival("assert_close", "assert_close", "torch", "torch.testing.assert_close with torch's gradients", fails_assert_close),
    Rival("gradcheck-rule", "gradcheck", "torch", "gradcheck's tolerances with torch's gradients", fails_gradcheck_rule),
)
