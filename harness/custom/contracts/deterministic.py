"""The contract deterministic: the same layer on the same arrays gives the same numbers."""

from __future__ import annotations

from harness.custom.contracts.comparing import list_parted, say
from harness.custom.contracts.contract import Contract
from harness.custom.contracts.subject import Subject


def find_random(subject: Subject) -> str:
    """Compare two fresh layers, bit by bit."""
    return say(list_parted(subject.alone, subject.run()), "two fresh layers on the same arrays gave different numbers")


CONTRACTS = (Contract("deterministic", "passes", "what cannot be repeated cannot be checked, nor trained twice", find_random),)
