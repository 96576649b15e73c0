"""`harness train`: settings come in, one network is trained in every framework, the trajectories go out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.commands.console import CONFORMS, MISMATCH, say


def train(
    *,
    seed: int = 0,
    steps: int = 600,
    dtype: Literal["float32", "float64"] = "float32",
    out: Path = Path("reports/latest"),
    least: float = 0.92,
) -> int:
    """Train one network on handwritten digits in NumPy, torch and JAX from the same weights, and compare the trajectories.

    Parameters
    ----------
    seed
        The seed of the weights and batches.
    steps
        Steps of gradient descent.
    dtype
        The precision of the training.
    out
        The folder that gets `training.csv`, a run folder or a new one.
    least
        The test accuracy that each framework must reach.
    """
    from harness.training import train as run_training

    training = run_training(seed=seed, steps=steps, dtype=dtype)
    out.mkdir(parents=True, exist_ok=True)
    training.frame().to_csv(out / "training.csv", index=False)
    for name, accuracy in training.accuracies.items():
        apart = "" if name == "numpy" else f", within what rounding explains: {'yes' if training.within[name] else 'NO'}"
        say(f"{name}: test accuracy {accuracy:.1%}{apart}")
    for name in training.missing:
        say(f"[yellow]{name} is not installed and was not trained[/]", error=True)
    good = all(accuracy >= least for accuracy in training.accuracies.values()) and all(training.within.values())
    return CONFORMS if good else MISMATCH
