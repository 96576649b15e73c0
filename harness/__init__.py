"""Judges hand-written backward passes against what rounding can do, side by side with automatic differentiation."""

__version__ = "0.1.0"
