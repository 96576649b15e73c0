"""The contract backward_twice: a second backward pass behind one forward pass gives what the first gave."""

from __future__ import annotations

from harness.custom.contracts.comparing import list_parted, say
from harness.custom.contracts.contract import Contract
from harness.custom.contracts.subject import Subject, go_back, run_pass


def find_used_up(subject: Subject) -> str:
    """Compare the two backward passes, bit by bit."""
    layer = subject.make()
    first = run_pass(layer, subject.inputs, subject.dy)
    again = go_back(layer, first.y, subject.dy)
    words = "a second backward pass behind the same forward pass gave other numbers than the first"
    return say(list_parted(first, again), words)


CONTRACTS = (
    Contract(
        "backward_twice", "passes", "gradients that add up, or a cache that is used up, are wrong the second time", find_used_up
    ),
)
