"""Known faults: a scene comes in, predictions of what each mistake would have given go out; one module is one family."""

from __future__ import annotations

CAUSES = (
    "zero", "swapped", "identity", "sign", "factor", "size-factor", "transposed", "order", "wrong-axis", "missing-term",
    "missing-factor", "extra-factor", "dropped-row", "one-element", "one-slice", "mask", "at-output", "at-input",
    "cotangent-ignored", "cotangent-changed", "clipped", "diagonal-only", "stale-cache", "accumulated", "cast", "constant",
    "aliasing/mutation", "nondeterministic", "shape", "raises",
)  # fmt: skip
